//! Google's TPUs: found in sysfs, handed out as device nodes with the environment that libtpu expects.
//!
//! A chip is a PCI function. Up to v4 a driver of Google's has it and makes `/dev/accel<n>`; later ones are bound to
//! `vfio-pci`, and reached by their IOMMU group, `/dev/vfio/<group>`. The kernel knows no more than that: what slice the
//! host is a part of, [`Settings`], the node's labels or the instance's own file say.
//!
//! # What a pod must have
//! A chip that is reached by VFIO has its memory mapped for DMA, and what is mapped is locked. A container's limit of
//! locked memory (`RLIMIT_MEMLOCK`) must therefore be as large as all that libtpu maps, best without end. CDI cannot say
//! so, but it can name a hook: with [`Host::with_hook`](crate::Host::with_hook) the limit is lifted as the container is
//! made. Where there is none (gVisor, Kata), it is a setting of the container runtime (`LimitMEMLOCK=infinity` of
//! containerd's unit), or of the pod, which has no such limit with the capability `IPC_LOCK`.

mod bounds;
mod chip;
mod discovery;
mod environment;
mod generation;
mod host_block;
mod instance_file;
mod labels;
mod reach;
mod settings;
mod slice;
mod topology;

pub use bounds::Bounds;
pub use chip::Chip;
pub use discovery::Tpu;
pub use generation::Generation;
pub use host_block::HostBlock;
pub use labels::NodeLabels;
pub use reach::{MissingNode, Reach};
pub use settings::Settings;
pub use slice::{Slice, Worker};
pub use topology::{InvalidTopology, Topology};
