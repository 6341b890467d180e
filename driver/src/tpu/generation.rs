use std::fmt;

/// A generation of TPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// TPU v2.
    V2,
    /// TPU v3.
    V3,
    /// TPU v4.
    V4,
    /// TPU v5p.
    V5p,
    /// TPU v5e, in accelerator types `v5litepod`.
    V5e,
    /// TPU v6e, Trillium.
    V6e,
    /// TPU7x, Ironwood.
    V7x,
}

/// Google's PCI vendor id.
pub(super) const PCI_VENDOR: u16 = 0x1ae0;

/// The device ids of TPUs. Google has other functions too, which are none: NVMe (0x001f), gVNIC (0x0042) and more.
const V2_OR_V3: u16 = 0x0027;
const DEVICES: [(u16, Generation); 5] = [
    (0x005e, Generation::V4),
    (0x0062, Generation::V5p),
    (0x0063, Generation::V5e),
    (0x006f, Generation::V6e),
    (0x0076, Generation::V7x),
];
/// What tells v2 and v3 apart: the subsystem's device id.
const SUBSYSTEMS: [(u16, Generation); 2] = [(0x004e, Generation::V2), (0x004f, Generation::V3)];

impl Generation {
    /// Every generation, the oldest first.
    pub const ALL: [Self; 7] = [Self::V2, Self::V3, Self::V4, Self::V5p, Self::V5e, Self::V6e, Self::V7x];

    /// The generation of a function of Google's. `None` for what is no TPU.
    pub fn of(device: u16, subsystem_device: u16) -> Option<Self> {
        let (id, table) = match device {
            V2_OR_V3 => (subsystem_device, SUBSYSTEMS.as_slice()),
            device => (device, DEVICES.as_slice()),
        };
        table.iter().find(|(known, _)| *known == id).map(|(_, generation)| *generation)
    }

    /// Bytes of memory of one chip.
    pub fn memory_bytes(self) -> u64 {
        let gib: u64 = match self {
            Self::V2 | Self::V5e => 16,
            Self::V3 | Self::V4 | Self::V6e => 32,
            Self::V5p => 95,
            Self::V7x => 192,
        };
        gib << 30
    }

    /// The cores of one chip that multiply matrices.
    pub fn tensor_cores(self) -> u32 {
        match self {
            Self::V5e | Self::V6e => 1,
            Self::V2 | Self::V3 | Self::V4 | Self::V5p | Self::V7x => 2,
        }
    }

    /// Whether its slices have two dimensions. The others have three.
    pub fn is_flat(self) -> bool {
        matches!(self, Self::V2 | Self::V3 | Self::V5e | Self::V6e)
    }

    /// What its accelerator types begin with, as in `v5litepod-16`.
    pub(super) fn type_prefix(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::V4 => "v4",
            Self::V5p => "v5p",
            Self::V5e => "v5litepod",
            Self::V6e => "v6e",
            Self::V7x => "tpu7x",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
            Self::V4 => "v4",
            Self::V5p => "v5p",
            Self::V5e => "v5e",
            Self::V6e => "v6e",
            Self::V7x => "v7x",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_googles_that_are_tpus() {
        for (device, subsystem, expected) in [
            (0x0027, 0x004e, Some(Generation::V2)),
            (0x0027, 0x004f, Some(Generation::V3)),
            (0x0027, 0x0000, None),
            (0x005e, 0x0000, Some(Generation::V4)),
            (0x0062, 0x0062, Some(Generation::V5p)),
            (0x0063, 0x004f, Some(Generation::V5e)),
            (0x006f, 0x0000, Some(Generation::V6e)),
            (0x0076, 0x0000, Some(Generation::V7x)),
            // NVMe, gVNIC, and two that are of no known use.
            (0x001f, 0x0000, None),
            (0x0042, 0x0058, None),
            (0xabcd, 0x0000, None),
            (0x0056, 0x0000, None),
        ] {
            assert_eq!(Generation::of(device, subsystem), expected, "{device:#06x} {subsystem:#06x}");
        }
    }
}
