//! The plugins that have registered, several of a driver while one replaces the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tessera_kubelet_api::names;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::connection::State;

/// The protocol that a plugin is called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `k8s.io.kubelet.pkg.apis.dra.v1`.
    V1,
    /// `k8s.io.kubelet.pkg.apis.dra.v1beta1`.
    V1Beta1,
}

impl Service {
    /// The first in the plugin's own order that the kubelet speaks; every version from 1.34 to 1.37 speaks both.
    pub(super) fn choose(supported: &[String]) -> Option<Self> {
        supported.iter().find_map(|version| match version.as_str() {
            names::DRA_V1 => Some(Self::V1),
            names::DRA_V1BETA1 => Some(Self::V1Beta1),
            _ => None,
        })
    }
}

/// A plugin that can be called.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) driver: String,
    /// Its DRA socket.
    pub(super) endpoint: PathBuf,
    /// Its registration socket.
    pub(super) socket: PathBuf,
    pub(super) service: Service,
    pub(super) connection: watch::Receiver<State>,
    /// Closes the connection.
    pub(super) closed: CancellationToken,
}

/// All of them, in the order of their registration.
#[derive(Debug, Default)]
pub(super) struct Plugins {
    entries: Vec<Entry>,
    /// What ends the countdown to the wiping of a driver's slices. It stays after the wiping, which comes once a loss.
    countdowns: BTreeMap<String, CancellationToken>,
}

/// What a change means for a driver's slices.
#[derive(Debug)]
pub(super) enum Countdown {
    /// They go after a while, unless this is cancelled.
    Begins(CancellationToken),
    /// Nothing new.
    Unchanged,
}

impl Plugins {
    /// Adds one, unless somebody else has registered its socket and is still there.
    pub(super) fn add(&mut self, entry: Entry) -> Result<(), String> {
        if self.entries.iter().any(|other| other.driver == entry.driver && other.endpoint == entry.endpoint) {
            return Err(format!("endpoint {} already registered for DRA driver", entry.endpoint.display()));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Removes the one with a registration socket, closes its connection, and says of which driver it was.
    pub(super) fn remove(&mut self, socket: &Path) -> Option<String> {
        let position = self.entries.iter().position(|entry| entry.socket == socket)?;
        let entry = self.entries.remove(position);
        entry.closed.cancel();
        Some(entry.driver)
    }

    /// The one that is called for a driver: the latest of those that are connected, else the latest of all.
    pub(super) fn choose(&self, driver: &str) -> Option<Entry> {
        let mut of_driver = self.entries.iter().rev().filter(|entry| entry.driver == driver);
        let connected = of_driver.clone().find(|entry| entry.connection.borrow().is_ready());
        connected.or_else(|| of_driver.next()).cloned()
    }

    /// Looks at a driver's connections: with none, the countdown begins if it has not; any ends it.
    pub(super) fn count_down(&mut self, driver: &str, ended: &CancellationToken) -> Countdown {
        let mut of_driver = self.entries.iter().filter(|entry| entry.driver == driver);
        if of_driver.any(|entry| entry.connection.borrow().is_ready()) {
            if let Some(countdown) = self.countdowns.remove(driver) {
                countdown.cancel();
            }
        } else if !self.countdowns.contains_key(driver) {
            let countdown = ended.child_token();
            self.countdowns.insert(driver.to_owned(), countdown.clone());
            return Countdown::Begins(countdown);
        }
        Countdown::Unchanged
    }

    /// The DRA sockets of a driver, in the order of their registration.
    pub(super) fn endpoints(&self, driver: &str) -> Vec<PathBuf> {
        let of_driver = self.entries.iter().filter(|entry| entry.driver == driver);
        of_driver.map(|entry| entry.endpoint.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;

    use super::*;

    const DRIVER: &str = "gpu.example.com";

    /// A plugin and how its connection is.
    fn entry(name: &str) -> (Entry, watch::Sender<State>) {
        let (state, connection) = watch::channel(State::Connecting);
        let entry = Entry {
            driver: DRIVER.to_owned(),
            endpoint: format!("/{name}.sock").into(),
            socket: format!("/{name}-reg.sock").into(),
            service: Service::V1,
            connection,
            closed: CancellationToken::new(),
        };
        (entry, state)
    }

    fn chosen(plugins: &Plugins) -> Option<PathBuf> {
        plugins.choose(DRIVER).map(|entry| entry.endpoint)
    }

    #[test]
    fn the_first_version_that_both_know_is_spoken() {
        for (supported, expected) in [
            (names::SUPPORTED_VERSIONS.to_vec(), Some(Service::V1)),
            (vec![names::DRA_V1BETA1, names::DRA_V1], Some(Service::V1Beta1)),
            (vec!["v2.DRAPlugin", names::DRA_V1BETA1], Some(Service::V1Beta1)),
            (vec![names::HEALTH_V1], None),
            (vec!["1.0.0"], None),
            (vec![], None),
        ] {
            let supported: Vec<_> = supported.into_iter().map(str::to_owned).collect();
            assert_eq!(Service::choose(&supported), expected, "{supported:?}");
        }
    }

    #[tokio::test]
    async fn the_latest_connected_plugin_is_called() {
        let ready = || State::Ready(Endpoint::from_static("http://localhost").connect_lazy());
        let mut plugins = Plugins::default();
        let ((old, old_state), (new, new_state)) = (entry("old"), entry("new"));
        plugins.add(old).unwrap();
        assert!(plugins.add(entry("old").0).is_err(), "one socket twice");
        plugins.add(new).unwrap();
        let socket = |name: &str| Some(PathBuf::from(format!("/{name}.sock")));
        assert_eq!(chosen(&plugins), socket("new"), "none is connected");
        old_state.send_replace(ready());
        assert_eq!(chosen(&plugins), socket("old"));
        new_state.send_replace(ready());
        assert_eq!(chosen(&plugins), socket("new"));
        new_state.send_replace(State::Failed);
        assert_eq!(chosen(&plugins), socket("old"));
        assert_eq!(plugins.remove(Path::new("/old-reg.sock")).as_deref(), Some(DRIVER));
        assert_eq!(chosen(&plugins), socket("new"));
        plugins.remove(Path::new("/new-reg.sock"));
        assert_eq!(chosen(&plugins), None);
    }

    #[tokio::test]
    async fn slices_are_wiped_once_a_loss() {
        let ended = CancellationToken::new();
        let mut plugins = Plugins::default();
        let (entry, state) = entry("one");
        plugins.add(entry).unwrap();
        let Countdown::Begins(first) = plugins.count_down(DRIVER, &ended) else { panic!("never reachable") };
        assert!(matches!(plugins.count_down(DRIVER, &ended), Countdown::Unchanged), "not extended");
        state.send_replace(State::Ready(Endpoint::from_static("http://localhost").connect_lazy()));
        assert!(matches!(plugins.count_down(DRIVER, &ended), Countdown::Unchanged));
        assert!(first.is_cancelled());
        plugins.remove(Path::new("/one-reg.sock"));
        assert!(matches!(plugins.count_down(DRIVER, &ended), Countdown::Begins(_)));
    }
}
