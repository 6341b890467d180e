use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PciAddress;
use crate::driver_name::is_dns_label;

/// The name of a device in its pool: a DNS label of at most 63 characters.
///
/// Names come from what survives reboots and driver reloads (the PCI address), never from an index or a
/// minor number, which a driver reload may hand out anew. Nothing parses a name to recover state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// A whole GPU: `gpu-0000-1b-00-0` for PCI address `0000:1b:00.0`.
    pub fn gpu(address: PciAddress) -> Self {
        let PciAddress { domain, bus, device, function } = address;
        Self(format!("gpu-{domain:04x}-{bus:02x}-{device:02x}-{function:x}"))
    }

    /// The name as the API spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a device name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device name {0:?} is not allowed: it must be a DNS label: 1 to 63 of a-z, 0-9 and -, \
     starting and ending with a letter or digit"
)]
pub struct InvalidDeviceName(String);

impl FromStr for DeviceName {
    type Err = InvalidDeviceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for DeviceName {
    type Error = InvalidDeviceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_dns_label(&text) { Ok(Self(text)) } else { Err(InvalidDeviceName(text)) }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_named_after_its_address() {
        let name = DeviceName::gpu("00000000:1B:00.0".parse().unwrap());
        assert_eq!(name.as_str(), "gpu-0000-1b-00-0");
        assert_eq!(name.as_str().parse(), Ok(name));
        // A VMD domain has five digits.
        assert_eq!(DeviceName::gpu("10000:01:02.3".parse().unwrap()).as_str(), "gpu-10000-01-02-3");
    }

    #[test]
    fn refuses_what_is_no_dns_label() {
        for bad in ["", "gpu.0", "GPU-0", "gpu_0", "-gpu", "gpu/0"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?} was taken");
        }
    }
}
