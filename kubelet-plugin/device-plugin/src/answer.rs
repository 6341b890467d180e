use std::collections::{BTreeMap, BTreeSet};

use cdi::DeviceNode;
use tessera_core::{Unit, UnitKind};
use tessera_driver::Accelerator;

use crate::{Delivery, Description, ResourceName, SHARED, Way};

/// What NVIDIA's container runtime reads.
const VISIBLE_DEVICES: &str = "NVIDIA_VISIBLE_DEVICES";
/// The directory below which that runtime looks for mounts that are named after devices, and what is mounted there.
const DEVICES_AS_MOUNTS: &str = "/var/run/nvidia-container-devices";
const NOTHING: &str = "/dev/null";

/// What the kubelet is told that a container gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Variables of its environment.
    pub environment: BTreeMap<String, String>,
    /// What is mounted, read-only: the path on the host by the path in the container.
    pub mounts: BTreeMap<String, String>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Annotations of the container.
    pub annotations: BTreeMap<String, String>,
    /// The names of CDI devices.
    pub cdi_devices: Vec<String>,
}

/// How a container gets these units, all of which the runtime was told of. What it needs besides because of all of them goes
/// into its environment, since the spec says only what each needs.
pub fn answer(delivery: &Delivery, resource: &ResourceName, units: &[Unit<'_>], description: &Description) -> Answer {
    let ids: Vec<&str> = units.iter().map(|unit| unit.id.as_str()).collect();
    let names = description.shares.then_some(SHARED).into_iter().chain(ids.iter().copied());
    let names: Vec<_> = names.map(|name| format!("{}={name}", description.kind.as_str())).collect();
    let mut answer = Answer { environment: together(units), ..Answer::default() };
    for way in &delivery.ways {
        match way {
            Way::CdiCri => answer.cdi_devices.clone_from(&names),
            Way::CdiAnnotations => {
                // A container has one answer for each resource, and the kubelet puts all their annotations together.
                let key = format!("{}{}", delivery.annotation_prefix, resource.as_str().replace('/', "_"));
                answer.annotations.insert(key, names.join(","));
            }
            Way::EnvVar => {
                answer.environment.insert(VISIBLE_DEVICES.to_owned(), ids.join(","));
            }
            // After the variable, which then names the directory.
            Way::VolumeMounts => {
                answer.environment.insert(VISIBLE_DEVICES.to_owned(), DEVICES_AS_MOUNTS.to_owned());
                let mount = |id: &&str| (format!("{DEVICES_AS_MOUNTS}/{id}"), NOTHING.to_owned());
                answer.mounts = ids.iter().map(mount).collect();
            }
        }
    }
    if delivery.by_nvidia_runtime() {
        let extras = delivery.extras.iter().map(|extra| (extra.variable().to_owned(), "enabled".to_owned()));
        answer.environment.extend(extras);
        if delivery.device_nodes {
            let mut known = BTreeSet::new();
            let nodes = ids.iter().filter_map(|id| description.units.get(*id)).flatten();
            answer.device_nodes = nodes.filter(|node| known.insert(&node.path)).cloned().collect();
        }
    }
    answer
}

/// What a container is told because of all whole accelerators that it was given.
fn together(units: &[Unit<'_>]) -> BTreeMap<String, String> {
    let wholes = units.iter().filter(|unit| unit.kind == UnitKind::Whole);
    let wholes: Vec<_> = wholes.map(|unit| unit.accelerator).collect();
    let variables = Accelerator::together(&wholes).env;
    let variables = variables.iter().filter_map(|variable| variable.split_once('='));
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use cdi::{ContainerEdits, Kind};
    use tessera_core::{Ledger, Offering, Part};

    use super::*;
    use crate::testing::{gpu, inventory};
    use crate::{Config, spec};

    fn edits(part: Part<'_>) -> Result<ContainerEdits, String> {
        let node = |name: &str| DeviceNode::new(format!("/dev/nvidia{name}"));
        let own = part.accelerator().address.bus.to_string();
        Ok(ContainerEdits {
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            device_nodes: vec![node("ctl"), node(&own)],
            ..ContainerEdits::default()
        })
    }

    #[test]
    fn a_container_gets_its_devices_by_the_ways_of_the_config() {
        let inventory = inventory(Offering::NOTHING, vec![gpu(1), gpu(2)]);
        let units = inventory.units(&Ledger::default());
        let kind = Kind::new("tessera.gpu.nvidia.com", "device").unwrap();
        let description = spec(&kind, &units, edits).unwrap().unwrap();
        let resource = ResourceName::new("nvidia.com", "gpu").unwrap();
        let mut text = String::new();
        for flags in [
            "",
            "plugin: {deviceListStrategy: cdi-cri, passDeviceSpecs: true}, gdsEnabled: true",
            "plugin: {deviceListStrategy: cdi-annotations}",
            "plugin: {deviceListStrategy: [cdi-annotations], cdiAnnotationPrefix: nvidia.cdi.k8s.io/}",
            "plugin: {deviceListStrategy: envvar}",
            "plugin: {deviceListStrategy: envvar, passDeviceSpecs: true}",
            "plugin: {deviceListStrategy: volume-mounts}",
            "plugin: {deviceListStrategy: [envvar, volume-mounts]}",
            "plugin: {deviceListStrategy: [envvar, cdi-cri], deviceIDStrategy: index}",
            "plugin: {deviceListStrategy: envvar}, gdrcopyEnabled: true, gdsEnabled: true, mofedEnabled: true",
        ] {
            let config = Config::parse(&format!("flags: {{{flags}}}")).unwrap();
            let answer = answer(&config.delivery, &resource, &units, &description);
            writeln!(text, "--- {flags}").unwrap();
            let short = |text: &str| text.replace("GPU-00000000-0000-0000-0000-0000000000", "");
            answer.environment.iter().for_each(|(name, value)| writeln!(text, "env {name}={}", short(value)).unwrap());
            answer.mounts.iter().for_each(|(path, from)| writeln!(text, "mount {from} at {}", short(path)).unwrap());
            answer.device_nodes.iter().for_each(|node| writeln!(text, "node {}", node.path).unwrap());
            answer.annotations.iter().for_each(|(key, value)| writeln!(text, "{key}: {}", short(value)).unwrap());
            answer.cdi_devices.iter().for_each(|name| writeln!(text, "cdi {}", short(name)).unwrap());
            for ignored in &config.ignored {
                writeln!(text, "changes nothing: {}: {}", ignored.path, ignored.instead).unwrap();
            }
        }
        insta::assert_snapshot!(text);
    }
}
