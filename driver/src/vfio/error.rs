use std::fmt::Write;
use std::io;

use tessera_vocabulary::PciAddress;

use super::{Action, Holder, KernelDriver};

/// Why a device cannot be handed to user space, or cannot come back. Each text says device, cause and what to do, and is
/// short enough for an event of a pod.
#[derive(Debug, thiserror::Error)]
pub enum VfioError {
    /// There is no such function.
    #[error("{device}: not on the PCI bus; it was unplugged or has failed, look at the kernel's log")]
    NoDevice {
        /// The function.
        device: PciAddress,
    },
    /// The function has no IOMMU group.
    #[error(
        "{device}: passthrough needs an IOMMU and it is off; switch it on in the firmware and the kernel (intel_iommu=on, or amd_iommu=on)"
    )]
    NoIommu {
        /// The device.
        device: PciAddress,
    },
    /// The kernel has no VFIO for PCI, or the module is not loaded.
    #[error("{device}: the kernel module {module} is not loaded; load it with modprobe, and at boot by modules-load.d")]
    NoDriver {
        /// The device.
        device: PciAddress,
        /// The module that it needs.
        module: String,
    },
    /// Another device shares the IOMMU group and is in use by the kernel.
    #[error(
        "{device}: IOMMU group {group} also has {obstacle}, which {driver} uses{}; bind it to vfio-pci or unbind it, or put the device into another slot",
        more(.others)
    )]
    NotViable {
        /// The device.
        device: PciAddress,
        /// The group.
        group: u32,
        /// The first function that stands in the way.
        obstacle: PciAddress,
        /// The driver that it has.
        driver: KernelDriver,
        /// How many more stand in the way.
        others: usize,
    },
    /// Virtual functions of the device are enabled.
    #[error("{device}: {number} SR-IOV virtual functions are enabled; write 0 to its sriov_numvfs when none is in use")]
    VirtualFunctions {
        /// The device.
        device: PciAddress,
        /// How many.
        number: u32,
    },
    /// Processes have the device open.
    #[error("{device}: {step}: held by {}; end what uses it, then it is tried again", names(.holders))]
    Held {
        /// The function.
        device: PciAddress,
        /// What was not done.
        step: Action,
        /// The processes.
        holders: Vec<Holder>,
    },
    /// The kernel did not answer in time, and no process is known to hold the device.
    #[error("{device}: {step}: the kernel did not answer in time{}; it is tried again, and the kernel's log may say more", releasing(.driver))]
    TimedOut {
        /// The function.
        device: PciAddress,
        /// What was not done.
        step: Action,
        /// The driver that has not let go.
        driver: Option<KernelDriver>,
    },
    /// The driver did not take the function, or another one did.
    #[error("{device}: drivers_probe: {wanted} did not take it, {} has it; look at the kernel's log", someone(.found))]
    NotTaken {
        /// The function.
        device: PciAddress,
        /// The driver that should have it.
        wanted: KernelDriver,
        /// The driver that has it.
        found: Option<KernelDriver>,
    },
    /// The node of the device did not appear.
    #[error(
        "{device}: {node} did not appear; is /dev of the node mounted here, and does the kernel have VFIO's nodes?"
    )]
    NoNode {
        /// The device.
        device: PciAddress,
        /// The node.
        node: String,
    },
    /// The kernel refused a write.
    #[error("{device}: {step}: {cause}; {}", what_to_do(.cause))]
    Refused {
        /// The function.
        device: PciAddress,
        /// What was not done.
        step: Action,
        /// What the kernel said.
        #[source]
        cause: io::Error,
    },
}

/// What becomes of another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody uses the device: it succeeds when they are done.
    Busy,
    /// It may succeed at once.
    Retry,
    /// It does not succeed before an admin has changed something.
    Permanent,
}

impl VfioError {
    /// What becomes of another try.
    pub fn class(&self) -> Class {
        match self {
            Self::Held { .. } | Self::VirtualFunctions { .. } => Class::Busy,
            Self::TimedOut { .. } | Self::NotTaken { .. } | Self::NoNode { .. } => Class::Retry,
            Self::NoDevice { .. } | Self::NoIommu { .. } | Self::NoDriver { .. } | Self::NotViable { .. } => {
                Class::Permanent
            }
            Self::Refused { cause, .. } => match cause.kind() {
                io::ErrorKind::ResourceBusy => Class::Busy,
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::InvalidInput => {
                    Class::Permanent
                }
                _ => Class::Retry,
            },
        }
    }
}

fn what_to_do(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::ResourceBusy => "somebody uses it, it is tried again",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give the agent /sys of the node for writing, and CAP_SYS_ADMIN"
        }
        _ => "look at the kernel's log",
    }
}

/// The first of the holders by name, and how many more.
fn names(holders: &[Holder]) -> String {
    let mut text = holders.first().map(ToString::to_string).unwrap_or_default();
    let others = holders.len().saturating_sub(1);
    text.push_str(&more(&others));
    text
}

fn more(others: &usize) -> String {
    if *others == 0 { String::new() } else { format!(" and {others} more") }
}

fn releasing(driver: &Option<KernelDriver>) -> String {
    let mut text = String::new();
    if let Some(driver) = driver {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {driver} has not let go");
    }
    text
}

fn someone(driver: &Option<KernelDriver>) -> String {
    driver.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfio::Container;

    #[test]
    fn texts_fit_an_event_at_their_longest() {
        let device: PciAddress = "fffffff0:ff:1f.7".parse().unwrap();
        let driver: KernelDriver = "nvgrace_gpu_vfio_pci".parse().unwrap();
        let holder = Holder {
            pid: 4_194_304,
            name: "nvidia-persiste".to_owned(),
            container: Some(Container {
                id: "0".repeat(64),
                pod: Some("3f1c5a52-0d9b-4a3e-9d1c-0a1b2c3d4e5f".to_owned()),
            }),
        };
        let step = Action::Override;
        let refused = |errno| VfioError::Refused { device, step, cause: io::Error::from_raw_os_error(errno) };
        for (error, class) in [
            (VfioError::NoDevice { device }, Class::Permanent),
            (VfioError::NoIommu { device }, Class::Permanent),
            (VfioError::NoDriver { device, module: driver.to_string() }, Class::Permanent),
            (
                VfioError::NotViable { device, group: 1000, obstacle: device, driver: driver.clone(), others: 10 },
                Class::Permanent,
            ),
            (VfioError::VirtualFunctions { device, number: 256 }, Class::Busy),
            (VfioError::Held { device, step, holders: vec![holder; 100] }, Class::Busy),
            (VfioError::TimedOut { device, step, driver: Some(driver.clone()) }, Class::Retry),
            (VfioError::NotTaken { device, wanted: driver.clone(), found: Some(driver) }, Class::Retry),
            (VfioError::NoNode { device, node: "/dev/vfio/devices/vfio1000".to_owned() }, Class::Retry),
            (refused(16), Class::Busy),
            (refused(13), Class::Permanent),
            (refused(30), Class::Permanent),
            (refused(22), Class::Permanent),
            (refused(5), Class::Retry),
        ] {
            let text = error.to_string();
            assert!(text.len() < 256 && text.starts_with("fffffff0:ff:1f.7: "), "{}: {text}", text.len());
            assert_eq!(error.class(), class, "{text}");
        }
    }
}
