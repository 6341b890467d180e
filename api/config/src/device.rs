use std::fmt;

use crate::{GpuConfig, MigDeviceConfig, TpuConfig, VfioDeviceConfig};

/// What an allocated device is, as far as configs tell devices apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceType {
    /// A whole GPU with its driver, or a group of such.
    Gpu,
    /// A TPU chip, or a group of such.
    Tpu,
    /// A partition of an accelerator, as a MIG device.
    Partition,
    /// A whole PCI function that is handed to user space by VFIO.
    Passthrough,
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpu => "whole GPU",
            Self::Tpu => "TPU",
            Self::Partition => "partition",
            Self::Passthrough => "passthrough device",
        })
    }
}

/// What holds for a device, with every setting filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceConfig {
    /// For [`DeviceType::Gpu`].
    Gpu(GpuConfig),
    /// For [`DeviceType::Tpu`].
    Tpu(TpuConfig),
    /// For [`DeviceType::Partition`].
    Partition(MigDeviceConfig),
    /// For [`DeviceType::Passthrough`].
    Passthrough(VfioDeviceConfig),
}

impl DeviceConfig {
    /// What holds for a device of which no config says anything.
    pub fn default_for(device_type: DeviceType) -> Self {
        match device_type {
            DeviceType::Gpu => Self::Gpu(GpuConfig::default()),
            DeviceType::Tpu => Self::Tpu(TpuConfig::default()),
            DeviceType::Partition => Self::Partition(MigDeviceConfig::default()),
            DeviceType::Passthrough => Self::Passthrough(VfioDeviceConfig::default()),
        }
    }

    /// What the environment of a container with the device says of it. All devices of a claim that say a variable say the
    /// same; see [`resolve`](crate::resolve).
    pub fn environment(&self) -> Vec<Variable> {
        match self {
            Self::Tpu(config) => config.environment(),
            Self::Gpu(_) | Self::Partition(_) | Self::Passthrough(_) => Vec::new(),
        }
    }
}

/// A setting that a container is told of by its environment. Shown as `NAME=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The variable.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The field of the config, below `parameters`.
    pub path: &'static str,
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}
