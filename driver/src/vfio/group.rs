//! IOMMU groups: what the IOMMU cannot keep apart goes to user space together or not at all.

use tessera_vocabulary::PciAddress;

use super::KernelDriver;

/// An IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IommuGroup {
    /// Its number: the `12` of `/dev/vfio/12`.
    pub number: u32,
    /// The PCI functions in it, by address.
    pub members: Vec<Member>,
}

/// A PCI function of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it sits.
    pub address: PciAddress,
    /// The driver that has it.
    pub driver: Option<KernelDriver>,
    /// Whether it is a bridge. Bridges stay with the kernel.
    pub bridge: bool,
}

impl Member {
    /// Whether user space can be given the group while it is as it is: with a VFIO driver or none, or a bridge
    /// (`iommu_group_claim_dma_owner`; drivers with `driver_managed_dma` do not count).
    pub fn is_no_obstacle(&self) -> bool {
        self.bridge || self.driver.as_ref().is_none_or(|driver| driver.is_vfio() || driver.as_str() == "pci-stub")
    }
}

impl IommuGroup {
    /// Whether user space could be given the group now.
    pub fn is_viable(&self) -> bool {
        self.members.iter().all(Member::is_no_obstacle)
    }

    /// The functions that go to user space with a device: those of its slot, the device first.
    pub fn companions(&self, device: PciAddress) -> Vec<&Member> {
        let same_slot = |one: PciAddress| PciAddress { function: device.function, ..one } == device;
        let mut moved: Vec<&Member> = self.members.iter().filter(|one| same_slot(one.address) && !one.bridge).collect();
        moved.sort_by_key(|one| (one.address != device, one.address));
        moved
    }

    /// The functions of other devices that stand in the way. We do not move what nobody asked us to.
    pub fn obstacles(&self, device: PciAddress) -> Vec<&Member> {
        let moved = self.companions(device);
        self.members.iter().filter(|one| !one.is_no_obstacle() && !moved.contains(one)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_goes_together_and_others_stand_in_the_way() {
        let member = |address: &str, driver: &str, bridge| Member {
            address: address.parse().unwrap(),
            driver: driver.parse().ok(),
            bridge,
        };
        let members = vec![
            member("0000:1a:00.0", "pcieport", true),
            member("0000:1b:00.0", "nvidia", false),
            member("0000:1b:00.1", "snd_hda_intel", false),
            member("0000:1c:00.0", "nvme", false),
            member("0000:1d:00.0", "", false),
            member("0000:1e:00.0", "vfio-pci", false),
        ];
        let mut group = IommuGroup { number: 3, members };
        let names = |members: Vec<&Member>| members.iter().map(|one| one.address.to_string()).collect::<Vec<_>>();
        let audio = "0000:1b:00.1".parse().unwrap();
        assert_eq!(names(group.companions(audio)), ["0000:1b:00.1", "0000:1b:00.0"]);
        assert_eq!(names(group.obstacles(audio)), ["0000:1c:00.0"]);
        assert!(!group.is_viable());
        group.members.retain(Member::is_no_obstacle);
        assert!(group.is_viable());
    }
}
