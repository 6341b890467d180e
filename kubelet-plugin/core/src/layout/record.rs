use serde::{Deserialize, Serialize};
use tessera_driver::{Accelerator, Work};
use tessera_policy::DesiredDevice;
use tessera_vocabulary::{DeviceName, PciAddress};

use super::{DeviceLayout, Layout, Repartitioning, Slot, Stage};
use crate::Unreadable;
use crate::sealed::{seal, unseal};

/// The first line of a stored record, but for the checksum.
const FORMAT: &str = "tessera-layout/1";

/// What is known of a device that is not offered as the agent was told at its start, or is about not to be. Kept before
/// anything of it is done to the hardware, so that what is there has an owner.
///
/// Fields are only ever added; what an older or newer agent wrote stays readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayoutRecord {
    /// The boot of the node in which it was written: partitions do not survive a reboot.
    pub boot_id: String,
    /// The name of the whole.
    pub device: DeviceName,
    /// Where it is.
    pub accelerator: PciAddress,
    /// Its UUID.
    pub uuid: String,
    /// What it is offered as.
    #[serde(default)]
    pub layout: Layout,
    /// The policy that says so; empty where none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// What is done to offer it as something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
    /// What could not be done, and is not tried again before something else is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// A device is to be offered as something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Who says so, and how.
    pub desired: DesiredDevice,
    /// What it is to be offered as.
    pub layout: Layout,
    /// Since when nobody new gets it, in seconds since the node's boot.
    pub since: u64,
    /// How far it is.
    pub stage: Stage,
    /// Why the old layout is being restored, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// Everything that may lie on the device, made by the old layout, for the new one, or by an earlier try.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Slot>,
}

/// What could not be done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// What was wanted.
    pub desired: DesiredDevice,
    /// Why it is not so, and what to do; for people.
    pub message: String,
}

impl LayoutRecord {
    /// That of a device which is offered as the agent was told at its start.
    pub fn new(boot_id: &str, accelerator: &Accelerator) -> Self {
        Self {
            boot_id: boot_id.to_owned(),
            device: accelerator.name(),
            accelerator: accelerator.address,
            uuid: accelerator.uuid().to_owned(),
            layout: Layout::AsTold,
            policy: String::new(),
            change: None,
            failure: None,
        }
    }

    /// Whether it says nothing that would not be so without it.
    pub fn says_nothing(&self) -> bool {
        self.layout == Layout::AsTold && self.change.is_none() && self.failure.is_none()
    }

    /// What the device is offered as by it.
    pub fn device_layout(&self) -> DeviceLayout {
        let repartitioning =
            |change: &Change| Repartitioning { policy: change.desired.policy.clone(), stage: change.stage };
        DeviceLayout {
            layout: self.layout.clone(),
            policy: self.policy.clone(),
            change: self.change.as_ref().map(repartitioning),
        }
    }

    /// The partitions that should be on the device: of the layout that it gets, or of the one that it has.
    pub fn goal(&self) -> &Layout {
        match &self.change {
            Some(Change { stage: Stage::Changing, failed: None, layout, .. }) => layout,
            _ => &self.layout,
        }
    }

    /// All that may lie on the device and is this record's.
    pub fn owned(&self) -> Vec<Slot> {
        let touched = self.change.iter().flat_map(|change| &change.touched);
        let mut owned: Vec<_> = self.layout.slots().iter().chain(touched).copied().collect();
        owned.sort_unstable();
        owned.dedup();
        owned
    }

    /// How a slot is cut, and undone.
    pub fn cut(&self, slot: Slot) -> Work {
        Work::Cut {
            accelerator: self.accelerator,
            uuid: self.uuid.clone(),
            shape: slot.shape,
            placement: slot.placement,
        }
    }

    /// How the device is made one piece.
    pub fn join(&self) -> Work {
        Work::Join { accelerator: self.accelerator, uuid: self.uuid.clone() }
    }

    /// The record as it is once its change is carried out.
    #[must_use]
    pub fn changed(mut self) -> Self {
        if let Some(change) = self.change.take() {
            match change.failed {
                None => {
                    let policy = if change.layout == Layout::AsTold { String::new() } else { change.desired.policy };
                    (self.layout, self.policy, self.failure) = (change.layout, policy, None);
                }
                Some(message) => self.failure = Some(Failure { desired: change.desired, message }),
            }
        }
        self
    }

    /// The bytes that it is kept as.
    ///
    /// # Errors
    /// When it cannot be expressed in JSON.
    pub fn encode(&self) -> serde_json::Result<Vec<u8>> {
        seal(FORMAT, self)
    }

    /// The record that was kept.
    ///
    /// # Errors
    /// When there is none, or one that this version does not understand.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        unseal(FORMAT, bytes)
    }
}

#[cfg(test)]
mod tests {
    use tessera_driver::Placement;
    use tessera_policy::{DeviceId, Drain, Mix};

    use super::*;
    use crate::testing::h100;

    fn record() -> LayoutRecord {
        let slot = Slot { placement: Placement { start: 4, size: 4 }, shape: 9 };
        let mix = vec![Mix { profile: "3g.40gb".to_owned(), count: 1 }];
        let layout = Layout::Partitions { mix, slots: vec![slot] };
        let id = DeviceId { driver: "gpu.nvidia.com".to_owned(), name: "gpu-0000-01-00-0".to_owned() };
        let desired = DesiredDevice {
            id,
            policy: "research".to_owned(),
            layout: layout.said(),
            drain: Drain::default(),
            attempt: 2,
        };
        let change = Change { desired, layout, since: 77, stage: Stage::Changing, failed: None, touched: vec![slot] };
        LayoutRecord { change: Some(change), ..LayoutRecord::new("boot", &h100(1)) }
    }

    #[test]
    fn a_released_layout_is_read_and_todays_is_the_last_of_them() {
        let released: &[u8] = include_bytes!("../fixtures/layout-0.1.0");
        assert_eq!(LayoutRecord::decode(released).unwrap(), record());
        assert_eq!(
            String::from_utf8(record().encode().unwrap()).unwrap(),
            String::from_utf8(released.to_vec()).unwrap()
        );
        assert!(LayoutRecord::decode(&released[..released.len() - 1]).unwrap_err().to_string().contains("header"));
    }

    #[test]
    fn what_devices_are_offered_as_is_written_as_it_always_was() {
        for (layout, text) in [
            (Layout::AsTold, r#""as_told""#),
            (Layout::Whole, r#""whole""#),
            (Layout::Dynamic, r#""dynamic""#),
            (Layout::Shares { count: 4 }, r#"{"shares":{"count":4}}"#),
            (Layout::Domain { name: "rack.7".to_owned() }, r#"{"domain":{"name":"rack.7"}}"#),
        ] {
            assert_eq!(serde_json::to_string(&layout).unwrap(), text);
            assert_eq!(serde_json::from_str::<Layout>(text).unwrap(), layout);
        }
    }

    #[test]
    fn a_change_ends_with_the_new_layout_or_with_the_old_one_and_a_failure() {
        let done = record().changed();
        assert_eq!((done.policy.as_str(), done.goal().slots().len(), &done.change), ("research", 1, &None));
        let mut failing = record();
        failing.change.as_mut().unwrap().failed = Some("the driver refuses".to_owned());
        assert_eq!((failing.goal(), failing.owned().len()), (&Layout::AsTold, 1));
        let failed = failing.changed();
        assert_eq!((&failed.layout, failed.failure.unwrap().desired.attempt), (&Layout::AsTold, 2));
    }
}
