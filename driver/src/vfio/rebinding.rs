//! What is moved to a VFIO driver for a device, as data that outlives the process.

use std::fmt;

use serde::{Deserialize, Serialize};
use tessera_vocabulary::PciAddress;

use super::KernelDriver;

/// What is moved for a device, and what it was before: all that is needed to finish the move or to take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebinding {
    /// The device that is handed out.
    pub device: PciAddress,
    /// The VFIO driver that takes it.
    pub driver: KernelDriver,
    /// What is moved, the device first. Empty if all of it was with the VFIO driver before: then it stays there.
    pub moved: Vec<Moved>,
}

/// A PCI function that is moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Where it sits.
    pub address: PciAddress,
    /// What it goes back to.
    pub original: Original,
    /// The nodes that processes hold it by, as long as its first driver has it.
    pub nodes: Vec<String>,
}

/// What a function goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Original {
    /// This driver.
    Driver(KernelDriver),
    /// Nobody had it.
    Unbound,
    /// Not known, as when the record is lost: whichever driver the kernel chooses for it.
    KernelsChoice,
}

/// One small thing on the way. Each may be carried out again, and undone whether it was carried out or not.
///
/// The order is that of [`Rebinding::steps`], and backwards for undoing: undoing [`Action::Override`] is what brings the
/// first driver back, so that it comes after all others of the function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The function that it is about.
    pub function: PciAddress,
    /// What is done.
    pub action: Action,
}

/// What a step does to its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Let no other driver take it than the VFIO driver (`driver_override`). Undone: let any, and bring back the first.
    Override,
    /// Take it from the driver that has it. Undone with [`Action::Override`].
    Unbind,
    /// Give it to the VFIO driver (`drivers_probe`). Undone: take it away from there.
    Probe,
}

impl Rebinding {
    /// The way there. First nobody can take a function who should not, then all are free, then VFIO takes them.
    pub fn steps(&self) -> Vec<Step> {
        [Action::Override, Action::Unbind, Action::Probe]
            .into_iter()
            .flat_map(|action| self.moved.iter().map(move |moved| Step { function: moved.address, action }))
            .collect()
    }
}

/// For texts: what did not succeed.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Override => "driver_override",
            Self::Unbind => "unbind",
            Self::Probe => "drivers_probe",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        let moved = |address: &str, original| Moved {
            address: address.parse().unwrap(),
            original,
            nodes: vec!["/dev/nvidia0".to_owned()],
        };
        let rebinding = Rebinding {
            device: "0000:1b:00.0".parse().unwrap(),
            driver: "vfio-pci".parse().unwrap(),
            moved: vec![
                moved("0000:1b:00.0", Original::Driver("nvidia".parse().unwrap())),
                moved("0000:1b:00.1", Original::Unbound),
            ],
        };
        let text = serde_json::to_string(&rebinding).unwrap();
        assert_eq!(serde_json::from_str::<Rebinding>(&text).unwrap(), rebinding);
        let steps: Vec<_> =
            rebinding.steps().iter().map(|step| format!("{} {}", step.action, step.function.function)).collect();
        let expected =
            ["driver_override 0", "driver_override 1", "unbind 0", "unbind 1", "drivers_probe 0", "drivers_probe 1"];
        assert_eq!(steps, expected);
    }
}
