//! The sockets in the registry, and the registration of what serves them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tessera_kubelet_api::names::DRA_PLUGIN_TYPE;
use tessera_kubelet_api::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio_util::sync::CancellationToken;

use super::journal::Registered;
use super::life::Life;
use super::pace;
use super::plugins::Service;
use super::settings::Answer;
use crate::raw::{self, Outcome};

const SERVICE: &str = "/pluginregistration.Registration";
/// How often this one looks for sockets; the kubelet is told by the kernel.
const LOOK: Duration = Duration::from_millis(10);

/// What tells a socket from a later one at the same path.
type Identity = (u64, i64, i64);

/// Looks for sockets that are new, or new in the place of an old one, and for those that went.
pub(super) async fn watch(life: Arc<Life>, registry: PathBuf) {
    let mut known = BTreeMap::<PathBuf, (Identity, CancellationToken)>::new();
    loop {
        let mut present = BTreeMap::new();
        sockets(&registry, &mut present);
        known.retain(|path, (identity, stop)| {
            let there = present.get(path) == Some(identity);
            if !there {
                life.deregister(path, stop);
            }
            there
        });
        let mut new: Vec<_> = present.into_iter().filter(|(path, _)| !known.contains_key(path)).collect();
        life.shuffle(&mut new);
        for (path, identity) in new {
            let stop = life.ended.child_token();
            tokio::spawn(register(Arc::clone(&life), path.clone(), stop.clone()));
            known.insert(path, (identity, stop));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The sockets by path, below the directory and those in it.
fn sockets(directory: &Path, found: &mut BTreeMap<PathBuf, Identity>) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sockets(&entry.path(), found),
            Ok(metadata) if metadata.file_type().is_socket() => {
                found.insert(entry.path(), (metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
            }
            _ => {}
        }
    }
}

/// What a failure means.
enum Failure {
    /// Everything is done again after a pause.
    Again(String),
    /// The socket is not looked at any more until it is made anew.
    Final(String),
}

/// Registers what serves a socket, with as many tries as the version has, until the socket goes.
async fn register(life: Arc<Life>, socket: PathBuf, stop: CancellationToken) {
    let trying = async {
        let mut pause = pace::REGISTRATION_FIRST;
        loop {
            let (text, over) = match attempt(&life, &socket, &stop).await {
                Ok(()) => return,
                Err(Failure::Again(text)) => (text, false),
                Err(Failure::Final(text)) => (text, true),
            };
            life.journal.write().failures.push(format!("{}: {text}", socket.display()));
            if over {
                return;
            }
            tokio::time::sleep(life.settings.pace.pause(pause)).await;
            pause = (pause * 2).min(pace::REGISTRATION_LAST);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = trying => {}
    }
}

async fn attempt(life: &Arc<Life>, socket: &Path, stop: &CancellationToken) -> Result<(), Failure> {
    let info: PluginInfo = call(socket, "GetInfo", &InfoRequest {}, pace::GET_INFO).await.map_err(Failure::Again)?;
    let registered = Registered { socket: socket.to_owned(), info: info.clone() };
    let service = match validate(&info) {
        Ok(service) => service,
        Err(flaw) => {
            notify(socket, Err(flaw.clone())).await.map_err(Failure::Again)?;
            return Err(Failure::Again(flaw));
        }
    };
    // From here on an older kubelet takes the plugin for registered, whatever comes.
    let later = |text| match life.settings.version.retries_registration() {
        true => Failure::Again(text),
        false => Failure::Final(text),
    };
    let result = match &life.settings.answer {
        Answer::Nothing => {
            life.journal.write().registered.push(registered);
            return Ok(());
        }
        Answer::Refuse(reason) => Err(reason.clone()),
        Answer::RefuseOnce(reason) if life.journal.write().registered.is_empty() => Err(reason.clone()),
        Answer::RefuseDriver { driver, reason } if *driver == info.name => Err(reason.clone()),
        Answer::RefuseOnce(_) | Answer::RefuseDriver { .. } | Answer::Confirm => {
            life.register(socket, &info, service, stop)
        }
    };
    let told = notify(socket, result.clone()).await;
    match (result, told) {
        (Ok(()), Ok(())) => {
            life.journal.write().registered.push(registered);
            Ok(())
        }
        (Ok(()), Err(text)) => {
            if life.settings.version.retries_registration() {
                life.take_back(socket);
            }
            Err(later(text))
        }
        (Err(reason), told) => {
            if told.is_ok() {
                life.journal.write().registered.push(registered);
            }
            Err(later(told.err().unwrap_or(reason)))
        }
    }
}

fn validate(info: &PluginInfo) -> Result<Service, String> {
    if info.r#type != DRA_PLUGIN_TYPE {
        return Err(format!("no handler registered for plugin type {:?}", info.r#type));
    }
    if info.name.is_empty() {
        return Err("DRA driver name is empty".to_owned());
    }
    let none = || format!("none of the DRA gRPC services are supported: {:?}", info.supported_versions);
    Service::choose(&info.supported_versions).ok_or_else(none)
}

async fn notify(socket: &Path, result: Result<(), String>) -> Result<(), String> {
    let status = RegistrationStatus { plugin_registered: result.is_ok(), error: result.err().unwrap_or_default() };
    let told: Result<RegistrationStatusResponse, _> =
        call(socket, "NotifyRegistrationStatus", &status, pace::NOTIFY).await;
    told.map(|_| ())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_may_say_about_themselves() {
        let sound = PluginInfo {
            r#type: DRA_PLUGIN_TYPE.to_owned(),
            name: "gpu.example.com".to_owned(),
            endpoint: "/dra.sock".to_owned(),
            supported_versions: vec!["v1.DRAPlugin".to_owned()],
        };
        for (info, expected) in [
            (sound.clone(), Ok(Service::V1)),
            (PluginInfo { r#type: "CSIPlugin".to_owned(), ..sound.clone() }, Err("plugin type")),
            (PluginInfo { name: String::new(), ..sound.clone() }, Err("name is empty")),
            (PluginInfo { supported_versions: Vec::new(), ..sound }, Err("none of the DRA gRPC services")),
        ] {
            match (validate(&info), expected) {
                (Ok(service), Ok(expected)) => assert_eq!(service, expected),
                (Err(text), Err(part)) => assert!(text.contains(part), "{text}"),
                (found, _) => panic!("{info:?}: {found:?}"),
            }
        }
    }
}
