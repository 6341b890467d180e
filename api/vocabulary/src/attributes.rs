//! The attributes of devices in ResourceSlices.
//!
//! Three groups: the standard ones of Kubernetes, the vendor's own (unqualified, so that CEL written for the
//! vendor's driver keeps working), and a portable set under `tessera.dev/` that means the same on every vendor.

/// Standard attributes (`resource.kubernetes.io/`), defined by Kubernetes' device attribute library.
pub mod standard {
    /// String: the PCI address, `dddd:bb:dd.f` in lower-case hexadecimal.
    pub const PCI_BUS_ID: &str = "resource.kubernetes.io/pciBusID";
    /// String: the PCIe root complex that the device hangs below, `pci<domain>:<bus>`.
    pub const PCIE_ROOT: &str = "resource.kubernetes.io/pcieRoot";
    /// Int: the NUMA node of the device's PCI slot. Left out where the kernel knows none.
    pub const NUMA_NODE: &str = "resource.kubernetes.io/numaNode";
}

/// What NVIDIA's own DRA driver publishes (its v0.5.0), by the same names and types.
pub mod nvidia {
    /// String: `gpu` for a whole GPU.
    pub const TYPE: &str = "type";
    /// String: NVML's UUID, `GPU-…`.
    pub const UUID: &str = "uuid";
    /// String: the product as NVML names it, "NVIDIA H100 80GB HBM3".
    pub const PRODUCT_NAME: &str = "productName";
    /// String: NVML's brand, "Nvidia", "Tesla", "GeForce".
    pub const BRAND: &str = "brand";
    /// String: the architecture, "Hopper".
    pub const ARCHITECTURE: &str = "architecture";
    /// Version: the CUDA compute capability, "9.0.0".
    pub const CUDA_COMPUTE_CAPABILITY: &str = "cudaComputeCapability";
    /// Version: the kernel driver's version as strict semver, "535.54.3" for 535.54.03.
    pub const DRIVER_VERSION: &str = "driverVersion";
    /// Version: the newest CUDA version that the driver supports, "12.8.0".
    pub const CUDA_DRIVER_VERSION: &str = "cudaDriverVersion";
    /// String: how the GPU reaches system memory: `HMM`, `ATS` or `None`. Left out where NVML does not tell.
    pub const ADDRESSING_MODE: &str = "addressingMode";

    /// String: of a MIG device, the UUID of its GPU.
    pub const PARENT_UUID: &str = "parentUUID";
    /// String: of a MIG device, its profile, "1g.10gb".
    pub const PROFILE: &str = "profile";
    /// String: of a GPU for user space, the product's PCI number, "0x2330".
    pub const DEVICE_ID: &str = "deviceID";
    /// String: of a GPU for user space, the vendor's PCI number, "0x10de".
    pub const VENDOR_ID: &str = "vendorID";
    /// Bool: of a GPU for user space, whether the node's kernel has iommufd.
    pub const IOMMU_FD_ENABLED: &str = "iommuFDEnabled";

    /// The value of [`TYPE`] for a whole GPU.
    pub const TYPE_GPU: &str = "gpu";
    /// The value of [`TYPE`] for a MIG device.
    pub const TYPE_MIG: &str = "mig";
    /// The value of [`TYPE`] for a GPU that is handed to user space by VFIO.
    pub const TYPE_VFIO: &str = "vfio";
    /// The value of [`TYPE`] for a group of GPUs, which NVIDIA's own driver does not have.
    pub const TYPE_GROUP: &str = "group";
    /// The value of [`TYPE`] for all GPUs of a fabric domain that spans nodes, which NVIDIA's own driver does not have.
    pub const TYPE_DOMAIN: &str = "domain";
}

/// What Google's own DRA driver publishes, by the same names, and what it does not know.
pub mod google {
    /// Int: the chip's place in the order of the host's chips, from 0: what libtpu knows it by.
    pub const INDEX: &str = "index";
    /// String: a UUID. Chips have none of their own, so it is made of the node's name and the PCI address.
    pub const UUID: &str = "uuid";
    /// String: the generation, `v5e`.
    pub const TPU_GEN: &str = "tpuGen";
    /// String: the brand, [`BRAND_GOOGLE`].
    pub const BRAND: &str = "brand";
    /// String: the accelerator as GKE labels its nodes, `tpu-v5-lite-podslice`; [`UNKNOWN`] where nobody
    /// tells.
    pub const ACCELERATOR: &str = "accelerator";
    /// Int: how many chips the host has.
    pub const CHIP_COUNT: &str = "chipCount";
    /// String: the topology of the slice that the host is a part of, `4x8`; [`UNKNOWN`] where nobody tells.
    pub const TOPOLOGY: &str = "topology";

