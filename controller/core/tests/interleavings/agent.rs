use std::collections::BTreeMap;

use tessera_policy::{DesiredDevice, DeviceId, DeviceState, Layout, NodeLayoutStatus, ReportedDevice};

use crate::server::Server;

/// The agent of a node, with its hardware.
pub(crate) struct Agent {
    node: String,
    devices: BTreeMap<String, Device>,
    generation: Option<i64>,
}

struct Device {
    layout: Option<Layout>,
    /// What it is being made, and for which attempt.
    told: Option<DesiredDevice>,
    state: DeviceState,
    attempt: u32,
}

impl Agent {
    pub(crate) fn new(node: &str, devices: usize) -> Self {
        let device = || Device { layout: None, told: None, state: DeviceState::Ready, attempt: 0 };
        let devices = (0..devices).map(|index| (format!("gpu-{index}"), device())).collect();
        Self { node: node.to_owned(), devices, generation: None }
    }

    /// Reads what it is told, and begins.
    pub(crate) fn observe(&mut self, server: &Server) {
        let layout = server.layouts.get(&self.node);
        self.generation = layout.and_then(|layout| layout.metadata.generation);
        for (name, device) in &mut self.devices {
            let told = layout.and_then(|layout| layout.spec.devices.iter().find(|told| told.id.name == *name)).cloned();
            let (wanted, attempt) = told.as_ref().map_or((None, 0), |told| (told.layout.clone(), told.attempt));
            let tried = device.state == DeviceState::Failed
                && device.told.as_ref().map(|told| (&told.layout, told.attempt)) == Some((&wanted, attempt));
            device.told = told;
            device.attempt = attempt;
            if device.layout == wanted && device.state != DeviceState::Changing {
                device.state = DeviceState::Ready;
            } else if !tried && device.state != DeviceState::Changing {
                device.state = DeviceState::Draining;
            }
        }
    }

    /// Goes a step further with one device.
    pub(crate) fn work(&mut self, which: u8, fails: bool) {
        let number = self.devices.len();
        let Some(device) = self.devices.values_mut().nth(usize::from(which) % number) else { return };
        match device.state {
            DeviceState::Draining => device.state = DeviceState::Changing,
            DeviceState::Changing if fails => device.state = DeviceState::Failed,
            DeviceState::Changing => {
                device.layout = device.told.as_ref().and_then(|told| told.layout.clone());
                device.state = DeviceState::Ready;
            }
            DeviceState::Ready | DeviceState::Failed => {}
        }
    }

    /// Ends what was begun.
    pub(crate) fn end(&mut self) {
        for device in 0..self.devices.len() {
            let device = u8::try_from(device).unwrap();
            self.work(device, false);
            self.work(device, false);
        }
    }

    /// Tells how it is.
    pub(crate) fn report(&self, server: &mut Server) {
        let Some(mut layout) = server.layouts.get(&self.node).cloned() else { return };
        let report = |(name, device): (&String, &Device)| ReportedDevice {
            id: DeviceId { driver: "gpu.nvidia.com".to_owned(), name: name.clone() },
            attributes: BTreeMap::new(),
            capacity: BTreeMap::new(),
            profiles: Vec::new(),
            domain: None,
            layout: device.layout.clone(),
            state: device.state,
            attempt: device.attempt,
            users: 0,
            evicting: false,
            message: String::new(),
        };
        let devices = self.devices.iter().map(report).collect();
        let status = NodeLayoutStatus { observed_generation: self.generation, devices };
        if layout.status.as_ref() != Some(&status) {
            layout.status = Some(status);
            server.put_layout(layout);
        }
    }

    /// Whether pods cannot have some device because it is drained or changed.
    pub(crate) fn is_changing(&self) -> bool {
        self.devices.values().any(|device| matches!(device.state, DeviceState::Draining | DeviceState::Changing))
    }

    /// What its devices are.
    pub(crate) fn layouts(&self) -> Vec<String> {
        let told = |layout: &Option<Layout>| layout.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        self.devices.values().map(|device| told(&device.layout)).collect()
    }
}
