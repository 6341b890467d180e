use std::str::FromStr;

use clap::ValueEnum;
use tessera_driver::Accelerator;

/// By which of the kubelet's APIs devices are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OfferedBy {
    /// By Dynamic Resource Allocation: claims. Pods that have devices by the device plugin keep them.
    Dra,
    /// By the device plugin API: extended resources. Claims that hold devices keep them, and nothing else is published.
    DevicePlugin,
    /// By both, each device to whoever asks first.
    Both,
}

impl OfferedBy {
    /// Whether claims can have it.
    pub fn dra(self) -> bool {
        self != Self::DevicePlugin
    }

    /// Whether it can be had by count.
    pub fn device_plugin(self) -> bool {
        self != Self::Dra
    }
}

/// By which API one device is offered, whatever the others are: `gpu-0000-1b-00-0=dra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its name in a ResourceSlice, its UUID or its PCI address.
    device: String,
    by: OfferedBy,
}

impl FromStr for Exception {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "must be DEVICE=API, such as gpu-0000-1b-00-0=dra";
        let (device, api) = text.split_once('=').filter(|(device, _)| !device.is_empty()).ok_or(form)?;
        let by = OfferedBy::from_str(api, false).map_err(|_| "the API must be dra, device-plugin or both")?;
        Ok(Self { device: device.to_owned(), by })
    }
}

/// By which API each accelerator, and what it is cut into, is offered.
#[derive(Clone, Debug)]
pub struct Apis {
    node: OfferedBy,
    exceptions: Vec<Exception>,
}

impl Apis {
    /// What holds for a node, but for these.
    pub fn new(node: OfferedBy, exceptions: Vec<Exception>) -> Self {
        Self { node, exceptions }
    }

    /// What holds for an accelerator. Of several exceptions the last.
    pub fn of(&self, accelerator: &Accelerator) -> OfferedBy {
        // Asked of every accelerator after every prepare: its names are made only where some are named.
        if self.exceptions.is_empty() {
            return self.node;
        }
        let (name, address) = (accelerator.name(), accelerator.address.to_string());
        let names = [name.as_str(), accelerator.uuid(), &address];
        let own = self.exceptions.iter().rev().find(|exception| names.contains(&exception.device.as_str()));
        own.map_or(self.node, |exception| exception.by)
    }

    /// Whether some accelerator may be offered by count.
    pub fn device_plugin(&self) -> bool {
        self.node.device_plugin() || self.exceptions.iter().any(|exception| exception.by.device_plugin())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_name_a_device_and_an_api() {
        for (text, expected) in [
            ("gpu-0000-1b-00-0=dra", Some(("gpu-0000-1b-00-0", OfferedBy::Dra))),
            ("0000:1b:00.0=both", Some(("0000:1b:00.0", OfferedBy::Both))),
            ("GPU-1=device-plugin", Some(("GPU-1", OfferedBy::DevicePlugin))),
            ("GPU-1", None),
            ("=dra", None),
            ("GPU-1=", None),
            ("GPU-1=csi", None),
        ] {
            let exception: Option<Exception> = text.parse().ok();
            let found = exception.as_ref().map(|exception| (exception.device.as_str(), exception.by));
            assert_eq!(found, expected, "{text}");
        }
    }
}
