//! PCI addresses, in the two spellings that the field uses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a PCI function sits. Ordered as the hardware is enumerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// PCI domain; NVML gives it eight hexadecimal digits, sysfs four or more.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device (slot) number, 0 to 31.
    pub device: u8,
    /// Function number, 0 to 7.
    pub function: u8,
}

impl PciAddress {
    /// As NVML prints it: `00000000:1B:00.0`.
    pub fn nvml(&self) -> String {
        format!("{:08X}:{:02X}:{:02X}.{:X}", self.domain, self.bus, self.device, self.function)
    }

    /// As NVML prints it in `busIdLegacy`: `0000:1B:00.0`. A wider domain does not fit and is cut, as the library does.
    pub fn nvml_legacy(&self) -> String {
        format!("{:04X}:{:02X}:{:02X}.{:X}", self.domain & 0xffff, self.bus, self.device, self.function)
    }
}

/// As sysfs spells it: `0000:1b:00.0`.
impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| format!("{text:?} is no PCI address; allowed: domain:bus:device.function in hexadecimal, like 0000:1b:00.0 or 00000000:1B:00.0"))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let mut parts = text.split([':', '.']);
    let (domain, bus, device, function) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let well_formed = parts.next().is_none()
        && text.contains('.')
        && (4..=8).contains(&domain.len())
        && bus.len() == 2
        && device.len() == 2
        && function.len() == 1
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':' || byte == b'.');
    let address = PciAddress {
        domain: u32::from_str_radix(domain, 16).ok()?,
        bus: u8::from_str_radix(bus, 16).ok()?,
        device: u8::from_str_radix(device, 16).ok()?,
        function: u8::from_str_radix(function, 16).ok()?,
    };
    (well_formed && address.device < 32 && address.function < 8).then_some(address)
}

impl TryFrom<String> for PciAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// The name of a PCIe root complex in sysfs: `pci0000:15`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciRoot(String);

impl fmt::Display for PciRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PciRoot {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.strip_prefix("pci").and_then(|rest| rest.split_once(':'));
        let hexadecimal = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        match number {
            Some((domain, bus)) if domain.len() >= 4 && bus.len() == 2 && hexadecimal(domain) && hexadecimal(bus) => {
                Ok(Self(text))
            }
            _ => Err(format!("{text:?} is no PCIe root; allowed: pci<domain>:<bus> as in sysfs, like pci0000:15")),
        }
    }
}

impl From<PciRoot> for String {
    fn from(root: PciRoot) -> Self {
        root.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_one_address() {
        for (text, sysfs, nvml) in [
            ("0000:1b:00.0", "0000:1b:00.0", "00000000:1B:00.0"),
            ("00000000:1B:00.0", "0000:1b:00.0", "00000000:1B:00.0"),
            ("0019:01:00.0", "0019:01:00.0", "00000019:01:00.0"),
            ("03f8cfdd:00:1f.7", "3f8cfdd:00:1f.7", "03F8CFDD:00:1F.7"),
        ] {
            let address: PciAddress = text.parse().unwrap();
            assert_eq!((address.to_string(), address.nvml()), (sysfs.to_owned(), nvml.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "0",
            "1b:00.0",
            "0000:1b:00",
            "0000:1b:00:0",
            "0000:1b:20.0",
            "0000:1b:00.8",
            "000g:1b:00.0",
            "+000:1b:00.0",
        ] {
            let error = text.parse::<PciAddress>().unwrap_err();
            assert!(error.contains("allowed"), "{text}: {error}");
        }
    }

    #[test]
    fn roots_are_checked() {
        assert!(PciRoot::try_from("pci0000:15".to_owned()).is_ok());
        for text in ["0000:15", "pci0000", "pci0000:1G", "pci0000:151", "pci0000:15/0000:16:00.0"] {
            assert!(PciRoot::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
