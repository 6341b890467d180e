use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::edits::{ContainerEdits, DeviceNode, Hook, IntelRdt, Mount, NetDevice};
use crate::names::has_alphanumeric_ends;
use crate::{Device, Spec, Version};

/// Why a spec was refused: where, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct Invalid {
    /// The path of the field, for instance `devices[0].containerEdits.mounts[2].hostPath`.
    pub field: String,
    /// What is wrong there.
    #[source]
    pub fault: Fault,
}

/// What is wrong with a field. Each text has the value and what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A spec without devices.
    #[error("there are no devices: there must be at least one")]
    NoDevices,
    /// Two devices with one name.
    #[error("{0:?} is the name of an earlier device: each name may occur once")]
    DuplicateDevice(String),
    /// A device that changes nothing.
    #[error("there are no edits: a device must change something")]
    NoEdits,
    /// Content that the declared version does not have.
    #[error("{declared} is too low: the content needs at least {needed}")]
    VersionTooLow {
        /// What the spec declares.
        declared: Version,
        /// What its content needs.
        needed: Version,
    },
    /// Not an environment variable.
    #[error("{0:?} is not allowed: it must be NAME=value, NAME not empty, without a zero byte")]
    Environment(String),
    /// Not an absolute path.
    #[error("{0:?} is not allowed: it must be an absolute path without a zero byte")]
    Path(String),
    /// Not cgroup permissions. The newest loaders also take `none`, but no version of the format stands for it, so
    /// older ones would refuse the spec.
    #[error("{0:?} is not allowed: it must be one or more of the letters r, w and m")]
    Permissions(String),
    /// Not the name of a network interface.
    #[error("{0:?} is not allowed: it must be the name of a network interface")]
    Interface(String),
    /// Two network devices with one name.
    #[error("{0:?} is the name of an earlier network device: each name may occur once")]
    DuplicateInterface(String),
    /// Not a class of service. The newest loaders also take `/`, the root class, but no version of the format stands for
    /// it, so older ones would refuse the spec.
    #[error("{0:?} is not allowed: it must be the name of a directory")]
    ClassOfService(String),
    /// Not the key of an annotation.
    #[error(
        "annotation key {0:?} is not allowed: it must be a name of at most 63 letters, digits, '-', '_' and '.', \
         starting and ending with a letter or digit, after an optional DNS subdomain and '/'"
    )]
    AnnotationKey(String),
    /// Annotations that are too long.
    #[error("the annotations have {0} bytes: at most 262144 are allowed")]
    AnnotationSize(usize),
}

/// The longest annotations of a spec or device, in bytes, as for Kubernetes objects.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Every check ends so; `Err` is the first fault.
type Check = Result<(), Invalid>;

fn refuse(field: &str, fault: Fault) -> Check {
    Err(Invalid { field: field.to_owned(), fault })
}

/// Puts the path of the parent before that of the field. Called on the way out of a failure only, so that a spec
/// without faults costs no formatting.
fn within(parent: impl fmt::Display) -> impl FnOnce(Invalid) -> Invalid {
    move |invalid| Invalid { field: format!("{parent}.{}", invalid.field), fault: invalid.fault }
}

impl Spec {
    /// Checks all that a loader checks, and that paths are absolute, which it leaves to the runtime.
    pub fn validate(&self) -> Check {
        let (declared, needed) = (self.cdi_version, self.minimum_version());
        if declared < needed {
            return refuse("cdiVersion", Fault::VersionTooLow { declared, needed });
        }
        annotations(&self.annotations)?;
        self.container_edits.validate().map_err(within("containerEdits"))?;
        if self.devices.is_empty() {
            return refuse("devices", Fault::NoDevices);
        }
        let mut names = BTreeSet::new();
        for (index, device) in self.devices.iter().enumerate() {
            device.validate().map_err(within(format_args!("devices[{index}]")))?;
            if !names.insert(&device.name) {
                return refuse(&format!("devices[{index}].name"), Fault::DuplicateDevice(device.name.to_string()));
            }
        }
        Ok(())
    }
}

impl Device {
    fn validate(&self) -> Check {
        annotations(&self.annotations)?;
        if self.container_edits.is_empty() {
            return refuse("containerEdits", Fault::NoEdits);
        }
        self.container_edits.validate().map_err(within("containerEdits"))
    }
}

