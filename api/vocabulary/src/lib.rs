//! The names that users, schedulers and the kubelet see, in one place: drivers, pools, attributes,
//! capacities, device classes and taints.
//!
//! Nothing here does I/O or decides anything. A name that leaves this crate in a ResourceSlice is a
//! promise: claims, DeviceClasses and CEL expressions of users rely on it, so it is never renamed.

mod device_name;
mod domain;
mod driver_name;
mod extended_resources;
mod limits;
mod pci;
mod quantity;

pub mod attributes;
pub mod capacities;
pub mod classes;
pub mod feature_labels;
pub mod taints;

pub use device_name::{DeviceName, InvalidDeviceName};
pub use domain::{DOMAIN_LABELS, domain_label, domain_pool};
pub use driver_name::{DriverName, InvalidDriverName};
pub use extended_resources::ExtendedResources;
pub use limits::{attribute_text, taint_value};
pub use pci::{InvalidPciAddress, PciAddress};
pub use quantity::{format_quantity, parse_quantity};

/// The domain of the names that mean the same on every vendor.
pub const DOMAIN: &str = "tessera.dev";
