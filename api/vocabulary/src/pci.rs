use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address of a PCI function. What a device is known by across reboots and driver reloads.
///
/// Two spellings are read, since NVML writes eight digits of domain and sysfs four; one is written:
///
/// ```
/// use tessera_vocabulary::PciAddress;
///
/// let address: PciAddress = "00000000:3B:00.0".parse().unwrap();
/// assert_eq!(address.to_string(), "0000:3b:00.0");
/// assert_eq!(Ok(address), "0000:3b:00.0".parse());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// The PCI domain (segment). Above 0xffff behind Intel's VMD.
    pub domain: u32,
    /// The bus in the domain.
    pub bus: u8,
    /// The device (slot) on the bus: 0 to 31.
    pub device: u8,
    /// The function of the device: 0 to 7.
    pub function: u8,
}

/// Why a PCI address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a PCI address: it must look like 0000:3b:00.0 (domain:bus:device.function, in hexadecimal)")]
pub struct InvalidPciAddress(String);

impl FromStr for PciAddress {
    type Err = InvalidPciAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidPciAddress(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let hex = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
        let well_formed = lengths.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        well_formed.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    let small = |value: u32, limit: u8| u8::try_from(value).ok().filter(|value| *value <= limit);
    Some(PciAddress {
        domain: hex(domain, 4..=8)?,
        bus: small(hex(bus, 2..=2)?, u8::MAX)?,
        device: small(hex(device, 2..=2)?, 31)?,
        function: small(hex(function, 1..=1)?, 7)?,
    })
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl TryFrom<String> for PciAddress {
    type Error = InvalidPciAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_spellings_and_writes_one() {
        for (text, canonical) in [
            ("0000:3b:00.0", "0000:3b:00.0"),
            ("00000000:3B:00.0", "0000:3b:00.0"),
            ("00000001:C1:1F.7", "0001:c1:1f.7"),
            ("10000:01:00.0", "10000:01:00.0"),
        ] {
            assert_eq!(text.parse::<PciAddress>().map(|address| address.to_string()), Ok(canonical.to_owned()));
        }
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "3b:00.0",
            "0000:3b:00",
            "0000:3b:20.0",
            "0000:3b:00.8",
            "0000:3g:00.0",
            "0000:3b:00.0 ",
            "0000:+b:00.0",
        ] {
            assert!(bad.parse::<PciAddress>().is_err(), "{bad:?} was taken");
        }
    }
}
