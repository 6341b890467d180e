//! The machines that are measured on.

use std::fmt::Write;

use anyhow::Result;
use simulated_hardware::Profile;

/// Which simulated hardware a node has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hardware {
    /// Eight H100s, as they are sold.
    Dgx,
    /// Sixteen H100s.
    Sixteen,
    /// A machine that does not exist: as many GPUs as the simulated driver takes.
    ManyGpus,
}

impl Hardware {
    pub(crate) fn profile(self) -> Result<Profile> {
        match self {
            Self::Dgx => Ok(Profile::named(DGX)?),
            Self::Sixteen => Ok(Profile::named("h100x16")?),
            Self::ManyGpus => many_gpus(),
        }
    }

    /// Where it lies on a real node, below the cluster's run directory.
    pub(crate) fn directory(self) -> &'static str {
        match self {
            Self::Dgx => "hardware",
            Self::Sixteen => "hardware-sixteen",
            Self::ManyGpus => "hardware-many",
        }
    }
}

/// The profile of [`Hardware::Dgx`].
pub(crate) const DGX: &str = "dgx-h100";

/// The simulated driver numbers its device nodes from 0 to 31.
pub(crate) const GPUS: usize = 32;

/// A profile with [`GPUS`] H100s, each behind a root of its own.
fn many_gpus() -> Result<Profile> {
    let mut text =
        String::from("[driver]\nversion = \"550.163.01\"\ncuda = \"12.4\"\n[[numa_node]]\nnode = 0\ncpus = \"0-63\"\n");
    for number in 0..GPUS {
        let root = 0x10 + 4 * number;
        write!(
            text,
            "[[gpu]]\nmodel = \"h100-sxm5-80gb\"\npci = \"0000:{gpu:02x}:00.0\"\nroot = \"pci0000:{root:02x}\"\n\
             bridges = [\"0000:{root:02x}:01.0\"]\nnuma_node = 0\nuuid = \"GPU-00000000-0000-4000-8000-{number:012x}\"\n",
            gpu = root + 1,
        )?;
    }
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("many.toml");
    std::fs::write(&path, text)?;
    Ok(Profile::load(&path)?)
}
