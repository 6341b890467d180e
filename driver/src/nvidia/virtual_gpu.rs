use tessera_vocabulary::PciAddress;

use crate::{Root, sysfs};

/// Whether a hypervisor made a GPU (NVIDIA vGPU), as the GPU's configuration space tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VirtualGpu {
    /// It cannot be told: the kernel shows all of that space only to who has all rights.
    Unknown,
    /// It is a board, or a part of one, which may belong to a virtual machine as it is.
    No,
    /// It is, and this drives the board. `None` where the hypervisor does not tell.
    Yes(Option<HostDriver>),
}

/// The driver of a hypervisor that makes virtual GPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDriver {
    /// Its version, "460.16".
    pub version: String,
    /// The branch it was built from, "r460_00".
    pub branch: String,
}

/// The status register of a PCI function, and its bit that says whether there are capabilities.
const STATUS: usize = 0x06;
const HAS_CAPABILITIES: u8 = 0x10;
/// Where the first capability is told.
const FIRST_CAPABILITY: usize = 0x34;
/// The first byte of a capability that each vendor fills as it likes.
const VENDOR_SPECIFIC: u8 = 0x09;
/// Capabilities are four bytes at least and begin behind the header, so there are no more; a longer chain is a loop.
const CAPABILITIES: usize = 48;
/// What NVIDIA's begins with, behind number, next and length.
const SIGNATURE: &[u8] = b"VF";
/// The number of the record with the host's driver, and how much room its two texts have.
const HOST_DRIVER: u8 = 0;
const TEXT: usize = 10;

impl VirtualGpu {
    /// Of the GPU at an address.
    pub(super) fn at(root: &Root, address: PciAddress) -> Self {
        Self::told(&sysfs::configuration(root, address))
    }

    fn told(configuration: &[u8]) -> Self {
        if configuration.len() < 256 {
            return Self::Unknown;
        }
        let virtual_gpu = capabilities(configuration).find_map(|capability| {
            let rest = capability.strip_prefix(&[VENDOR_SPECIFIC])?.get(2..)?;
            Some(Self::Yes(host_driver(rest.strip_prefix(SIGNATURE)?)))
        });
        virtual_gpu.unwrap_or(Self::No)
    }
}

/// Each capability with its first three bytes: number, where the next one is, length (of those that have one).
fn capabilities(configuration: &[u8]) -> impl Iterator<Item = &[u8]> {
    let byte = |at: usize| configuration.get(at).copied().unwrap_or_default();
    let first = if byte(STATUS) & HAS_CAPABILITIES == 0 { 0 } else { byte(FIRST_CAPABILITY) };
    let starts = std::iter::successors(Some(usize::from(first)), move |at| Some(usize::from(byte(at + 1))));
    // A function that has fallen off the bus answers with ones.
    let starts = starts.take(CAPABILITIES).take_while(move |at| *at != 0 && byte(*at) != 0xff);
    starts.filter_map(move |at| configuration.get(at..(at + usize::from(byte(at + 2))).min(configuration.len())))
}

/// From records, each with its number and its length before its content.
fn host_driver(mut records: &[u8]) -> Option<HostDriver> {
    loop {
        let [number, length, ..] = *records else { return None };
        if number == HOST_DRIVER {
            let text = |at: usize| {
                let bytes = records.get(2 + at..2 + at + TEXT)?;
                Some(String::from_utf8_lossy(bytes).trim_matches('\0').to_owned())
            };
            return Some(HostDriver { version: text(0)?, branch: text(TEXT)? });
        }
        // One that says it has no length would be read for ever.
        records = records.get(usize::from(length).max(2)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration space with these capabilities, one behind the other from 0x40 on: number and content.
    fn space(capabilities: &[(u8, &[u8])]) -> Vec<u8> {
        let mut space = vec![0; 256];
        space[STATUS] = HAS_CAPABILITIES;
        let mut link = FIRST_CAPABILITY;
        let mut at = 0x40;
        for (number, content) in capabilities {
            let length = 3 + content.len();
            space[link] = u8::try_from(at).unwrap();
            (space[at], space[at + 2]) = (*number, u8::try_from(length).unwrap());
            space[at + 3..at + length].copy_from_slice(content);
            (link, at) = (at + 1, at + length);
        }
        space
    }

    const DRIVER: &[u8] = b"\x00\x16460.16\0\0\0\0r460_00\0\0\0";

    #[test]
    fn a_hypervisor_tells_by_a_capability_of_its_own() {
        let told = |records: &[u8]| [b"VF".as_slice(), records].concat();
        let driver = HostDriver { version: "460.16".to_owned(), branch: "r460_00".to_owned() };
        let known = VirtualGpu::Yes(Some(driver));
        let looped = |mut space: Vec<u8>| {
            space[0x41] = 0x40;
            space
        };
        for (what, space, expected) in [
            ("nothing", space(&[]), VirtualGpu::No),
            ("what others see", space(&[])[..64].to_vec(), VirtualGpu::Unknown),
            ("other capabilities", space(&[(0x01, &[0; 5]), (0x05, b"VF\0")]), VirtualGpu::No),
            ("another vendor's", space(&[(0x09, b"XY")]), VirtualGpu::No),
            ("behind others", space(&[(0x05, &[0; 9]), (0x09, &told(DRIVER))]), known.clone()),
            ("behind other records", space(&[(0x09, &told(&[b"\x01\x04ab", DRIVER].concat()))]), known),
            ("no driver", space(&[(0x09, &told(b"\x01\x04ab"))]), VirtualGpu::Yes(None)),
            ("cut short", space(&[(0x09, &told(&DRIVER[..15]))]), VirtualGpu::Yes(None)),
            ("a record without a length", space(&[(0x09, &told(b"\x01\x00ab"))]), VirtualGpu::Yes(None)),
            ("a loop", looped(space(&[(0x05, &[0; 9])])), VirtualGpu::No),
            ("off the bus", vec![0xff; 256], VirtualGpu::No),
        ] {
            assert_eq!(VirtualGpu::told(&space), expected, "{what}");
        }
    }
}
