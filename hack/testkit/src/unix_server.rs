use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Router;

use crate::runtime;

/// A gRPC server on a unix socket. It has a runtime of its own, so that its end is also that of every connection; the
/// socket's file stays, as after the end of a process.
pub(crate) struct UnixServer(Option<Runtime>);

impl UnixServer {
    /// Serves in the place of what an earlier server left.
    pub(crate) fn start(socket: &Path, router: Router) -> Self {
        fs::create_dir_all(socket.parent().expect("a socket lies in a directory")).expect("the socket's directory");
        remove(socket);
        let runtime = runtime::begin();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).expect("a socket to serve")
        };
        runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
        Self(Some(runtime))
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime::end(runtime);
        }
    }
}

/// Removes a socket if it is there.
pub(crate) fn remove(socket: &Path) {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{}: {error}", socket.display()),
        _ => {}
    }
}
