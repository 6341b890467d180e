//! Which driver takes which function: `pci_match_device` and `pci_match_one_device` of the kernel's PCI core.

use std::fmt;

/// What a PCI function says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Vendor of the board.
    pub subsystem_vendor: u16,
    /// The board's id.
    pub subsystem_device: u16,
    /// Class code of 24 bits.
    pub class: u32,
}

impl Identity {
    /// Whether it is a bridge to another PCI bus: class 0x0604.
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == 0x0604
    }
}

/// As in `modalias`: what udev hands to modprobe.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vendor, device, subsystem_vendor, subsystem_device, class } = self;
        write!(f, "pci:v{vendor:08X}d{device:08X}sv{subsystem_vendor:08X}sd{subsystem_device:08X}")?;
        write!(f, "bc{:02X}sc{:02X}i{:02X}", class >> 16, class >> 8 & 0xff, class & 0xff)
    }
}

/// A row of a driver's table of ids (`struct pci_device_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// Vendor id; `None` is `PCI_ANY_ID`.
    pub vendor: Option<u16>,
    /// Device id; `None` is `PCI_ANY_ID`.
    pub device: Option<u16>,
    /// The upper 16 bits of the class (base class and subclass), or the upper 8 where the lower of them are 0xff.
    pub class: Option<u16>,
    /// Whether the row counts only for functions whose `driver_override` names the driver
    /// (`PCI_DRIVER_OVERRIDE_DEVICE_VFIO`).
    pub override_only: bool,
}

impl Id {
    /// Every function, once its `driver_override` says so.
    pub const OVERRIDE: Self = Self { vendor: None, device: None, class: None, override_only: true };

    fn matches(&self, identity: &Identity) -> bool {
        let class = |wanted: u16| match wanted & 0xff {
            0xff => identity.class >> 16 == u32::from(wanted >> 8),
            _ => identity.class >> 8 == u32::from(wanted),
        };
        self.vendor.is_none_or(|vendor| vendor == identity.vendor)
            && self.device.is_none_or(|device| device == identity.device)
            && self.class.is_none_or(class)
    }

    /// The row in `modules.alias`, for the module that has it.
    pub(crate) fn alias(&self, module: &str) -> String {
        let id = |value: Option<u16>| value.map_or("*".to_owned(), |value| format!("{value:08X}"));
        let (base, sub) = match self.class {
            None => ("*".to_owned(), "*".to_owned()),
            Some(class) if class & 0xff == 0xff => (format!("{:02X}", class >> 8), "*".to_owned()),
            Some(class) => (format!("{:02X}", class >> 8), format!("{:02X}", class & 0xff)),
        };
        // The prefix is what keeps udev from loading the module unasked (`file2alias.c`, do_pci_entry).
        let bus = if self.override_only { "vfio_pci" } else { "pci" };
        format!("alias {bus}:v{}d{}sv*sd*bc{base}sc{sub}i* {module}\n", id(self.vendor), id(self.device))
    }
}

/// Whether a driver with these rows, and these dynamic ones from `new_id`, takes a function.
pub(crate) fn matches(
    driver: &str,
    rows: &[Id],
    dynamic: &[Id],
    identity: &Identity,
    driver_override: Option<&str>,
) -> bool {
    match driver_override {
        // "driver_override will always match": also without a row.
        Some(name) => name == driver,
        None => {
            dynamic.iter().any(|id| id.matches(identity))
                || rows.iter().any(|id| !id.override_only && id.matches(identity))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Identity = Identity {
        vendor: 0x10de,
        device: 0x2330,
        subsystem_vendor: 0x10de,
        subsystem_device: 0x16c1,
        class: 0x030200,
    };
    const NVIDIA: Id = Id { vendor: Some(0x10de), device: None, class: Some(0x03ff), override_only: false };

    #[test]
    fn an_override_decides_and_vfio_needs_one() {
        for (driver, rows, driver_override, expected) in [
            ("nvidia", NVIDIA, None, true),
            ("nvidia", NVIDIA, Some("vfio-pci"), false),
            ("nvidia", NVIDIA, Some("nvidia"), true),
            ("vfio-pci", Id::OVERRIDE, None, false),
            ("vfio-pci", Id::OVERRIDE, Some("vfio-pci"), true),
            ("nvme", Id { class: Some(0x0108), ..NVIDIA }, None, false),
            ("nvme", Id { class: Some(0x0108), ..NVIDIA }, Some("nvme"), true),
        ] {
            assert_eq!(matches(driver, &[rows], &[], &H100, driver_override), expected, "{driver} {driver_override:?}");
        }
    }

    #[test]
    fn a_dynamic_id_needs_no_override() {
        let dynamic = Id { vendor: Some(0x10de), device: Some(0x2330), class: None, override_only: false };
        assert!(matches("vfio-pci", &[Id::OVERRIDE], &[dynamic], &H100, None));
        assert!(!matches("vfio-pci", &[Id::OVERRIDE], &[dynamic], &H100, Some("nvidia")));
    }

    #[test]
    fn spelled_as_the_kernel_and_depmod_do() {
        assert_eq!(H100.to_string(), "pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00");
        assert_eq!(Id::OVERRIDE.alias("vfio_pci"), "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n");
        assert_eq!(NVIDIA.alias("nvidia"), "alias pci:v000010DEd*sv*sd*bc03sc*i* nvidia\n");
    }
}
