//! A kubelet as far as drivers of devices see it: its plugin registry, its DRA manager and its pod resources service, with
//! the deadlines, orders and bugs of the release that is played.
//!
//! What it leaves out: containers (a pod has none, so the end of a pod is only what follows it), the scheduler's part (who
//! may use a claim is not looked at) and leases of health. Device plugins have a part of their own, [`DeviceManager`].

mod active_pods;
mod answers;
pub(crate) mod api;
mod checkpoint;
mod claim_infos;
mod connection;
mod device_manager;
mod health;
mod journal;
mod life;
mod neighbour;
mod pace;
mod plugin;
mod plugins;
mod pod;
mod pod_resources;
mod problem;
mod registry;
mod settings;
mod sync;
mod version;
mod wiping;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use claim_infos::Key;
use life::Life;

use crate::{PATIENCE, until};
pub use active_pods::ActivePod;
pub use api::Cluster;
pub use device_manager::{Allocated, DeviceManager};
pub use health::{DeviceId, Health};
pub use journal::{Call, Operation, Registered};
pub use neighbour::{Neighbour, Step};
pub use pace::{GET_INFO, NOTIFY, OPERATION, Pace};
pub use plugin::{Plugin, Prepared};
pub use plugins::Service;
pub use pod::{Pod, PreparedClaim};
pub use pod_resources::{Listing, PodResources};
pub use problem::{Flaw, Problem};
pub use settings::{Answer, Settings};
pub use version::Version;

/// A running kubelet. It stops when dropped.
pub struct Kubelet {
    directory: PathBuf,
    settings: Settings,
    journal: Arc<journal::Journal>,
    pod_resources: Arc<PodResources>,
    /// The pods that the API server has bound to the node, by UID.
    pods: Mutex<BTreeMap<String, Pod>>,
    /// `None` while it is down.
    life: Mutex<Option<Arc<Life>>>,
}

impl Kubelet {
    /// Starts a kubelet 1.37 without a cluster, for its registry and its pod resources: it looks for sockets below
    /// `plugins_registry` of a kubelet's directory and answers those that it finds. Needs an async runtime.
    pub fn start(directory: &Path, answer: Answer) -> Self {
        Self::start_as(directory, Settings { answer, pace: Pace::REAL, ..Settings::of(Version::V1_37) })
    }

    /// Starts a kubelet in its directory. Needs an async runtime.
    pub fn start_as(directory: &Path, settings: Settings) -> Self {
        let chance = fastrand::Rng::with_seed(settings.seed);
        let kubelet = Self {
            directory: directory.to_owned(),
            settings,
            journal: Arc::default(),
            pod_resources: Arc::new(PodResources::new(directory)),
            pods: Mutex::default(),
            life: Mutex::default(),
        };
        kubelet.begin(chance);
        kubelet
    }

    /// Ends the process: calls are broken off, connections closed, and only the checkpoint stays.
    pub fn stop(&self) {
        if let Some(life) = self.life_slot().take() {
            life.ended.cancel();
        }
        self.journal.write().health.clear();
        self.pod_resources.end();
    }

    /// Ends the process and starts it anew. Needs an async runtime.
    pub fn restart(&self) {
        let chance = self.life_slot().as_ref().map_or_else(fastrand::Rng::default, |life| life.chance());
        self.stop();
        self.begin(chance);
    }

    fn begin(&self, chance: fastrand::Rng) {
        self.pod_resources.begin();
        let life = Life::begin(&self.directory, &self.settings, &self.journal, &self.pod_resources, chance);
        *self.life_slot() = Some(life);
    }

    /// What it tells about the pods that are active.
    pub fn pod_resources(&self) -> &PodResources {
        &self.pod_resources
    }

    /// Every registration so far, the oldest first.
    pub fn registrations(&self) -> Vec<Registered> {
        self.journal.write().registered.clone()
    }

    /// What went wrong with sockets so far.
    pub fn failures(&self) -> Vec<String> {
        self.journal.write().failures.clone()
    }

    /// Every call of a driver that has ended, the oldest first.
    pub fn calls(&self) -> Vec<Call> {
        self.journal.write().calls.clone()
    }

    /// Whose slices it has wiped, the first first; `None` stands for those of all drivers.
    pub fn wipes(&self) -> Vec<Option<String>> {
        self.journal.write().wipes.clone()
    }

    /// What the health streams say about devices; of a driver whose stream has ended, nothing.
    pub fn health(&self) -> BTreeMap<DeviceId, Health> {
        self.journal.write().health.clone()
    }