    /// String: [`TYPE_CHIP`] for one chip, [`TYPE_GROUP`] for several at once. Google's own driver knows no such thing.
    pub const TYPE: &str = "type";
    /// String: which block of the host's chips is allocated: `1x1`, `2x2`, `2x4`, with a third number on generations whose
    /// slices have three dimensions. Google's own driver has whole hosts alone.
    pub const SHAPE: &str = "shape";
    /// Bool: whether that is all of the host.
    pub const WHOLE_HOST: &str = "wholeHost";
    /// String, on chips alone: where in the host's block the chip is, `0,1,0`. Left out where the block is not known.
    pub const COORDINATES: &str = "coordinates";

    /// The value of [`BRAND`].
    pub const BRAND_GOOGLE: &str = "Google";
    /// The value of what nobody tells.
    pub const UNKNOWN: &str = "unknown";
    /// The value of [`TYPE`] for one chip.
    pub const TYPE_CHIP: &str = "chip";
    /// The value of [`TYPE`] for several.
    pub const TYPE_GROUP: &str = "group";
    /// The value of [`TYPE`] for all chips of a slice of several hosts.
    pub const TYPE_DOMAIN: &str = "domain";
}

/// The portable set: the same meaning on every vendor.
pub mod portable {
    /// String: who made the accelerator: `nvidia`, `google`.
    pub const VENDOR: &str = "tessera.dev/vendor";
    /// String: what is allocated: [`KIND_GPU`], [`KIND_TPU`], [`KIND_PARTITION`] for a part of an accelerator,
    /// [`KIND_PASSTHROUGH`] for one without its driver, [`KIND_GROUP`] for several at once, [`KIND_DOMAIN`] for all of several
    /// nodes.
    pub const KIND: &str = "tessera.dev/kind";
    /// The value of [`KIND`] for a whole GPU.
    pub const KIND_GPU: &str = "gpu";
    /// The value of [`KIND`] for a whole TPU chip.
    pub const KIND_TPU: &str = "tpu";
    /// The value of [`KIND`] for a part of an accelerator that has memory and engines of its own.
    pub const KIND_PARTITION: &str = "partition";
    /// The value of [`KIND`] for an accelerator that is handed to user space by VFIO.
    pub const KIND_PASSTHROUGH: &str = "passthrough";
    /// String: the product's name.
    pub const MODEL: &str = "tessera.dev/model";
    /// String: the architecture or generation in lower case: `hopper`.
    pub const FAMILY: &str = "tessera.dev/family";
    /// String: the accelerators that links of their own tie together. The same on two devices exactly if they are tied,
    /// so `matchAttribute` on it picks accelerators that are; one that is tied to nobody has a value of its own.
    /// `<cluster>.<clique>` of a fabric that spans nodes is the same on all of them.
    pub const FABRIC_DOMAIN: &str = "tessera.dev/fabricDomain";
    /// String: what ties the accelerators of [`FABRIC_DOMAIN`]: `switched`, `direct`, `mesh` or `none`.
    pub const FABRIC_KIND: &str = "tessera.dev/fabricKind";
    /// String: the PCIe switch next to the root port, by the PCI address of its upstream port. One that is behind no
    /// switch has a value of its own, as in [`FABRIC_DOMAIN`].
    pub const PCIE_SWITCH: &str = "tessera.dev/pcieSwitch";
    /// Int, on groups alone: how many accelerators are allocated at once: 2, 4 or 8.
    pub const GROUP_SIZE: &str = "tessera.dev/groupSize";
    /// String, on groups alone: the strongest tie that all members share: `mesh`, `fabric`, `links`, `pcieSwitch` or
    /// `numaNode`.
    pub const GROUP_TIE: &str = "tessera.dev/groupTie";

    /// Int, on domains alone: how many nodes it has.
    pub const NODES: &str = "tessera.dev/nodes";
    /// Int, on domains alone: how many accelerators it has, on all nodes.
    pub const DEVICES: &str = "tessera.dev/devices";

    /// The value of [`KIND`] for a group.
    pub const KIND_GROUP: &str = "group";
    /// The value of [`KIND`] for a fabric domain that spans nodes.
    pub const KIND_DOMAIN: &str = "domain";
}
