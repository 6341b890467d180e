//! Backends with a fault each, that the suite must find.

use simulated_hardware::Hardware;
use tessera_driver::{Accelerator, Backend, Discovery, DiscoveryError, Facts, Root};
use tessera_vocabulary::DriverName;

use crate::broken;
use crate::subjects::{NvidiaGpus, Subject, Tpus};

/// A backend whose looks are tampered with.
struct Planted {
    inner: Box<dyn Subject>,
    machine: &'static str,
    tamper: fn(&mut Discovery),
    presence: fn(bool) -> bool,
}

struct Tampered {
    inner: Box<dyn Backend>,
    tamper: fn(&mut Discovery),
    presence: fn(bool) -> bool,
}

impl Backend for Tampered {
    fn is_present(&self) -> bool {
        (self.presence)(self.inner.is_present())
    }

    fn discover(&mut self) -> Result<Discovery, DiscoveryError> {
        let mut found = self.inner.discover()?;
        (self.tamper)(&mut found);
        Ok(found)
    }
}

impl Subject for Planted {
    fn driver(&self) -> DriverName {
        self.inner.driver()
    }

    fn machines(&self) -> Vec<&'static str> {
        vec![self.machine]
    }

    fn backend(&self, root: Root) -> Box<dyn Backend> {
        Box::new(Tampered { inner: self.inner.backend(root), tamper: self.tamper, presence: self.presence })
    }

    fn addresses(&self, hardware: &Hardware) -> Vec<String> {
        self.inner.addresses(hardware)
    }

    fn plug(&self, hardware: &mut Hardware, position: usize, present: bool) {
        self.inner.plug(hardware, position, present);
    }

    fn reload(&self, hardware: &mut Hardware) {
        self.inner.reload(hardware);
    }
}

/// What the suite says of a backend with this fault.
fn found(inner: impl Subject + 'static, machine: &'static str, tamper: fn(&mut Discovery)) -> String {
    found_of(Planted { inner: Box::new(inner), machine, tamper, presence: |present| present })
}

fn found_of(planted: Planted) -> String {
    let machine = planted.machine;
    broken(&planted).pop().unwrap_or_else(|| panic!("nothing found on {machine}"))
}

/// Accelerators by the number of their driver, which names and places then follow.
fn by_number(found: &mut Discovery) {
    let number = |one: &Accelerator| match &one.facts {
        Facts::NvidiaGpu(gpu) => gpu.minor,
        Facts::Tpu(chip) => chip.reach.number(),
        Facts::NvidiaFunction => 0,
    };
    let addresses: Vec<_> = found.accelerators.iter().map(|one| one.address).collect();
    found.accelerators.sort_by_key(number);
    found.accelerators.iter_mut().zip(addresses).for_each(|(one, address)| one.address = address);
}

#[test]
fn a_name_that_follows_the_drivers_number() {
    for found in [found(NvidiaGpus, "dgx-h100", by_number), found(Tpus, "tpu-v5e", by_number)] {
        assert!(found.contains("names survive a reload"), "{found}");
    }
}

#[test]
fn an_attribute_that_one_device_lacks() {
    let of_gpu = found(NvidiaGpus, "mixed", |found| {
        for one in found.accelerators.iter_mut().filter(|one| one.address.bus == 0x3b) {
            if let Facts::NvidiaGpu(gpu) = &mut one.facts {
                gpu.driver_version = None;
            }
        }
    });
    assert!(of_gpu.contains(r#"differ in having ["driverVersion"]"#), "{of_gpu}");
    let of_tpu = found(Tpus, "tpu-v5e", |found| {
        for one in &mut found.accelerators {
            match &mut one.facts {
                Facts::Tpu(chip) if chip.index == 0 => chip.slice.topology = None,
                _ => {}
            }
        }
    });
    assert!(of_tpu.contains(r#"differ in having ["topology"]"#), "{of_tpu}");
}

#[test]
fn a_counter_that_does_not_add_up() {
    let found = found(NvidiaGpus, "dgx-h100", |found| {
        let shapes = found.accelerators.iter_mut().filter_map(|one| one.partitioning.as_mut());
        shapes.flat_map(|one| &mut one.shapes).for_each(|shape| shape.at_most = 0);
    });
    assert!(found.contains("counters add up: gpu-0000-1b-00-0-mig-"), "{found}");
}

#[test]
fn two_that_have_one_node() {
    let found = found(Tpus, "tpu-v5e", |found| {
        for one in &mut found.accelerators {
            if let Facts::Tpu(chip) = &mut one.facts {
                chip.reach = tessera_driver::tpu::Reach::Vfio(3);
            }
        }
    });
    assert!(found.contains("CDI specs") && found.contains("has no node of its own"), "{found}");
}

#[test]
fn a_sick_one_that_hides_the_others() {
    let found = found(Tpus, "tpu-v5e", |found| {
        if !found.problems.is_empty() {
            found.accelerators.clear();
        }
    });
    assert!(found.contains("files that are missing") && found.contains("is gone with"), "{found}");
}

#[test]
fn what_changes_from_look_to_look() {
    use std::sync::atomic::{AtomicU32, Ordering};
    static LOOKS: AtomicU32 = AtomicU32::new(0);
    let found = found(NvidiaGpus, "mixed", |found| {
        let used = u64::from(LOOKS.fetch_add(1, Ordering::Relaxed));
        for one in &mut found.accelerators {
            if let Facts::NvidiaGpu(gpu) = &mut one.facts {
                gpu.memory_bytes = gpu.memory_bytes.map(|bytes| bytes - used);
            }
        }
    });
    assert!(found.contains("looks agree"), "{found}");
}

/// Its driver would be registered on every node, or on none.
#[test]
fn a_presence_that_says_nothing() {
    for (presence, expected) in [
        ((|_| true) as fn(bool) -> bool, "present where nothing of it is"),
        (|_| false, "absent where its hardware is"),
    ] {
        let inner = Box::new(Tpus);
        let found = found_of(Planted { inner, machine: "tpu-v5e-1", tamper: |_| {}, presence });
        assert!(found.contains("presence") && found.contains(expected), "{found}");
    }
}
