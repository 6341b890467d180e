//! What the kubelet's device plugin API is offered: extended resources and their devices, which of them a container should
//! get, and what it is told. Functions of plain data, as in `tessera-core`: no I/O, no clock, no randomness.

mod allocation;
mod config;
mod device_id;
mod lending;
mod offer;
mod preference;
mod replicas;
mod resource_name;
mod spec;
#[cfg(test)]
mod testing;

pub use allocation::{NotAllocated, allocate};
pub use config::{
    AllocationPolicy, Config, ConfigError, DeviceReference, MigStrategy, Pattern, Rename, Replicated,
    ReplicatedDevices, TimeSlicing,
};
pub use device_id::DeviceId;
pub use lending::{Asked, Lending, Listed};
pub use offer::{Offer, Offered, Resource, offer};
pub use preference::preferred;
pub use resource_name::{InvalidResourceName, ResourceName};
pub use spec::{Description, SHARED, Undescribable, spec};
