//! Container images, made without a Docker daemon: OCI image layouts in a tar file, which `ctr images import`, `skopeo`
//! and `podman load` take. The same files give the same bytes, and so the same digest: no time, no user and no order of
//! a directory gets into them.
//!
//! [`agent`] says what Tessera's agent is shipped in, [`controller`] what its controller is. An image of another program is
//! another such function; one whose program is static, as the controller is, needs no [`loaded_by`].

mod agent;
mod archive;
mod bill;
mod controller;
mod file;
mod libraries;

pub use agent::{AGENT, Programs, agent, version};
pub use archive::{Archive, Image, digest};
pub use bill::{Bill, bill_of_materials};
pub use controller::{CONTROLLER, controller};
pub use file::File;
pub use libraries::{Shared, loaded_by};
