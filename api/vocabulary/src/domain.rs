//! A fabric domain that spans nodes, as something that is allocated as one: its pool, and the label of its nodes. Its device
//! is named by [`DeviceName::domain`].

use crate::{DeviceName, DriverName};

/// How the labels of [`domain_label`] begin; no other label does.
pub const DOMAIN_LABELS: &str = "fabric.tessera.dev/";

/// The pool of a domain: `domains/gpu.nvidia.com/domain-<name>`. Three parts, so that no node's pool, which has two, is called
/// the same.
pub fn domain_pool(driver: &DriverName, domain: &DeviceName) -> String {
    format!("domains/{driver}/{domain}")
}

/// The label of a node that lies in a domain with a driver's devices: `fabric.tessera.dev/gpu.nvidia.com`. Its value is the
/// domain's [`DeviceName`], which schedulers and quotas may take for a level of topology.
pub fn domain_label(driver: &DriverName) -> String {
    format!("{DOMAIN_LABELS}{driver}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_a_pool_and_a_label() {
        let driver = "gpu.nvidia.com".parse().unwrap();
        assert_eq!(domain_pool(&driver, &DeviceName::domain("a.1")), "domains/gpu.nvidia.com/domain-a-1-ec8d7113");
        assert_eq!(domain_label(&driver), "fabric.tessera.dev/gpu.nvidia.com");
    }
}
