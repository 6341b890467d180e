use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a PCI driver of the kernel, `nvidia` or `vfio-pci`: a directory in `/sys/bus/pci/drivers`, so never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelDriver(String);

/// Why the name of a driver was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no kernel driver: 1 to 55 letters, digits, '-' and '_' are allowed")]
pub struct InvalidKernelDriver(String);

/// `MODULE_NAME_LEN` of the kernel, less the end.
const LONGEST: usize = 55;

impl KernelDriver {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it hands functions to user space. All such drivers of the kernel say so in their names: `vfio-pci`,
    /// `xe-vfio-pci`, `nvgrace-gpu-vfio-pci`, `mlx5_vfio_pci` (drivers/vfio/pci).
    pub fn is_vfio(&self) -> bool {
        self.0.contains("vfio")
    }
}

impl FromStr for KernelDriver {
    type Err = InvalidKernelDriver;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let valid = (1..=LONGEST).contains(&text.len()) && text.bytes().all(allowed);
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidKernelDriver(text.to_owned())) }
    }
}

impl fmt::Display for KernelDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KernelDriver {
    type Error = InvalidKernelDriver;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<KernelDriver> for String {
    fn from(driver: KernelDriver) -> Self {
        driver.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for (text, valid, vfio) in [
            ("nvidia", true, false),
            ("vfio-pci", true, true),
            ("mlx5_vfio_pci", true, true),
            ("", false, false),
            ("..", false, false),
            ("a/b", false, false),
            ("nvidia\n", false, false),
        ] {
            let driver = text.parse::<KernelDriver>();
            assert_eq!(driver.is_ok(), valid, "{text:?}");
            assert_eq!(driver.is_ok_and(|driver| driver.is_vfio()), vfio, "{text:?}");
        }
    }
}
