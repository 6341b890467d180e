use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a replica can be called: it has a certificate to serve. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Whether it can be called. What has come once stays: a replica that cannot reach the API server is still as good as
    /// the others. Whom API servers trust does not count: that is the same for all replicas, and somebody who removes the
    /// ValidatingWebhookConfiguration to be let alone must not lose the controller with it.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn reached(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
