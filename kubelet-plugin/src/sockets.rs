//! The unix sockets that the kubelet dials.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use futures::{Stream, StreamExt, future};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tracing::warn;

/// A kernel's limit: `sun_path` without its final NUL.
pub(crate) const PATH_BYTES: usize = 107;

/// A socket that is removed when dropped. For the registration socket that means: deregistered.
pub(crate) struct Socket {
    path: PathBuf,
    /// Which file it is: another agent may have put its own in the place.
    file: Option<(u64, u64)>,
    listener: Option<UnixListener>,
}

/// A socket that could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("socket path {} has {} bytes, and {PATH_BYTES} is the most; use a shorter --kubelet-dir", .0.display(), .0.as_os_str().len())]
    TooLong(PathBuf),
    #[error("{} exists and is no socket; remove it", .0.display())]
    Occupied(PathBuf),
    #[error("socket {}: {source}", path.display())]
    Bind { path: PathBuf, source: io::Error },
}

impl Socket {
    /// Makes a socket that root alone may connect to, in the place of one that an earlier agent left.
    pub(crate) fn bind(path: PathBuf) -> Result<Self, SocketError> {
        if path.as_os_str().len() > PATH_BYTES {
            return Err(SocketError::TooLong(path));
        }
        let failed = |source| SocketError::Bind { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::Occupied(path)),
            Ok(_) => fs::remove_file(&path).map_err(failed)?,
            Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let file = identity(&path);
        Ok(Self { path, file, listener: Some(listener) })
    }

    /// The connections that come in, of root and of the agent's own user only. Can be taken once.
    pub(crate) fn connections(&mut self) -> impl Stream<Item = io::Result<UnixStream>> + use<> {
        let own = rustix::process::geteuid().as_raw();
        let allowed = move |connection: &io::Result<UnixStream>| {
            let peer = connection.as_ref().ok().and_then(|stream| stream.peer_cred().ok()).map(|peer| peer.uid());
            let refused = peer.filter(|uid| *uid != 0 && *uid != own);
            if let Some(uid) = refused {
                warn!(uid, "refusing a connection of another user");
            }
            future::ready(refused.is_none())
        };
        stream(self.listener.take()).filter(allowed)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn stream(listener: Option<UnixListener>) -> impl Stream<Item = io::Result<UnixStream>> {
    futures::stream::iter(listener.map(UnixListenerStream::new)).flatten()
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path) == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_goes_with_its_owner_and_not_with_an_earlier_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dra@kubelet.sock");
        let earlier = Socket::bind(path.clone()).unwrap();
        let later = Socket::bind(path.clone()).unwrap();
        drop(earlier);
        assert!(path.exists(), "it is the later agent's");
        drop(later);
        assert!(!path.exists());
    }
}
