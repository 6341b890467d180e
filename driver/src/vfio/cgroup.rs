//! Which container a process belongs to, as its cgroup tells.

use std::fmt;

/// A container of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The container's id, as the runtime gave it.
    pub id: String,
    /// The UID of its pod, where the path says it.
    pub pod: Option<String>,
}

/// Enough to find it with `crictl`, which takes the beginning of an id.
impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pod) = &self.pod {
            write!(f, "pod {pod}, ")?;
        }
        write!(f, "container {}", self.id.get(..12).unwrap_or(&self.id))
    }
}

impl Container {
    /// Reads the content of `/proc/<pid>/cgroup`. The kubelet makes `kubepods/burstable/pod<uid>/<id>` with one driver
    /// and `kubepods.slice/…/kubepods-burstable-pod<uid with _>.slice/cri-containerd-<id>.scope` with the other.
    pub(super) fn of(cgroup: &str) -> Option<Self> {
        let path =
            cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|path| path.contains("kubepods"))?;
        let parts = || path.split('/');
        let mut ids = parts().filter_map(|part| {
            let name = part.strip_suffix(".scope").unwrap_or(part);
            let id = name.rsplit('-').next().unwrap_or(name);
            (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
        });
        let pod = parts().find_map(|part| {
            let name = part.strip_suffix(".slice").unwrap_or(part);
            let (_, uid) = name.rsplit_once("pod").filter(|(before, _)| before.is_empty() || before.ends_with('-'))?;
            // The UID of a static pod is a hash without dashes.
            let uid = uid.replace('_', "-");
            (uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then_some(uid)
        });
        Some(Self { id: ids.next_back()?, pod })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_of_the_kubelet() {
        let id = "0123456789abcdef".repeat(4);
        let uid = "3f1c5a52-0d9b-4a3e-9d1c-0a1b2c3d4e5f";
        let under = uid.replace('-', "_");
        let hash = "0123456789abcdef0123456789abcdef";
        for (cgroup, expected) in [
            (format!("0::/kubepods/burstable/pod{uid}/{id}\n"), Some(uid)),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{id}.scope\n"
                ),
                Some(uid),
            ),
            (format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-{id}.scope\n"), Some(uid)),
            (format!("12:devices:/kubepods/besteffort/pod{hash}/{id}\n1:name=systemd:/x\n"), Some(hash)),
        ] {
            let container = Container { id: id.clone(), pod: expected.map(str::to_owned) };
            assert_eq!(Container::of(&cgroup), Some(container), "{cgroup}");
        }
        for cgroup in ["", "0::/", "0::/system.slice/nvidia-persistenced.service\n", "0::/kubepods/besteffort\n"] {
            assert_eq!(Container::of(cgroup), None, "{cgroup}");
        }
    }

    #[test]
    fn ids_are_short_in_texts() {
        let container = Container { id: "0123456789abcdef".repeat(4), pod: Some("u".to_owned()) };
        assert_eq!(container.to_string(), "pod u, container 0123456789ab");
    }
}
