//! The node's GPUs, and what the driver says of them.

use semver::Version;
use tessera_driver::{Accelerator, Discovery, Facts, Locality, nvidia};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::event::GpuState;

/// How many GPUs a node has when it has many: two slices are needed for them.
const MANY: u8 = 66;

#[derive(Debug)]
pub(crate) struct Hardware {
    slots: Vec<(Accelerator, GpuState)>,
    usual: usize,
    pub(crate) driver_fails: bool,
}

impl Hardware {
    pub(crate) fn new(gpus: u8) -> Self {
        Self {
            slots: (0..gpus).map(|slot| (gpu(slot), GpuState::Ready)).collect(),
            usual: gpus.into(),
            driver_fails: false,
        }
    }

    pub(crate) fn set(&mut self, slot: u8, state: GpuState) {
        let count = self.slots.len().max(1);
        if let Some((_, known)) = self.slots.get_mut(usize::from(slot) % count) {
            *known = state;
        }
    }

    pub(crate) fn set_many(&mut self, many: bool) {
        self.slots.truncate(self.usual);
        if many {
            let usual = u8::try_from(self.usual).unwrap_or(MANY);
            self.slots.extend((usual..MANY).map(|slot| (gpu(slot), GpuState::Ready)));
        }
    }

    pub(crate) fn all_well(&mut self) {
        self.driver_fails = false;
        for (_, state) in &mut self.slots {
            *state = GpuState::Ready;
        }
    }

    /// One look.
    pub(crate) fn discover(&self) -> Result<Discovery, &'static str> {
        if self.driver_fails {
            return Err("the driver failed");
        }
        let present = self.slots.iter().filter(|(_, state)| *state != GpuState::Pulled);
        Ok(Discovery {
            accelerators: present
                .clone()
                .filter(|(_, state)| *state != GpuState::Silent)
                .map(|(gpu, _)| gpu.clone())
                .collect(),
            on_the_bus: present.map(|(gpu, _)| gpu.address).collect(),
            problems: Vec::new(),
        })
    }

    /// What a container needs for a GPU.
    pub(crate) fn container_edits(&self, accelerator: &Accelerator) -> Result<cdi::ContainerEdits, String> {
        let address = accelerator.address;
        let missing = self.slots.iter().any(|(gpu, state)| gpu.address == address && matches!(state, GpuState::NoNode));
        if missing {
            return Err("its device node is missing".to_owned());
        }
        let node = cdi::DeviceNode::new(format!("/dev/nvidia{}", address.bus));
        Ok(cdi::ContainerEdits { device_nodes: vec![node], ..Default::default() })
    }
}

/// The name of a device that the agent published.
pub(crate) fn device_name(text: &str) -> Option<DeviceName> {
    text.parse().ok()
}

fn gpu(bus: u8) -> Accelerator {
    Accelerator {
        partitioning: None,
        passthrough: None,
        address: PciAddress { domain: 0, bus, device: 0, function: 0 },
        locality: Locality { numa_node: Some(0), ..Locality::default() },
        links: Default::default(),
        facts: Facts::NvidiaGpu(Box::new(nvidia::Gpu {
            minor: bus.into(),
            uuid: format!("GPU-00000000-0000-0000-0000-0000000000{bus:02x}"),
            product_name: "NVIDIA H100 80GB HBM3".to_owned(),
            brand: "Nvidia",
            architecture: "Hopper",
            cuda_compute_capability: Version::new(9, 0, 0),
            driver_version: Some(Version::new(570, 124, 6)),
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(85_520_809_984),
            addressing_mode: None,
        })),
    }
}