impl ContainerEdits {
    fn validate(&self) -> Check {
        environment(&self.env)?;
        for (index, node) in self.device_nodes.iter().enumerate() {
            node.validate().map_err(within(format_args!("deviceNodes[{index}]")))?;
        }
        for (index, device) in self.net_devices.iter().enumerate() {
            device.validate(&self.net_devices[..index]).map_err(within(format_args!("netDevices[{index}]")))?;
        }
        for (index, hook) in self.hooks.iter().enumerate() {
            hook.validate().map_err(within(format_args!("hooks[{index}]")))?;
        }
        for (index, mount) in self.mounts.iter().enumerate() {
            mount.validate().map_err(within(format_args!("mounts[{index}]")))?;
        }
        self.intel_rdt.as_ref().map_or(Ok(()), |rdt| rdt.validate().map_err(within("intelRdt")))
    }
}

impl DeviceNode {
    fn validate(&self) -> Check {
        absolute("path", &self.path)?;
        self.host_path.as_ref().map_or(Ok(()), |path| absolute("hostPath", path))?;
        match &self.permissions {
            Some(letters) if letters.is_empty() || !letters.bytes().all(|letter| b"rwm".contains(&letter)) => {
                refuse("permissions", Fault::Permissions(letters.clone()))
            }
            _ => Ok(()),
        }
    }
}

impl NetDevice {
    fn validate(&self, earlier: &[Self]) -> Check {
        interface("hostInterfaceName", &self.host_interface_name)?;
        interface("name", &self.name)?;
        if earlier.iter().any(|other| other.host_interface_name == self.host_interface_name) {
            return refuse("hostInterfaceName", Fault::DuplicateInterface(self.host_interface_name.clone()));
        }
        if earlier.iter().any(|other| other.name == self.name) {
            return refuse("name", Fault::DuplicateInterface(self.name.clone()));
        }
        Ok(())
    }
}

impl Hook {
    fn validate(&self) -> Check {
        absolute("path", &self.path)?;
        environment(&self.env)
    }
}

impl Mount {
    fn validate(&self) -> Check {
        // A file system that is not on a device has a source which is no path, such as `tmpfs`.
        let is_bind = self.mount_type.as_deref().is_none_or(|mount_type| mount_type == "bind");
        if is_bind || self.host_path.is_empty() || self.host_path.contains('\0') {
            absolute("hostPath", &self.host_path)?;
        }
        absolute("containerPath", &self.container_path)
    }
}

impl IntelRdt {
    fn validate(&self) -> Check {
        match self.clos_id.as_deref() {
            Some(id) if id.len() >= 4096 || id == "." || id == ".." || id.contains(['/', '\n']) => {
                refuse("closID", Fault::ClassOfService(id.to_owned()))
            }
            _ => Ok(()),
        }
    }
}

fn absolute(field: &str, path: &str) -> Check {
    if path.starts_with('/') && !path.contains('\0') { Ok(()) } else { refuse(field, Fault::Path(path.to_owned())) }
}

fn environment(variables: &[String]) -> Check {
    let allowed = |variable: &str| variable.find('=').is_some_and(|end| end > 0) && !variable.contains('\0');
    match variables.iter().position(|variable| !allowed(variable)) {
        Some(index) => refuse(&format!("env[{index}]"), Fault::Environment(variables[index].clone())),
        None => Ok(()),
    }
}

/// Linux takes any other name of at most 15 bytes (`dev_valid_name`).
fn interface(field: &str, name: &str) -> Check {
    let allowed = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|character: char| character == '/' || character == ':' || character.is_ascii_whitespace());
    if allowed { Ok(()) } else { refuse(field, Fault::Interface(name.to_owned())) }
}

/// The rules of Kubernetes for annotations, which the CDI specification takes over.
fn annotations(annotations: &BTreeMap<String, String>) -> Check {
    let field = "annotations";
    if let Some(key) = annotations.keys().find(|key| !is_annotation_key(key)) {
        return refuse(field, Fault::AnnotationKey(key.clone()));
    }
    let size = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS { refuse(field, Fault::AnnotationSize(size)) } else { Ok(()) }
}

