//! Where the container's root is, as the OCI runtime specification tells hooks.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::process::Pid;
use serde::Deserialize;

/// The state that a hook gets on its standard input (`runtime.md`, "State"), as far as it is needed.
#[derive(Deserialize)]
struct State {
    /// Absolute path of the directory that holds `config.json`.
    bundle: PathBuf,
}

/// The same state, as far as the container's process is concerned.
#[derive(Deserialize)]
struct Process {
    /// As the runtime sees it.
    pid: i32,
}

/// A container's configuration (`config.md`), as far as it is needed.
#[derive(Deserialize)]
struct Config {
    root: Root,
}

#[derive(Deserialize)]
struct Root {
    /// Absolute, or relative to the bundle.
    path: PathBuf,
}

/// The state or the configuration that it names is not what the specification says.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The standard input holds no state.
    #[error("the state on standard input: {0}; this program is a hook that container runtimes call")]
    State(#[source] serde_json::Error),
    /// The state names no process.
    #[error("the state on standard input names process {0}, which is none")]
    Process(i32),
    /// The configuration cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The configuration's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The configuration names no root.
    #[error("{}: {source}", path.display())]
    Config {
        /// The configuration's file.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
}

/// The directory that will be the container's root.
pub(crate) fn container_root(state: impl Read) -> Result<PathBuf, StateError> {
    let State { bundle } = serde_json::from_reader(state).map_err(StateError::State)?;
    let path = bundle.join("config.json");
    let text = std::fs::read(&path).map_err(|source| StateError::Read { path: path.clone(), source })?;
    let config: Config = serde_json::from_slice(&text).map_err(|source| StateError::Config { path, source })?;
    Ok(below(&bundle, &config.root.path))
}

/// The container's first process.
pub(crate) fn container_process(state: impl Read) -> Result<Pid, StateError> {
    let Process { pid } = serde_json::from_reader(state).map_err(StateError::State)?;
    // 1 would be the host's own.
    Some(pid).filter(|pid| *pid > 1).and_then(Pid::from_raw).ok_or(StateError::Process(pid))
}

/// An absolute path takes the bundle's place.
fn below(bundle: &Path, root: &Path) -> PathBuf {
    bundle.join(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_for(config: &str) -> Result<PathBuf, String> {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("config.json"), config).unwrap();
        let state = format!(r#"{{"ociVersion":"1.2.0","id":"a","status":"creating","bundle":{:?}}}"#, bundle.path());
        let root = container_root(state.as_bytes()).map_err(|error| error.to_string())?;
        Ok(root.strip_prefix(bundle.path()).map(Path::to_owned).unwrap_or(root))
    }

    #[test]
    fn the_root_is_relative_to_the_bundle_or_absolute() {
        assert_eq!(
            root_for(r#"{"root":{"path":"rootfs","readonly":true},"process":{}}"#).unwrap(),
            Path::new("rootfs")
        );
        assert_eq!(root_for(r#"{"root":{"path":"/run/a"}}"#).unwrap(), Path::new("/run/a"));
        assert!(root_for("{}").unwrap_err().contains("config.json: missing field `root`"));
        let error = container_root(&b"{}"[..]).unwrap_err().to_string();
        assert!(error.contains("missing field `bundle`") && error.contains("container runtimes call"), "{error}");
    }
    #[test]
    fn a_process_is_one_of_the_hosts() {
        let process = |state: &str| container_process(state.as_bytes()).map(|pid| Pid::as_raw(Some(pid)));
        assert_eq!(process(r#"{"pid":4711,"bundle":"/b"}"#).unwrap(), 4711);
        for bad in [r#"{"pid":0}"#, r#"{"pid":1}"#, r#"{"pid":-7}"#, "{}", ""] {
            assert!(process(bad).is_err(), "{bad}");
        }
    }
}
