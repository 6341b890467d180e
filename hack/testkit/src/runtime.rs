use tokio::runtime::{Builder, Runtime};

use crate::PATIENCE;

/// A runtime for one server.
pub(crate) fn begin() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Ends a server with its runtime: once this returns, nothing of it listens or answers any more.
pub(crate) fn end(runtime: Runtime) {
    // On a thread that is no test's: an async one must not wait for a runtime.
    let ending = std::thread::spawn(move || runtime.shutdown_timeout(PATIENCE));
    ending.join().expect("the end of a server");
}