fn is_annotation_key(key: &str) -> bool {
    let is_label = |label: &str| {
        label.len() <= 63
            && has_alphanumeric_ends(label)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_name = |name: &str| {
        name.len() <= 63
            && has_alphanumeric_ends(name)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match key.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(is_label) && is_name(name),
        None => is_name(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Spec {
        let edits = ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() };
        let devices = ["a", "b"].map(|name| Device::new(name.parse().unwrap(), edits.clone()));
        Spec { cdi_version: Version::V1_1_0, ..Spec::new("example.com/gpu".parse().unwrap(), devices.into()) }
    }

    /// What is said of a valid spec after this change to the edits of its second device.
    fn edited(change: impl FnOnce(&mut ContainerEdits)) -> String {
        let mut spec = valid();
        change(&mut spec.devices[1].container_edits);
        spec.validate().map_or_else(|invalid| invalid.to_string(), |()| "valid".to_owned())
    }

    /// What is said of a valid spec after this change.
    fn changed(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = valid();
        change(&mut spec);
        spec.validate().map_or_else(|invalid| invalid.to_string(), |()| "valid".to_owned())
    }

    #[test]
    fn the_whole_spec() {
        assert_eq!(changed(|_| {}), "valid");
        assert_eq!(changed(|spec| spec.devices.clear()), "devices: there are no devices: there must be at least one");
        assert_eq!(
            changed(|spec| spec.devices[1].name = spec.devices[0].name.clone()),
            r#"devices[1].name: "a" is the name of an earlier device: each name may occur once"#
        );
        assert_eq!(
            changed(|spec| {
                spec.cdi_version = Version::V0_6_0;
                spec.container_edits.additional_gids = vec![44];
            }),
            "cdiVersion: 0.6.0 is too low: the content needs at least 0.7.0"
        );
        assert_eq!(
            edited(|edits| *edits = ContainerEdits::default()),
            "devices[1].containerEdits: there are no edits: a device must change something"
        );
        assert!(
            changed(|spec| spec.container_edits.env = vec!["A".to_owned()]).starts_with("containerEdits.env[0]: \"A\"")
        );
    }

    #[test]
    fn environment_variables() {
        for good in ["A=b", "A=", "A=b=c", "a b=c"] {
            assert_eq!(edited(|edits| edits.env.push(good.to_owned())), "valid", "{good:?}");
        }
        for bad in ["", "A", "=", "=b", "A=\0"] {
            let said = edited(|edits| edits.env.push(bad.to_owned()));
            assert!(said.starts_with(&format!("devices[1].containerEdits.env[1]: {bad:?} is not allowed")), "{said}");
        }
    }

    #[test]
    fn paths() {
        let node = |path: &str| DeviceNode::new(path);
        let from = |path: &str| DeviceNode { host_path: Some(path.to_owned()), ..DeviceNode::new("/dev/a") };
        let mount = |host: &str, container: &str, mount_type: Option<&str>| Mount {
            host_path: host.to_owned(),
            container_path: container.to_owned(),
            mount_type: mount_type.map(str::to_owned),
            options: Vec::new(),
        };
        assert_eq!(edited(|edits| edits.device_nodes = vec![node("/dev/a"), from("/dev/b")]), "valid");
        assert_eq!(edited(|edits| edits.mounts = vec![mount("/a", "/b", None)]), "valid");
        assert_eq!(edited(|edits| edits.mounts = vec![mount("tmpfs", "/b", Some("tmpfs"))]), "valid");

        for bad in ["", "dev/a", "/dev/\0"] {
            for (field, said) in [
                ("deviceNodes[0].path", edited(|edits| edits.device_nodes = vec![node(bad)])),
                ("deviceNodes[0].hostPath", edited(|edits| edits.device_nodes = vec![from(bad)])),
                ("mounts[0].hostPath", edited(|edits| edits.mounts = vec![mount(bad, "/b", None)])),
                ("mounts[0].hostPath", edited(|edits| edits.mounts = vec![mount(bad, "/b", Some("bind"))])),
                ("mounts[0].containerPath", edited(|edits| edits.mounts = vec![mount("/a", bad, None)])),
                ("hooks[0].path", edited(|edits| edits.hooks = vec![hook(bad, &[])])),
            ] {
                let expected = format!("devices[1].containerEdits.{field}: {bad:?} is not allowed");
                assert!(said.starts_with(&expected), "{said}");
            }
        }
    }

    fn hook(path: &str, env: &[&str]) -> Hook {
        Hook {
            hook_name: crate::HookName::CreateContainer,
            path: path.to_owned(),
            args: Vec::new(),
            env: env.iter().map(|&variable| variable.to_owned()).collect(),
            timeout: None,
        }
    }

    #[test]
    fn hooks() {
        assert_eq!(edited(|edits| edits.hooks = vec![hook("/hook", &["A=b"])]), "valid");
        let said = edited(|edits| edits.hooks = vec![hook("/hook", &["A=b", "A"])]);
        assert!(said.starts_with("devices[1].containerEdits.hooks[0].env[1]: \"A\" is not allowed"), "{said}");
    }

    #[test]
    fn permissions() {
        let with = |letters: &str| {
            let node = DeviceNode { permissions: Some(letters.to_owned()), ..DeviceNode::new("/dev/a") };
            edited(|edits| edits.device_nodes = vec![node])
        };
        for good in ["r", "rw", "rwm", "mwr"] {
            assert_eq!(with(good), "valid", "{good:?}");
        }
        for bad in ["", "x", "rwx", "none", "RW"] {
            let expected = format!("devices[1].containerEdits.deviceNodes[0].permissions: {bad:?} is not allowed");
            assert!(with(bad).starts_with(&expected), "{bad:?}");
        }
    }

    #[test]
    fn network_devices() {
        let with = |names: &[(&str, &str)]| {
            let device = |&(host, name): &(&str, &str)| NetDevice {
                host_interface_name: host.to_owned(),
                name: name.to_owned(),
            };
            edited(|edits| edits.net_devices = names.iter().map(device).collect())
        };
        assert_eq!(with(&[("ib0", "net0"), ("ib1", "net1"), ("a23456789012345", "ib0")]), "valid");
        for (names, field) in [
            (&[("ib0", "a"), ("ib0", "b")][..], "netDevices[1].hostInterfaceName"),
            (&[("ib0", "a"), ("ib1", "a")], "netDevices[1].name"),
            (&[("", "a")], "netDevices[0].hostInterfaceName"),
            (&[("ib0", "..")], "netDevices[0].name"),
            (&[("ib0", "a/b")], "netDevices[0].name"),
            (&[("ib0", "a234567890123456")], "netDevices[0].name"),
        ] {
            assert!(with(names).starts_with(&format!("devices[1].containerEdits.{field}: ")), "{names:?}");
        }
    }

    #[test]
    fn classes_of_service() {
        let with = |id: &str| {
            let rdt = IntelRdt { clos_id: Some(id.to_owned()), ..Default::default() };
            edited(|edits| edits.intel_rdt = Some(rdt))
        };
        for good in ["gpu", "a.b"] {
            assert_eq!(with(good), "valid", "{good:?}");
        }
        for bad in ["/", ".", "..", "a/b", "/a", "a\nb", &"a".repeat(4096)] {
            assert!(with(bad).starts_with("devices[1].containerEdits.intelRdt.closID: "), "{bad:?}");
        }
    }

    #[test]
    fn annotation_keys_and_sizes() {
        let with = |key: &str, value: String| changed(|spec| _ = spec.annotations.insert(key.to_owned(), value));
        let longest = "a".repeat(63);
        for good in ["a", "A.b-c_d", "example.com/a", longest.as_str(), &format!("a.b/{longest}")] {
            assert_eq!(with(good, String::new()), "valid", "{good:?}");
        }
        for bad in
            ["", "-a", "a-", "a/", "/a", "a/b/c", "a..b/c", "a b", &"a".repeat(64), &format!("{}/a", "a.".repeat(127))]
        {
            assert!(with(bad, String::new()).starts_with(&format!("annotations: annotation key {bad:?}")), "{bad:?}");
        }
        assert_eq!(with("a", "v".repeat(MAX_ANNOTATIONS - 1)), "valid");
        assert_eq!(
            with("a", "v".repeat(MAX_ANNOTATIONS)),
            "annotations: the annotations have 262145 bytes: at most 262144 are allowed"
        );
        let of_device = changed(|spec| _ = spec.devices[0].annotations.insert("-".to_owned(), String::new()));
        assert!(of_device.starts_with("devices[0].annotations: annotation key \"-\""), "{of_device}");
    }
}
