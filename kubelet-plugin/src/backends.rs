//! Whose accelerators the agent can serve: a row each, and nothing else about a vendor is said in this crate.

use std::sync::Arc;

use tessera_driver::nvidia::{self, Nvidia, NvidiaWorkbench, Session};
use tessera_driver::tpu::{NodeLabels, Tpu};
use tessera_driver::{Backend, NoWork, Root, Workbench};
use tessera_vocabulary::{DriverName, ExtendedResources};

use crate::cli::HardwareOptions;

/// Every backend, in the order in which their devices are printed.
const BACKENDS: &[Row] = &[
    Row {
        word: "nvidia",
        name: |options| &options.nvidia_driver_name,
        open: nvidia_gpus,
        resources: ExtendedResources::NVIDIA,
        reads_labels: false,
        features: Some(nvidia::is_on_the_bus),
    },
    Row {
        word: "tpu",
        name: |options| &options.tpu.tpu_driver_name,
        open: tpu,
        resources: ExtendedResources::GOOGLE,
        reads_labels: true,
        // GKE itself labels nodes with TPUs.
        features: None,
    },
];

/// One family of accelerators, which has a DRA driver of its own.
#[derive(Debug)]
pub(crate) struct Row {
    /// The word for it in flags.
    word: &'static str,
    /// The name of its DRA driver.
    name: fn(&HardwareOptions) -> &DriverName,
    /// The ways to the hardware.
    open: fn(&HardwareOptions, &NodeLabels) -> Ways,
    /// What its devices are called by those who ask without a claim.
    pub(crate) resources: ExtendedResources,
    /// Whether the labels of the node tell it something.
    pub(crate) reads_labels: bool,
    /// Where its vendor's own plugin tells pods by labels what a node has: whether a node has anything of it.
    pub(crate) features: Option<fn(&Root) -> bool>,
}

/// The ways to one family's hardware. Nothing was touched on them yet.
pub(crate) struct Ways {
    /// By which it is found.
    pub(crate) backend: Box<dyn Backend>,
    /// By which it is changed.
    pub(crate) workbench: Arc<dyn Workbench>,
}

impl Row {
    /// The name of its DRA driver.
    pub(crate) fn name(&self, options: &HardwareOptions) -> DriverName {
        (self.name)(options).clone()
    }

    /// The ways to the hardware.
    pub(crate) fn open(&self, options: &HardwareOptions, labels: &NodeLabels) -> Ways {
        (self.open)(options, labels)
    }
}

fn nvidia_gpus(options: &HardwareOptions, _: &NodeLabels) -> Ways {
    let session = Session::new(options.nvidia_driver_root());
    Ways {
        backend: Box::new(Nvidia::new(options.root(), session.clone())),
        workbench: Arc::new(NvidiaWorkbench::new(options.root(), session)),
    }
}

fn tpu(options: &HardwareOptions, labels: &NodeLabels) -> Ways {
    let backend = Tpu::new(options.root(), options.tpu_settings(), labels.clone());
    Ways { backend: Box::new(backend), workbench: Arc::new(NoWork) }
}

/// The words for all of them.
pub(crate) fn words() -> impl Iterator<Item = &'static str> {
    BACKENDS.iter().map(|row| row.word)
}

/// Those that `--drivers` chooses.
///
/// # Errors
/// When two of them would have one name: sockets, records and slices follow it.
pub(crate) fn chosen(options: &HardwareOptions) -> anyhow::Result<Vec<&'static Row>> {
    let is_chosen = |row: &&Row| options.drivers.is_empty() || options.drivers.iter().any(|word| word == row.word);
    let rows: Vec<_> = BACKENDS.iter().filter(is_chosen).collect();
    for (index, row) in rows.iter().enumerate() {
        if let Some(other) = rows[..index].iter().find(|other| other.name(options) == row.name(options)) {
            anyhow::bail!(
                "--{}-driver-name and --{}-driver-name are both {}; each driver needs a name of its own",
                other.word,
                row.word,
                row.name(options)
            );
        }
    }
    Ok(rows)
}
