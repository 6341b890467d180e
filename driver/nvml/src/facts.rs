use std::fmt;

/// The versions of the driver stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The kernel driver as it calls itself, "535.54.03".
    pub driver: String,
    /// The newest CUDA version that the driver supports: major and minor.
    pub cuda: (u32, u32),
}

/// What NVML knows about one physical GPU. Strings are NVML's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuFacts {
    /// The PCI address in NVML's spelling, "00000000:1B:00.0".
    pub pci_bus_id: String,
    /// The number of the device node `/dev/nvidia<minor>`. May change when the driver is reloaded.
    pub minor: u32,
    /// "GPU-" and a UUID. Burnt into the board: survives everything.
    pub uuid: String,
    /// The product, "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// The brand as NVIDIA's own tools spell it.
    pub brand: &'static str,
    /// The architecture as NVIDIA's own tools spell it.
    pub architecture: &'static str,
    /// The CUDA compute capability: major and minor.
    pub compute_capability: (u32, u32),
    /// Bytes of device memory, the part that the driver reserves included. `None` on parts without memory of their own.
    pub memory_bytes: Option<u64>,
    /// `None` where the driver does not tell.
    pub addressing_mode: Option<AddressingMode>,
}

/// How a GPU reaches the memory of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressingMode {
    /// Neither of the two below.
    None,
    /// Heterogeneous Memory Management: the kernel mirrors page tables in software.
    Hmm,
    /// Address Translation Services: hardware shares the page tables.
    Ats,
}

impl fmt::Display for AddressingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Hmm => "HMM",
            Self::Ats => "ATS",
        })
    }
}
