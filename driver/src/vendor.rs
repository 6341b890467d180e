use std::collections::BTreeMap;
use std::fmt;

use cdi::ContainerEdits;
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::topology::SpanningDomain;
use crate::vfio::{Interface, Passthrough};
use crate::{Accelerator, AcceleratorKind, AttributeValue, Host, Made, Placement, Shape};

/// The attributes of a device, by their names in a ResourceSlice.
pub type Attributes = BTreeMap<&'static str, AttributeValue>;

/// The capacities of a device, by their names in a ResourceSlice.
pub type Capacities = BTreeMap<&'static str, u64>;

/// What the facts about one accelerator owe: its names, what is said of it, and what a container needs of it.
///
/// With [`Backend`](crate::Backend), which finds facts, and [`Workbench`](crate::Workbench), which changes hardware, this
/// is the whole seam between a vendor and the rest. [`Accelerator`] adds what is the same for all (the PCI address, the
/// NUMA node) and is what everybody else talks to.
///
/// Whatever is published must be the same at each look while the hardware is the same, and every device of a type must
/// have every attribute of that type.
pub trait Vendor {
    /// Whether its driver has told of it, now or before; else no more is known than the bus tells.
    fn is_told_by_driver(&self) -> bool {
        true
    }

    /// The name under which it is published. Made of what survives reboots and driver reloads.
    fn name(&self, address: PciAddress) -> DeviceName;

    /// What it is, whoever made it.
    fn kind(&self) -> AcceleratorKind;

    /// The product. Accelerators of two models never share a group.
    fn model(&self) -> &str;

    /// What its driver knows it by.
    fn uuid(&self) -> &str;

    /// What is said of the whole.
    fn attributes(&self) -> Attributes;

    /// What the whole has.
    fn capacities(&self) -> Capacities;

    /// What a container that is granted the whole must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs.
    fn container_edits(&self, address: PciAddress, host: &Host) -> Result<ContainerEdits, Unavailable>;

    /// What containers must see besides because these wholes, itself among them, were granted to one claim. Each of the
    /// claim's devices says it.
    fn together(&self, granted: &[&Accelerator]) -> ContainerEdits {
        let _ = granted;
        ContainerEdits::default()
    }

    /// The sets of these accelerators, all of one model, that can be used together, where something else than links says
    /// so. `None`: links and closeness say it.
    fn blocks(&self, model: &[&Accelerator]) -> Option<Vec<Vec<PciAddress>>> {
        let _ = model;
        None
    }

    /// What is said of a group of these accelerators besides what all of them have in common.
    fn group_attributes(&self, members: &[&Accelerator]) -> Attributes {
        let _ = members;
        Attributes::new()
    }

    /// The fabric domain that it lies in, where that spans nodes.
    fn spanning_domain(&self) -> Option<SpanningDomain> {
        None
    }

    /// What a container must see besides because it was granted the whole together with all others of its
    /// [`spanning_domain`](Self::spanning_domain), on all nodes.
    fn domain_edits(&self, host: &Host) -> ContainerEdits {
        let _ = host;
        ContainerEdits::default()
    }

    /// The name of a partition. Asked, like all about partitions, only of what has
    /// [`Accelerator::partitioning`].
    fn partition_name(&self, address: PciAddress, shape: &Shape, placement: Placement) -> DeviceName {
        DeviceName::mig(address, &shape.name, shape.id, placement.start)
    }

    /// What is said of a partition. `whole` is what is said of its accelerator; `made` is known of one that nobody here
    /// made.
    fn partition_attributes(&self, whole: Attributes, shape: &Shape, made: Option<&Made>) -> Attributes {
        let _ = (shape, made);
        whole
    }

    /// What a partition has.
    fn partition_capacities(&self, shape: &Shape) -> Capacities {
        let _ = shape;
        Capacities::new()
    }

    /// What a container that is granted a partition must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs.
    fn partition_edits(
        &self,
        address: PciAddress,
        shape: &Shape,
        made: &Made,
        host: &Host,
    ) -> Result<ContainerEdits, Unavailable> {
        let _ = (shape, made, host);
        Err(Unavailable::new(CannotBeCut(address)))
    }

    /// The name under which it is handed to user space. Asked, like all about passthrough, only of what has
    /// [`Accelerator::passthrough`].
    fn passthrough_name(&self, address: PciAddress) -> DeviceName {
        DeviceName::vfio(address)
    }

    /// What is said of it as user space gets it. `whole` is what is said of it with its driver.
    fn passthrough_attributes(&self, address: PciAddress, whole: Attributes, facts: &Passthrough) -> Attributes {
        let _ = (address, facts);
        whole
    }

    /// What user space gets. `whole` is what it has with its driver.
    fn passthrough_capacities(&self, whole: Capacities) -> Capacities {
        whole
    }

    /// What a container must see to reach it by this interface; with `api_device` also the node's own IOMMU device.
    fn passthrough_edits(&self, interface: &Interface, api_device: bool, host: &Host) -> ContainerEdits {
        passthrough_nodes(interface, api_device, host)
    }
}

/// The device nodes by which user space reaches an accelerator.
pub(crate) fn passthrough_nodes(interface: &Interface, api_device: bool, host: &Host) -> ContainerEdits {
    let nodes = std::iter::once(interface.node()).chain(api_device.then(|| interface.shared_node().to_owned()));
    ContainerEdits {
        device_nodes: nodes.map(|path| host.root().device_node(path)).collect(),
        ..ContainerEdits::default()
    }
}

/// Why something cannot be handed to a container now. The text says what is missing and what to do, for a pod's event.
#[derive(Debug)]
pub struct Unavailable(Box<dyn std::error::Error + Send + Sync>);

impl Unavailable {
    pub(crate) fn new(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(cause))
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unavailable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A partition of what has none.
#[derive(Debug, thiserror::Error)]
#[error("accelerator {0} cannot be cut")]
struct CannotBeCut(PciAddress);
