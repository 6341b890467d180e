//! The kubelet's device manager: what it was told of devices, what pods got by count, and what it says about that.

use std::collections::{BTreeMap, BTreeSet};

use tessera_core::Use;
use tessera_device_plugin::{DeviceId, Held, Offer, ResourceName};

/// A kubelet that has started tells of no pods for so many milliseconds: it has to hear of them from the API server.
const KNOWS_NOBODY: u64 = 5_000;
/// The other device plugins of a pod answer within so many milliseconds.
const ADMISSION: u64 = 10_000;

#[derive(Debug, Default)]
pub(crate) struct DeviceManager {
    pub(crate) pods: Vec<Pod>,
    /// The devices of each resource that can be handed out, as an agent has told last.
    told: BTreeMap<ResourceName, Vec<DeviceId>>,
    checkpoint: Held,
    /// From when on it tells of pods.
    knows_pods: u64,
}

/// A pod that asked for devices by count.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) resource: ResourceName,
    /// Its devices, and what of the hardware each takes.
    pub(crate) devices: Vec<(DeviceId, Vec<Use>)>,
    pub(crate) state: PodState,
    /// Only a container that prepares it has them: the kubelet lists it nowhere.
    pub(crate) prepares: bool,
    /// A person took something from it.
    pub(crate) tampered: bool,
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodState {
    /// It waits for another device plugin, since then.
    Admitted(u64),
    Runs,
    /// Its containers have ended, and the kubelet has not noticed.
    Ended,
}

impl Pod {
    /// Whether its containers may use what it has.
    pub(crate) fn owns(&self) -> bool {
        self.state != PodState::Ended && !self.tampered
    }

    fn is_waiting(&self) -> bool {
        matches!(self.state, PodState::Admitted(_))
    }
}

impl DeviceManager {
    /// An agent tells what there is. What has changed makes the kubelet write down what pods have.
    pub(crate) fn hear(&mut self, offer: &Offer) {
        let healthy = offer.resources.iter().map(|(name, resource)| {
            let devices = resource.devices.iter().filter(|device| device.is_healthy());
            (name.clone(), devices.map(|device| device.id.clone()).collect())
        });
        let told: BTreeMap<_, _> = healthy.collect();
        if told != self.told {
            self.told = told;
            self.write_checkpoint();
        }
    }

    /// The resource that a number stands for, and its devices that no pod has.
    pub(crate) fn free(&self, resource: u8) -> Option<(ResourceName, Vec<DeviceId>)> {
        let (name, healthy) = self.told.iter().nth(usize::from(resource) % self.told.len().max(1))?;
        let of_resource = self.pods.iter().filter(|pod| pod.resource == *name);
        let taken: BTreeSet<&DeviceId> = of_resource.flat_map(|pod| pod.devices.iter().map(|(id, _)| id)).collect();
        Some((name.clone(), healthy.iter().filter(|id| !taken.contains(id)).cloned().collect()))
    }

    /// What the PodResources service says. Who asks makes it look which pods have ended.
    pub(crate) fn list(&mut self, now: u64) -> Held {
        if now < self.knows_pods {
            return Held::default();
        }
        self.pods.retain(|pod| pod.state != PodState::Ended);
        held(self.pods.iter().filter(|pod| !pod.prepares && !pod.is_waiting()))
    }

    /// What the checkpoint says.
    pub(crate) fn checkpoint(&self) -> Held {
        self.checkpoint.clone()
    }

    /// Written when a device plugin says something, and when a pod is admitted; then what other pods got so far, which still
    /// wait for another device plugin, is in it too.
    pub(crate) fn write_checkpoint(&mut self) {
        self.checkpoint = held(self.pods.iter());
    }

    /// Pods that have waited for long enough run.
    pub(crate) fn admit(&mut self, now: u64) {
        let waits = |pod: &&mut Pod| matches!(pod.state, PodState::Admitted(since) if since + ADMISSION <= now);
        let mut any = false;
        for pod in self.pods.iter_mut().filter(waits) {
            (pod.state, any) = (PodState::Runs, true);
        }
        if any {
            self.write_checkpoint();
        }
    }

    /// It ends and starts anew: pods run on, but for those that wait for another device plugin.
    pub(crate) fn restart(&mut self, now: u64) {
        self.pods.retain(|pod| !pod.is_waiting());
        self.told.clear();
        self.knows_pods = now + KNOWS_NOBODY;
    }
}

/// What these have.
fn held<'a>(pods: impl Iterator<Item = &'a Pod>) -> Held {
    let mut held = Held::default();
    for pod in pods {
        pod.devices.iter().for_each(|(id, _)| held.add(pod.resource.as_str(), id));
    }
    held
}