    /// The DRA sockets that a driver has registered and not taken back, the latest last.
    pub fn endpoints(&self, driver: &str) -> Vec<PathBuf> {
        self.life_slot().as_ref().map(|life| life.endpoints(driver)).unwrap_or_default()
    }

    /// Waits for the registration with this number, counted from 1.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn registration(&self, number: usize, patience: Duration) -> Registered {
        let found = until(patience, || self.registrations().get(number - 1).cloned()).await;
        found.unwrap_or_else(|| panic!("registration {number} did not come; failures: {:#?}", self.failures()))
    }

    /// Waits for the first registration and connects to the plugin.
    pub async fn plugin(&self) -> Plugin {
        let registered = self.registration(1, PATIENCE).await;
        Plugin::connect(Path::new(&registered.info.endpoint)).await
    }

    /// Tries once to get a pod ready for a new sandbox: its first, or the next one after that died. Every driver is
    /// called at most once, with all claims of the pod that are not prepared yet.
    ///
    /// # Errors
    /// Why the pod has to wait; the kubelet would try again for ever.
    ///
    /// # Panics
    /// Without a cluster.
    pub async fn run_pod(&self, pod: &Pod) -> Result<Vec<PreparedClaim>, Problem> {
        self.pods().insert(pod.uid.clone(), pod.clone());
        self.living(async |life| life.prepare(pod).await).await
    }

    /// Tries to run a pod until it does.
    ///
    /// # Panics
    /// When it does not.
    pub async fn pod_runs(&self, pod: &Pod) -> Vec<PreparedClaim> {
        self.patiently(&pod.name, async || self.run_pod(pod).await).await
    }

    /// Tries once to do what follows the end of a pod's containers: claims of which it was the last user are unprepared.
    ///
    /// # Errors
    /// Why the pod stays there, terminating; the kubelet would try again for ever.
    pub async fn end_pod(&self, pod: &Pod) -> Result<(), Problem> {
        self.living(async |life| life.unprepare(&pod.uid, &keys(pod)).await).await?;
        self.force_delete(pod);
        Ok(())
    }

    /// Tries to end a pod until that is done.
    ///
    /// # Panics
    /// When it is not.
    pub async fn pod_ends(&self, pod: &Pod) {
        self.patiently(&pod.name, async || self.end_pod(pod).await).await;
    }

    /// The pod is gone from the API server at once, while its containers may still run. Pod resources forgets it;
    /// [`Kubelet::end_pod`] or [`Kubelet::reconcile`] does the rest.
    pub fn force_delete(&self, pod: &Pod) {
        self.pods().remove(&pod.uid);
        self.pod_resources.forget(&pod.namespace, &pod.name);
    }

    /// Unprepares what pods hold that are not there any more. The real one does this every minute.
    ///
    /// # Errors
    /// The first problem.
    pub async fn reconcile(&self) -> Result<(), Problem> {
        let active: BTreeSet<_> = self.pods().keys().cloned().collect();
        self.living(async |life| {
            let left_behind = life.claims().left_behind(&active);
            for (pod, claims) in left_behind {
                life.unprepare(&pod, &claims).await?;
            }
            Ok(())
        })
        .await
    }

    /// Does something, unless the kubelet ends meanwhile.
    async fn living<T>(&self, work: impl AsyncFnOnce(&Life) -> Result<T, Problem>) -> Result<T, Problem> {
        let life = self.life_slot().clone().ok_or(Problem::Ended)?;
        tokio::select! {
            // First, since the end also breaks off the calls that the work waits for.
            biased;
            () = life.ended.cancelled() => Err(Problem::Ended),
            result = work(&life) => result,
        }
    }

    /// As a pod's worker: after a failure it pauses and tries again.
    async fn patiently<T>(&self, pod: &str, work: impl AsyncFn() -> Result<T, Problem>) -> T {
        let begun = Instant::now();
        loop {
            match work().await {
                Ok(done) => return done,
                Err(problem) if begun.elapsed() > PATIENCE => panic!("pod {pod}: {problem}"),
                Err(_) => tokio::time::sleep(self.settings.pace.pause(pace::POD)).await,
            }
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life_slot(&self) -> MutexGuard<'_, Option<Arc<Life>>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The claims that a pod names.
fn keys(pod: &Pod) -> Vec<Key> {
    pod.claims.iter().map(|claim| (pod.namespace.clone(), claim.name.clone())).collect()
}
