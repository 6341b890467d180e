//! Pods that ask for devices by count, beside claims.

use tessera_core::Use;
use tessera_device_plugin::{Config, DeviceId};

use crate::device_manager::{DeviceManager, Pod, PodState};
use crate::world::World;

/// So few pods that devices come free again.
const PODS: usize = 6;
/// How often an agent asks what pods have, in milliseconds.
const PAUSE: u64 = 1_000;
/// So many agents in a row have the same config.
const STARTS: u32 = 4;

/// What admins want: each device for itself, pods that share, partitions under names of their own.
const CONFIGS: [&str; 3] = [
    "",
    "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: nvidia.com/gpu, replicas: 2}]}}",
    "flags: {migStrategy: mixed}",
];

/// Whether a life is lived on a node that serves both APIs.
pub(crate) fn is_served(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// What the admin of a life wants when its agent of this number starts.
pub(crate) fn config(seed: u64, agent: u32) -> Option<Config> {
    let number = (seed / 2 + u64::from(agent / STARTS)) % 3;
    let text = usize::try_from(number).ok().and_then(|number| CONFIGS.get(number))?;
    if is_served(seed) { Config::parse(text).ok() } else { None }
}

impl World {
    /// A pod asks for so many; its containers start at once, or when another device plugin has answered too.
    pub(crate) fn count(&mut self, resource: u8, devices: u8, at_once: bool, prepares: bool) {
        let wanted = usize::from(devices);
        let Some(agent) = self.agents.last() else { return };
        if self.devices.pods.len() >= PODS {
            return;
        }
        let Some((resource, free)) = self.devices.free(resource) else { return };
        if free.len() < wanted {
            return;
        }
        let mut chosen = Vec::new();
        if free.len() > wanted {
            chosen = agent.preferred(&resource, &free, wanted, &self.hardware);
        }
        // A short answer is filled up.
        let others: Vec<DeviceId> = free.into_iter().filter(|id| !chosen.contains(id)).collect();
        chosen.extend(others.into_iter().take(wanted.saturating_sub(chosen.len())));
        match agent.grant(&resource, &chosen, &self.hardware) {
            Some(devices) => {
                let state = if at_once { PodState::Runs } else { PodState::Admitted(self.now) };
                self.devices.pods.push(Pod { resource, devices, state, prepares, tampered: false });
                if at_once {
                    self.devices.write_checkpoint();
                }
                self.tally.allocated += 1;
            }
            None => self.tally.not_allocated += 1,
        }
    }

    /// The containers of a pod end. Nobody is told.
    pub(crate) fn end_counted(&mut self, pod: u8) {
        let count = self.devices.pods.len().max(1);
        if let Some(pod) = self.devices.pods.get_mut(usize::from(pod) % count) {
            match pod.state {
                PodState::Admitted(_) => {}
                PodState::Runs | PodState::Ended => pod.state = PodState::Ended,
            }
        }
    }

    /// The newest agent tells the kubelet what there is.
    pub(crate) fn tell_kubelet(&mut self) {
        if let Some(agent) = self.agents.last() {
            self.devices.hear(&agent.offer(&self.hardware));
        }
    }

    /// What an agent asked of the kubelet is answered.
    pub(crate) fn answer(&mut self, agent: usize) {
        if self.agents[agent].hear(self.devices.checkpoint()) {
            self.devices.write_checkpoint();
        }
    }

    pub(crate) fn answer_all(&mut self) {
        (0..self.agents.len()).for_each(|agent| self.answer(agent));
    }

    /// An agent asks what pods have, if it is time for that; now and then the answer is late.
    pub(crate) fn listen(&mut self, agent: usize) {
        if self.agents[agent].desk.due <= self.now {
            self.answer(agent);
            self.ask(agent);
            if !self.now.is_multiple_of(300) {
                self.answer(agent);
            }
        }
    }

    /// An agent that starts asks before a claim is given anything.
    pub(crate) fn listen_at_once(&mut self, agent: usize) {
        self.ask(agent);
        self.answer(agent);
    }

    fn ask(&mut self, agent: usize) {
        let Self { agents, devices, now, .. } = self;
        agents[agent].desk.due = *now + PAUSE;
        agents[agent].ask(|| devices.list(*now));
    }

    /// The kubelet loses its state.
    pub(crate) fn forget_pods(&mut self) {
        self.devices = DeviceManager::default();
    }

    /// After a reboot pods have what they had, but for partitions: those are gone.
    pub(crate) fn reboot_pods(&mut self) {
        self.devices.restart(self.now);
        let is_part = |pod: &Pod| pod.devices.iter().flat_map(|(_, uses)| uses).any(|one| one.placement.is_some());
        for pod in self.devices.pods.iter_mut().filter(|pod| is_part(pod)) {
            pod.state = PodState::Ended;
        }
    }

    /// What a person took from pods is nobody's fault here.
    pub(crate) fn tell_taken_from_pods(&mut self) {
        let Self { devices, hardware, .. } = self;
        let taken = |(id, uses): &(DeviceId, Vec<Use>)| !hardware.has_unit(id.unit(), uses);
        for pod in &mut devices.pods {
            pod.tampered |= pod.devices.iter().any(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_configs_are_configs() {
        assert!(CONFIGS.iter().all(|text| Config::parse(text).is_ok()));
        assert!((0..6).map(|life| 2 * life).all(|life| config(life, 1).is_some()));
        assert_eq!(config(1, 1), None);
    }
}
