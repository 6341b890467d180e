use std::fmt;

use crate::{GpuConfig, MigDeviceConfig, VfioDeviceConfig};

/// What an allocated device is, as far as configs tell devices apart. The same for every vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceType {
    /// A whole accelerator with its driver.
    Whole,
    /// A partition of an accelerator, as a MIG device.
    Partition,
    /// A whole PCI function that is handed to user space by VFIO.
    Passthrough,
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "whole device",
            Self::Partition => "partition",
            Self::Passthrough => "passthrough device",
        })
    }
}

/// What holds for a device, with every setting filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceConfig {
    /// For [`DeviceType::Whole`].
    Whole(GpuConfig),
    /// For [`DeviceType::Partition`].
    Partition(MigDeviceConfig),
    /// For [`DeviceType::Passthrough`].
    Passthrough(VfioDeviceConfig),
}

impl DeviceConfig {
    /// What holds for a device of which no config says anything.
    pub fn default_for(device_type: DeviceType) -> Self {
        match device_type {
            DeviceType::Whole => Self::Whole(GpuConfig::default()),
            DeviceType::Partition => Self::Partition(MigDeviceConfig::default()),
            DeviceType::Passthrough => Self::Passthrough(VfioDeviceConfig::default()),
        }
    }
}
