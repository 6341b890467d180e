use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use tessera_nvml::Library;
use tessera_vocabulary::PciAddress;

use super::driver_files::{NVML, find_nvml};
use crate::{DiscoveryError, Root};

/// NVML, opened once for all who use it. Clones share it.
#[derive(Clone)]
pub struct Session {
    driver_root: Root,
    open: Arc<RwLock<Option<Open>>>,
}

/// NVML and the GPUs that were on the bus when it was opened: NVML counts GPUs only then.
struct Open {
    library: Library,
    on_the_bus: BTreeSet<PciAddress>,
}

impl Session {
    /// NVML of the driver below this root. Touches nothing yet.
    pub fn new(driver_root: Root) -> Self {
        Self { driver_root, open: Arc::default() }
    }

    /// Whether there is an NVML to open.
    pub(super) fn is_installed(&self) -> bool {
        find_nvml(&self.driver_root).is_some()
    }

    /// Does something that NVML stands in the way of, since it has every GPU's node open: closes it, and keeps it closed
    /// until then. What takes long is not to be done so: everybody waits.
    pub(super) fn without<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.take();
        work()
    }

    /// Works with NVML; opens it where it is not open. Several may at once.
    pub(super) fn with<T, E: From<DiscoveryError>>(
        &self,
        on_the_bus: &BTreeSet<PciAddress>,
        work: impl FnOnce(&Library) -> Result<T, E>,
    ) -> Result<T, E> {
        loop {
            if let Some(open) = &*self.open.read().unwrap_or_else(PoisonError::into_inner) {
                return work(&open.library);
            }
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            if open.is_none() {
                *open = Some(Open { library: self.load()?, on_the_bus: on_the_bus.clone() });
            }
        }
    }

    /// Closes NVML if other GPUs are on the bus than when it was opened.
    pub(super) fn close_unless(&self, on_the_bus: &BTreeSet<PciAddress>) {
        let stale = |open: &Open| open.on_the_bus != *on_the_bus;
        if self.open.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(stale) {
            self.close();
        }
    }

    /// Closes NVML when nobody uses it any more: it is opened anew for the next who does. After errors, since a driver
    /// that was reloaded is found that way.
    pub(super) fn close(&self) {
        self.open.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn load(&self) -> Result<Library, DiscoveryError> {
        let path = find_nvml(&self.driver_root).ok_or_else(|| DiscoveryError::NoDriver {
            library: NVML,
            root: self.driver_root.seen_by_agent("/").display().to_string(),
        })?;
        Ok(Library::open(&path)?)
    }
}
