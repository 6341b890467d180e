//! One life of a kubelet, from its start to its end or restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_kubelet_api::registration::PluginInfo;
use tokio_util::sync::CancellationToken;

use super::claim_infos::ClaimInfos;
use super::journal::Journal;
use super::plugins::{Countdown, Entry, Plugins, Service};
use super::pod_resources::PodResources;
use super::settings::Settings;
use super::{checkpoint, connection, health, pace, registry, wiping};

/// What ends with the process: connections, registrations, and which claims are prepared.
pub(super) struct Life {
    pub(super) directory: PathBuf,
    pub(super) settings: Settings,
    pub(super) journal: Arc<Journal>,
    pub(super) pod_resources: Arc<PodResources>,
    /// Ends every task, connection and call.
    pub(super) ended: CancellationToken,
    plugins: Mutex<Plugins>,
    claims: Mutex<ClaimInfos>,
    chance: Mutex<fastrand::Rng>,
}

impl Life {
    /// Begins with what the last one left in the checkpoint. Needs an async runtime.
    pub(super) fn begin(
        directory: &Path,
        settings: &Settings,
        journal: &Arc<Journal>,
        pod_resources: &Arc<PodResources>,
        chance: fastrand::Rng,
    ) -> Arc<Self> {
        let life = Arc::new(Self {
            directory: directory.to_owned(),
            settings: settings.clone(),
            journal: Arc::clone(journal),
            pod_resources: Arc::clone(pod_resources),
            ended: CancellationToken::new(),
            plugins: Mutex::default(),
            claims: Mutex::new(ClaimInfos::new(settings.version, checkpoint::read(directory))),
            chance: Mutex::new(chance),
        });
        life.spawn(registry::watch(Arc::clone(&life), directory.join("plugins_registry")));
        life.spawn(wiping::at_start(Arc::clone(&life)));
        life.spawn(learn_pods(Arc::clone(&life)));
        life
    }

    /// The plugin that is called for a driver.
    pub(super) fn plugin(&self, driver: &str) -> Option<Entry> {
        self.plugins().choose(driver)
    }

    /// The DRA sockets of a driver, in the order of their registration.
    pub(super) fn endpoints(&self, driver: &str) -> Vec<PathBuf> {
        self.plugins().endpoints(driver)
    }

    /// Adds a plugin and connects to it, until `stop`, which means that its registration socket went.
    pub(super) fn register(
        self: &Arc<Self>,
        socket: &Path,
        info: &PluginInfo,
        service: Service,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let endpoint = if info.endpoint.is_empty() { socket.to_owned() } else { PathBuf::from(&info.endpoint) };
        let closed = stop.child_token();
        let changed = {
            let (life, driver) = (Arc::clone(self), info.name.clone());
            move || life.connections_changed(&driver)
        };
        let mut plugins = self.plugins();
        if stop.is_cancelled() {
            return Err("the registration socket went".to_owned());
        }
        let entry = Entry {
            driver: info.name.clone(),
            endpoint: endpoint.clone(),
            socket: socket.to_owned(),
            service,
            connection: connection::keep(endpoint, self.settings.pace, closed.clone(), changed),
            closed: closed.clone(),
        };
        let added = plugins.add(entry.clone());
        drop(plugins);
        match added {
            Ok(()) => {
                self.connections_changed(&info.name);
                self.spawn(health::watch(Arc::clone(self), entry, info.supported_versions.clone()));
            }
            Err(_) => closed.cancel(),
        }
        added
    }

    /// Removes the plugin whose registration socket went, and ends what is done for that socket.
    pub(super) fn deregister(self: &Arc<Self>, socket: &Path, stop: &CancellationToken) {
        stop.cancel();
        self.take_back(socket);
    }

    /// Removes a plugin whose registration does not stand.
    pub(super) fn take_back(self: &Arc<Self>, socket: &Path) {
        let removed = self.plugins().remove(socket);
        if let Some(driver) = removed {
            self.connections_changed(&driver);
        }
    }

    fn connections_changed(self: &Arc<Self>, driver: &str) {
        let countdown = self.plugins().count_down(driver, &self.ended);
        if let Countdown::Begins(countdown) = countdown {
            self.spawn(wiping::count_down(Arc::clone(self), driver.to_owned(), countdown));
        }
    }

    /// Changes what is known of claims, and writes it down.
    pub(super) fn change_claims<T>(&self, change: impl FnOnce(&mut ClaimInfos) -> T) -> T {
        let mut claims = self.claims();
        let result = change(&mut claims);
        checkpoint::write(&self.directory, &claims.by_key);
        result
    }

    pub(super) fn claims(&self) -> MutexGuard<'_, ClaimInfos> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shuffle<T>(&self, items: &mut [T]) {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).shuffle(items);
    }

    /// Where chance goes on after this life.
    pub(super) fn chance(&self) -> fastrand::Rng {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn plugins(&self) -> MutexGuard<'_, Plugins> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = task => {}
            }
        });
    }
}

/// A kubelet that starts has to hear from the API server which pods there are; until then pod resources lists none.
async fn learn_pods(life: Arc<Life>) {
    if let Some(cluster) = &life.settings.cluster {
        while !cluster.knows_node().await {
            tokio::time::sleep(life.settings.pace.pause(pace::LEARN)).await;
        }
    }
    life.pod_resources.learn_pods();
}
