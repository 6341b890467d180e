//! Boots the kernel of a simulated machine and keeps it at work until it is told to end.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;
use simulated_hardware::PciAddress;
use simulated_sysfs::{Added, Mounted, Setup};

/// Makes the sysfs of a simulated machine live: drivers can be bound and unbound in it.
#[derive(Debug, Parser)]
struct Options {
    /// The machine's root directory.
    root: PathBuf,
    /// The IOMMU is off.
    #[arg(long)]
    no_iommu: bool,
    /// VFIO has no groups, as with CONFIG_VFIO_GROUP unset.
    #[arg(long)]
    no_legacy: bool,
    /// VFIO has no devices for iommufd, as with CONFIG_VFIO_DEVICE_CDEV unset.
    #[arg(long)]
    no_iommufd: bool,
    /// A GPU that has an audio function beside it.
    #[arg(long, value_name = "GPU")]
    audio: Vec<PciAddress>,
    /// A function that shares the IOMMU group of another: FUNCTION=OTHER.
    #[arg(long, value_name = "FUNCTION=OTHER")]
    group: Vec<String>,
    /// A driver whose module is not loaded.
    #[arg(long, value_name = "DRIVER")]
    unloaded: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let (mut told, teller) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM] {
        pipe::register(signal, teller.try_clone()?)?;
    }
    let kernel = Mounted::boot(&options.root, setup(&options)?)?;
    println!("{} lives", kernel.root().join("sys").display());
    // A byte comes with the signal.
    told.read_exact(&mut [0])?;
    Ok(())
}

fn setup(options: &Options) -> Result<Setup> {
    let mut setup = Setup {
        iommu: !options.no_iommu,
        legacy: !options.no_legacy,
        iommufd: !options.no_iommufd,
        functions: options.audio.iter().copied().map(Added::audio_of).collect(),
        ..Setup::default()
    };
    for words in &options.group {
        let (function, other) = words.split_once('=').with_context(|| format!("{words}: no FUNCTION=OTHER"))?;
        let address = |text: &str| text.parse::<PciAddress>().map_err(anyhow::Error::msg);
        setup.grouped_with.insert(address(function)?, address(other)?);
    }
    for name in &options.unloaded {
        let Some(driver) = setup.driver(name) else { bail!("{name} is no driver of this kernel") };
        driver.loaded = false;
    }
    Ok(setup)
}
