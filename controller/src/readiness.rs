use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether this replica does what it should; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    role: Arc<AtomicU8>,
    /// Whether the admission webhook can be called, where it is served.
    admission: Option<tessera_admission::Readiness>,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has not read the lease yet.
    Starting,
    /// Another one leads.
    Waiting,
    /// It leads.
    Leading,
}

impl Readiness {
    pub(crate) fn new(admission: Option<tessera_admission::Readiness>) -> Self {
        Self { admission, ..Self::default() }
    }

    pub(crate) fn set(&self, role: Role) {
        self.role.store(role as u8, Ordering::Relaxed);
    }

    pub(crate) fn role(&self) -> Role {
        [Role::Starting, Role::Waiting, Role::Leading]
            .into_iter()
            .find(|role| *role as u8 == self.role.load(Ordering::Relaxed))
            .unwrap_or(Role::Starting)
    }

    /// Whether the admission webhook has a certificate, or is not served.
    pub(crate) fn judges(&self) -> bool {
        self.admission.as_ref().is_none_or(tessera_admission::Readiness::is_ready)
    }

    /// One that waits is ready: it takes over as soon as it has to.
    pub(crate) fn is_ready(&self) -> bool {
        self.role() != Role::Starting && self.judges()
    }
}
