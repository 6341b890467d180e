//! What the kubelet's device plugin API is offered: extended resources and their devices, which of them a container should
//! get, and what it is told. Functions of plain data, as in `tessera-core`: no I/O, no clock, no randomness.

mod allocation;
mod answer;
mod config;
mod device_id;
mod features;
mod held;
mod lending;
mod offer;
mod preference;
mod replicas;
mod resource_name;
mod spec;
#[cfg(test)]
mod testing;

pub use allocation::{NotAllocated, allocate};
pub use answer::{Answer, answer};
pub use config::{
    AllocationPolicy, Choice, Config, ConfigError, Delivery, DeviceReference, Extra, Fallback, Fallbacks, Ignored,
    MigStrategy, NoConfig, Overrides, Pattern, Rename, Replicated, ReplicatedDevices, TimeSlicing, UnknownWord, Way,
};
pub use device_id::DeviceId;
pub use features::{FeatureLabels, features};
pub use held::Held;
pub use lending::{Asked, Lending};
pub use offer::{Basis, Offer, Offered, Resource, offer};
pub use preference::preferred;
pub use resource_name::{InvalidResourceName, ResourceName};
pub use spec::{Description, SHARED, Undescribable, spec};
