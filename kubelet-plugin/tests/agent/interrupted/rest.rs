use std::collections::BTreeMap;
use std::fs;

use simulated_hardware::Mig;
use testkit::Node;

/// What work on the hardware changes, and must be what it was once all is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// How each GPU is cut.
    mig: Vec<Mig>,
    /// The driver that has each function of the bus, and the one that alone may have it.
    drivers: BTreeMap<String, [Option<String>; 2]>,
}

impl Rest {
    pub(super) fn of(node: &Node) -> Self {
        let gpus = node.machine().hardware().unwrap().gpus;
        let functions = fs::read_dir(node.root().join("sys/bus/pci/devices")).unwrap().map(|entry| entry.unwrap());
        let drivers = functions.map(|function| {
            let driver = fs::read_link(function.path().join("driver")).ok();
            let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
            let chosen = fs::read_to_string(function.path().join("driver_override")).ok();
            (function.file_name().to_string_lossy().into_owned(), [driver, chosen])
        });
        Self { mig: gpus.into_iter().map(|gpu| gpu.mig).collect(), drivers: drivers.collect() }
    }

    /// The same, as if every GPU were in the mode in which it is a whole.
    pub(super) fn without_modes(&self) -> Self {
        let off = |mig: &Mig| Mig { mode: false, pending: false, ..mig.clone() };
        Self { mig: self.mig.iter().map(off).collect(), ..self.clone() }
    }
}
