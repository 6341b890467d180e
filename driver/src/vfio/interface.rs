use cdi::ContainerEdits;

use crate::Root;

/// A way for user space to a device that VFIO has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By its IOMMU group and the container device: `/dev/vfio/<group>`, `/dev/vfio/vfio`.
    Legacy {
        /// The group's number.
        group: u32,
    },
    /// By itself and the iommufd device: `/dev/vfio/devices/vfio<n>`, `/dev/iommu`. Since Linux 6.6.
    Iommufd {
        /// The `<n>` of `vfio<n>`.
        device: u32,
    },
}

impl Interface {
    /// The device's own node.
    pub fn node(&self) -> String {
        match self {
            Self::Legacy { group } => format!("/dev/vfio/{group}"),
            Self::Iommufd { device } => format!("/dev/vfio/devices/vfio{device}"),
        }
    }

    /// The node that all devices share.
    pub fn shared_node(&self) -> &'static str {
        match self {
            Self::Legacy { .. } => "/dev/vfio/vfio",
            Self::Iommufd { .. } => "/dev/iommu",
        }
    }

    /// The nodes that a virtual machine monitor in a container needs. It also needs to lock its guest's memory
    /// (`RLIMIT_MEMLOCK`), which CDI cannot say.
    pub fn container_edits(&self, root: &Root) -> ContainerEdits {
        let nodes = [self.shared_node().to_owned(), self.node()];
        ContainerEdits {
            device_nodes: nodes.into_iter().map(|path| root.device_node(path)).collect(),
            ..ContainerEdits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_interfaces() {
        for (interface, expected) in [
            (Interface::Legacy { group: 12 }, ["/dev/vfio/vfio", "/dev/vfio/12"]),
            (Interface::Iommufd { device: 3 }, ["/dev/iommu", "/dev/vfio/devices/vfio3"]),
        ] {
            let edits = interface.container_edits(&Root::new("/host", "/"));
            let nodes = &edits.device_nodes;
            assert_eq!(nodes.iter().map(|node| node.path.as_str()).collect::<Vec<_>>(), expected);
            assert!(nodes.iter().all(|node| node.permissions.as_deref() == Some("rw") && node.host_path.is_none()));
        }
    }
}
