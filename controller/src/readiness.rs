use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether this replica does what it should; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicU8>);

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
    pub(crate) fn set(&self, role: Role) {
        self.0.store(role as u8, Ordering::Relaxed);
    }

    pub(crate) fn role(&self) -> Role {
        [Role::Starting, Role::Waiting, Role::Leading]
            .into_iter()
            .find(|role| *role as u8 == self.0.load(Ordering::Relaxed))
            .unwrap_or(Role::Starting)
    }

    /// One that waits is ready: it takes over as soon as it has to.
    pub(crate) fn is_ready(&self) -> bool {
        self.role() != Role::Starting
    }
}
