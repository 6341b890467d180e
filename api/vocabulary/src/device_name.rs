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

    /// A whole TPU chip: `tpu-0000-05-00-0` for PCI address `0000:05:00.0`. Google's own driver counts its chips, so that
    /// all names behind a broken one are another chip's after a restart.
    pub fn tpu(address: PciAddress) -> Self {
        Self(Self::gpu(address).0.replacen("gpu", "tpu", 1))
    }

    /// A whole GPU that is handed to user space: `vfio-0000-1b-00-0`.
    pub fn vfio(address: PciAddress) -> Self {
        Self(Self::gpu(address).0.replacen("gpu", "vfio", 1))
    }

    /// A MIG device: `gpu-0000-1b-00-0-mig-1g10gb-19-4` for profile `1g.10gb` with id 19 from memory slice 4 on. Ends as
    /// NVIDIA's own driver ends its names.
    pub fn mig(address: PciAddress, profile: &str, profile_id: u32, start: u32) -> Self {
        let letter = |c: char| match c {
            '+' => Some('-'),
            c => Some(c.to_ascii_lowercase()).filter(|c| c.is_ascii_alphanumeric() || *c == '-'),
        };
        // What a driver may call a profile some day must not make a name too long.
        let profile: String = profile.chars().filter_map(letter).take(16).collect();
        Self(format!("{}-mig-{profile}-{profile_id}-{start}", Self::gpu(address)))
    }

    /// A group of accelerators: `group-2-0000-1b-00-0-491e314c` for two of which `0000:1b:00.0` is the first. Eight
    /// addresses do not fit, so a checksum over all of them tells it from other groups that begin with the same.
    pub fn group(members: &[PciAddress]) -> Self {
        let PciAddress { domain, bus, device, function } = members.first().copied().unwrap_or_default();
        let all: Vec<String> = members.iter().map(ToString::to_string).collect();
        let checksum = crc32fast::hash(all.join(" ").as_bytes());
        let size = members.len();
        Self(format!("group-{size}-{domain:04x}-{bus:02x}-{device:02x}-{function:x}-{checksum:08x}"))
    }

    /// All accelerators of a fabric domain that spans nodes: `domain-rack-7-8a7d86ad` for `Rack.7`. What the API does not take
    /// in a name is written otherwise, so a checksum over the domain tells it from others that look the same.
    pub fn domain(domain: &str) -> Self {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let readable: String = domain.chars().map(letter).take(46).collect();
        Self(format!("domain-{readable}-{:08x}", crc32fast::hash(domain.as_bytes())))
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
        assert_eq!(DeviceName::tpu("0000:05:00.0".parse().unwrap()).as_str(), "tpu-0000-05-00-0");
        // A VMD domain has five digits.
        assert_eq!(DeviceName::gpu("10000:01:02.3".parse().unwrap()).as_str(), "gpu-10000-01-02-3");
    }

    #[test]
    fn a_mig_device_is_named_after_its_gpu_its_profile_and_its_place() {
        let address = "10000:1b:00.0".parse().unwrap();
        assert_eq!(DeviceName::mig(address, "1g.10gb+me", 20, 6).as_str(), "gpu-10000-1b-00-0-mig-1g10gb-me-20-6");
        let long = DeviceName::mig(address, "1G.1000gb+something.new+and.more", u32::MAX, 7);
        assert_eq!(long.as_str().parse(), Ok(long.clone()), "{}", long.as_str().len());
    }

    #[test]
    fn a_group_is_named_after_its_members() {
        let members = |text: &str| text.split(' ').map(|one| one.parse().unwrap()).collect::<Vec<PciAddress>>();
        let name = DeviceName::group(&members("0000:1b:00.0 0000:43:00.0"));
        assert_eq!(name.as_str(), "group-2-0000-1b-00-0-491e314c");
        assert_eq!(name.as_str().parse(), Ok(name.clone()));
        assert_ne!(DeviceName::group(&members("0000:1b:00.0 0000:52:00.0")), name);
    }

    #[test]
    fn a_domain_is_named_so_that_the_api_takes_it() {
        let clique = "c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.32766";
        for (domain, begins) in [
            (clique, "domain-c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35-32766-"),
            ("Rack 7/b", "domain-rack-7-b-"),
            ("_", "domain---"),
            (&"x".repeat(200), "domain-xxxxxx"),
        ] {
            let name = DeviceName::domain(domain);
            assert!(name.as_str().starts_with(begins) && name.as_str().parse() == Ok(name.clone()), "{name}");
        }
        assert_ne!(DeviceName::domain("a.1"), DeviceName::domain("a-1"));
    }

    #[test]
    fn refuses_what_is_no_dns_label() {
        for bad in ["", "gpu.0", "GPU-0", "gpu_0", "-gpu", "gpu/0"] {
            assert!(bad.parse::<DeviceName>().is_err(), "{bad:?} was taken");
        }
    }
}
