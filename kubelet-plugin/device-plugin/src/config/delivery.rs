use std::collections::BTreeSet;

/// How a container gets what was allocated to it (`flags.plugin`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// By all of these at once; never none.
    pub ways: BTreeSet<Way>,
    /// Whether the kubelet is told of the device nodes too, for runtimes that hand over only what stands in the container's
    /// config (`passDeviceSpecs`). Followed beside a way that is not CDI, which names the nodes itself.
    pub device_nodes: bool,
    /// What the keys of CDI's annotations begin with.
    pub annotation_prefix: String,
    /// What else NVIDIA's container runtime should give to the container, by the names of the variables that ask for it.
    /// Followed beside a way that is that runtime's.
    pub extras: BTreeSet<Extra>,
}

/// A way to a container (`flags.plugin.deviceListStrategy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// The names of CDI devices, in the field that the kubelet's interface to the runtime has for them.
    CdiCri,
    /// The same in annotations of the container, for runtimes that read them there.
    CdiAnnotations,
    /// `NVIDIA_VISIBLE_DEVICES`, which NVIDIA's container runtime follows.
    EnvVar,
    /// Mounts whose paths that runtime reads: a pod cannot ask for devices so by a variable of its own.
    VolumeMounts,
}

/// Something that NVIDIA's container runtime gives to a container on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extra {
    /// Copies between the memories of host and GPU, by `gdrdrv`.
    GdrCopy,
    /// GPUDirect Storage.
    Gds,
    /// Mellanox's network driver.
    Mofed,
}

impl Default for Delivery {
    /// By CDI alone: nothing of NVIDIA's needs to be installed for it. NVIDIA's device plugin begins with the variable.
    fn default() -> Self {
        Self {
            ways: BTreeSet::from([Way::CdiCri]),
            device_nodes: false,
            annotation_prefix: "cdi.k8s.io/".to_owned(),
            extras: BTreeSet::new(),
        }
    }
}

impl Delivery {
    /// Whether the runtime looks names up in CDI specs.
    pub fn by_cdi(&self) -> bool {
        self.ways.iter().any(|way| way.is_cdi())
    }

    /// Whether NVIDIA's container runtime takes part.
    pub(crate) fn by_nvidia_runtime(&self) -> bool {
        self.ways.iter().any(|way| !way.is_cdi())
    }
}

impl Way {
    /// All, by the words for them.
    pub(crate) const WORDS: [(&'static str, Self); 4] = [
        ("envvar", Self::EnvVar),
        ("volume-mounts", Self::VolumeMounts),
        ("cdi-annotations", Self::CdiAnnotations),
        ("cdi-cri", Self::CdiCri),
    ];

    fn is_cdi(self) -> bool {
        matches!(self, Self::CdiCri | Self::CdiAnnotations)
    }
}

impl Extra {
    /// The variable that asks for it.
    pub(crate) fn variable(self) -> &'static str {
        match self {
            Self::GdrCopy => "NVIDIA_GDRCOPY",
            Self::Gds => "NVIDIA_GDS",
            Self::Mofed => "NVIDIA_MOFED",
        }
    }
}
