use std::mem;

use serde::{Deserialize, Serialize};

/// What a runtime changes in a container. The default changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerEdits {
    /// Environment variables, each `NAME=value`. Where several devices set the same one, the last wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Device nodes. One with the path of an earlier one takes its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices that move into the container; need version 1.1.0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub net_devices: Vec<NetDevice>,
    /// Programs to run as the container comes and goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// Mounts. One with the container path of an earlier one takes its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Cache and memory bandwidth of Intel processors; needs version 0.7.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// Groups that the container's process joins; need version 0.7.0. Runtimes ignore group 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

impl ContainerEdits {
    /// Whether nothing is changed. A device must change something.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds other edits behind these.
    pub fn append(&mut self, other: Self) {
        let Self { env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids } = other;
        self.env.extend(env);
        self.device_nodes.extend(device_nodes);
        self.net_devices.extend(net_devices);
        self.hooks.extend(hooks);
        self.mounts.extend(mounts);
        self.additional_gids.extend(additional_gids);
        self.intel_rdt = intel_rdt.or_else(|| self.intel_rdt.take());
    }

    /// Leaves out the environment, mounts and hooks that `earlier` has as well; for edits of a device that no container
    /// gets without an earlier one. Twice, they would do no harm: runtimes put a mount in the place of an earlier one at
    /// the same path, and the last variable wins. But a hook would run as often as it is named.
    ///
    /// Device nodes stay: they are what readers know a device by. So does everything where nothing else would be left.
    pub fn leave_out(&mut self, earlier: &Self) {
        let (env, hooks, mounts) = (mem::take(&mut self.env), mem::take(&mut self.hooks), mem::take(&mut self.mounts));
        let new = (left_out(&env, &earlier.env), left_out(&hooks, &earlier.hooks), left_out(&mounts, &earlier.mounts));
        let nothing_new = new.0.is_empty() && new.1.is_empty() && new.2.is_empty();
        (self.env, self.hooks, self.mounts) = if self.is_empty() && nothing_new { (env, hooks, mounts) } else { new };
    }
}

fn left_out<T: Clone + PartialEq>(all: &[T], earlier: &[T]) -> Vec<T> {
    all.iter().filter(|one| !earlier.contains(one)).cloned().collect()
}

/// A device node that appears in the container. What is left out, the runtime takes from the node on the host, and
/// fails the container if that is a symlink or missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// Where it appears in the container.
    pub path: String,
    /// Where it is on the host, if not at `path`; needs version 0.5.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<String>,
    /// What it is.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub device_type: Option<DeviceType>,
    /// Its major number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<u32>,
    /// Its minor number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Its permission bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// What the device cgroup allows: letters of `rwm` (read, write, make nodes). The default is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<String>,
    /// Its owner, if not the user of the container's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group, if not the group of the container's process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

impl DeviceNode {
    /// A node that is the same in the container and on the host.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceType {
    /// A block device.
    #[serde(rename = "b")]
    Block,
    /// A character device.
    #[serde(rename = "c")]
    Character,
    /// A character device without a buffer; the same as [`DeviceType::Character`] on Linux.
    #[serde(rename = "u")]
    Unbuffered,
    /// A named pipe.
    #[serde(rename = "p")]
    Fifo,
}

/// A network device of the host that moves into the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetDevice {
    /// Its name on the host; no two edits may take the same.
    pub host_interface_name: String,
    /// Its name in the container; no two may get the same.
    pub name: String,
}

/// A mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// What is mounted.
    pub host_path: String,
    /// Where it appears in the container.
    pub container_path: String,
    /// The file system type; needs version 0.4.0. Runtimes make a bind mount from the options alone.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub mount_type: Option<String>,
    /// Mount options, for instance `ro`, `nosuid`, `bind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A program that the runtime runs as the container comes and goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// When it runs.
    pub hook_name: HookName,
    /// The program, in the namespace of the runtime for all but [`HookName::StartContainer`].
    pub path: String,
    /// Its arguments, the first of which is its own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, each `NAME=value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Seconds after which the runtime ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// When a hook runs; the moments are those of the OCI runtime specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HookName {
    /// Before the container's process starts; superseded by the three that follow.
    Prestart,
    /// The namespaces exist, the root file system is not yet entered; runs in the runtime's namespaces.
    CreateRuntime,
    /// As `CreateRuntime`, in the container's namespaces.
    CreateContainer,
    /// Just before the container's process, inside the container.
    StartContainer,
    /// The container's process has started.
    Poststart,
    /// The container is gone.
    Poststop,
}

/// Resource control of Intel processors (`resctrl`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IntelRdt {
    /// The class of service: the name of a directory.
    #[serde(default, rename = "closID", skip_serializing_if = "Option::is_none")]
    pub clos_id: Option<String>,
    /// The schema for the third-level cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l3_cache_schema: Option<String>,
    /// The schema for memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_bw_schema: Option<String>,
    /// Lines for the schemata file; need version 1.1.0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schemata: Vec<String>,
    /// Whether the container gets a monitoring group; needs version 1.1.0.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_monitoring: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(env: &[&str], mounts: &[&str], nodes: &[&str]) -> ContainerEdits {
        let hook = Hook {
            hook_name: HookName::CreateContainer,
            path: "/hook".to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            timeout: None,
        };
        ContainerEdits {
            env: env.iter().map(|one| (*one).to_owned()).collect(),
            mounts: mounts.iter().map(|path| Mount { host_path: (*path).to_owned(), ..Mount::default() }).collect(),
            hooks: if mounts.is_empty() { Vec::new() } else { vec![hook] },
            device_nodes: nodes.iter().map(|path| DeviceNode::new(*path)).collect(),
            ..ContainerEdits::default()
        }
    }

    #[test]
    fn what_is_shared_is_left_out_but_for_nodes_and_the_last_that_is_left() {
        for (later, earlier, left) in [
            (
                edits(&["A=1"], &["/a"], &["/dev/b"]),
                edits(&["A=1"], &["/a"], &["/dev/a"]),
                edits(&[], &[], &["/dev/b"]),
            ),
            (
                edits(&["A=2"], &[], &["/dev/a"]),
                edits(&["A=1"], &["/a"], &["/dev/a"]),
                edits(&["A=2"], &[], &["/dev/a"]),
            ),
            (edits(&["A=1"], &["/a"], &[]), edits(&["A=1"], &["/a"], &[]), edits(&["A=1"], &["/a"], &[])),
            (edits(&["A=1", "B=1"], &[], &[]), edits(&["A=1"], &["/a"], &[]), edits(&["B=1"], &[], &[])),
        ] {
            let mut edits = later;
            edits.leave_out(&earlier);
            assert_eq!(edits, left);
        }
    }
}
