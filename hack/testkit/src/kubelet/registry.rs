//! The registration of plugins.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tessera_kubelet_api::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};

use super::{Answer, Registered};
use crate::raw::{self, Outcome};

const SERVICE: &str = "/pluginregistration.Registration";
/// The kubelet's own deadlines.
const GET_INFO: Duration = Duration::from_secs(1);
const NOTIFY: Duration = Duration::from_secs(5);
/// How soon it tries a step again that failed; the kubelet doubles this with each failure.
const RETRY: Duration = Duration::from_millis(500);
/// How often this one looks for sockets; the kubelet is told by the kernel.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Found {
    pub(super) registered: Vec<Registered>,
    pub(super) failures: Vec<String>,
}

/// Looks for sockets that are new, or new in the place of an old one.
pub(super) async fn watch(registry: PathBuf, answer: Answer, found: Arc<Mutex<Found>>) {
    let mut known = BTreeMap::new();
    loop {
        let mut present = sockets(&registry);
        let mut pause = LOOK;
        for (path, identity) in present.clone() {
            if known.get(&path) == Some(&identity) {
                continue;
            }
            let result = register(&path, &answer).await;
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(info) => found.registered.push(Registered { socket: path, info }),
                Err(error) => {
                    // Tried again from the beginning: the socket may not be served yet.
                    found.failures.push(format!("{}: {error}", path.display()));
                    present.remove(&path);
                    pause = RETRY;
                }
            }
        }
        known = present;
        tokio::time::sleep(pause).await;
    }
}

/// The sockets by path, each with what tells it from a later one at the same path.
fn sockets(registry: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let entries = fs::read_dir(registry).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    visible
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(|metadata| metadata.file_type().is_socket())?;
            Some((entry.path(), (metadata.ino(), metadata.mtime(), metadata.mtime_nsec())))
        })
        .collect()
}

async fn register(socket: &Path, answer: &Answer) -> Result<PluginInfo, String> {
    let info: PluginInfo = call(socket, "GetInfo", &InfoRequest {}, GET_INFO).await?;
    let status = match answer {
        Answer::Confirm => RegistrationStatus { plugin_registered: true, error: String::new() },
        Answer::Refuse(error) => RegistrationStatus { plugin_registered: false, error: error.clone() },
        Answer::Nothing => return Ok(info),
    };
    let _: RegistrationStatusResponse = call(socket, "NotifyRegistrationStatus", &status, NOTIFY).await?;
    Ok(info)
}

/// As the kubelet calls: with the percent-encoded path as authority.
async fn call<M: Message + Default>(
    socket: &Path,
    method: &str,
    request: &impl Message,
    deadline: Duration,
) -> Result<M, String> {
    let authority = raw::authority_of_path(socket);
    let outcome =
        raw::call(socket, &authority, &format!("{SERVICE}/{method}"), &request.encode_to_vec(), deadline).await;
    match outcome.map_err(|error| error.to_string())? {
        Outcome::Answered { status: 0, message, .. } => {
            M::decode(message.as_slice()).map_err(|error| error.to_string())
        }
        other => Err(format!("{method}: {other:?}")),
    }
}
