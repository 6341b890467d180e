use tessera_core::State;

use crate::{DeviceId, Offered, Resource, ResourceName};

/// Why a container cannot have what the kubelet has chosen for it. The texts land in events of pods, and the pod has failed
/// then: the kubelet does not try again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllocated {
    /// No device of that id is in the resource any more.
    #[error("{resource}: device {id} is not offered on this node any more; delete the pod so that it is made anew")]
    Gone {
        /// The resource.
        resource: ResourceName,
        /// The device.
        id: DeviceId,
    },
    /// A claim has it. The kubelet did not know that yet.
    #[error("{resource}: device {id} is held by claim {claim}; delete the pod so that it is made anew")]
    Claimed {
        /// The resource.
        resource: ResourceName,
        /// The device.
        id: DeviceId,
        /// The claim.
        claim: String,
    },
    /// It cannot be used.
    #[error("{resource}: device {id} cannot be used: {cause}; delete the pod so that it is made anew")]
    Unusable {
        /// The resource.
        resource: ResourceName,
        /// The device.
        id: DeviceId,
        /// Why.
        cause: String,
    },
    /// More than one of what is shared.
    #[error("{resource}: {asked} were asked for; pods share its devices, and a container may ask for one only")]
    OneAtMost {
        /// The resource.
        resource: ResourceName,
        /// So many.
        asked: usize,
    },
}

/// The devices that a container gets, in the order of the resource.
///
/// # Errors
/// See [`NotAllocated`]. A container gets all or nothing.
pub fn allocate<'a>(
    name: &ResourceName,
    resource: &'a Resource,
    ids: &[DeviceId],
) -> Result<Vec<&'a Offered>, NotAllocated> {
    if resource.one_at_most && ids.len() > 1 {
        return Err(NotAllocated::OneAtMost { resource: name.clone(), asked: ids.len() });
    }
    let usable = |id: &DeviceId| {
        let (name, id) = (name.clone(), id.clone());
        match resource.devices.iter().find(|device| device.id == id).map(|device| &device.state) {
            Some(State::Ready) => Ok(()),
            None => Err(NotAllocated::Gone { resource: name, id }),
            Some(State::Claimed { by }) => Err(NotAllocated::Claimed { resource: name, id, claim: by.clone() }),
            Some(State::Unusable { cause }) => Err(NotAllocated::Unusable { resource: name, id, cause: cause.clone() }),
        }
    };
    ids.iter().try_for_each(usable)?;
    Ok(resource.devices.iter().filter(|device| ids.contains(&device.id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOBODY, basis, gpu, inventory};
    use crate::{Config, offer};
    use tessera_core::{Ledger, Offering};

    #[test]
    fn a_container_gets_all_or_nothing() {
        let inventory = inventory(Offering::NOTHING, vec![gpu(1), gpu(2)]);
        let units = inventory.units(&Ledger::default());
        let slicing =
            "sharing: {timeSlicing: {failRequestsGreaterThanOne: true, resources: [{name: gpu, replicas: 2}]}}";
        let [plain, shared] = ["", slicing].map(|config| {
            let config = Config::parse(config).unwrap();
            offer(&basis(&units, &NOBODY), &config).resources.pop_first().unwrap()
        });
        let mut sick = plain.clone();
        sick.1.devices[0].state = State::Unusable { cause: "it is lost: gone".to_owned() };
        let mut claimed = plain.clone();
        claimed.1.devices[1].state = State::Claimed { by: "team/training".to_owned() };
        let id = |bus: u8| gpu(bus).uuid().to_owned();
        let both = [id(1), id(2)];
        for (what, (name, resource), ids, expected) in [
            ("both", &plain, &both[..], "2"),
            ("one", &plain, &both[1..], "1"),
            ("unknown", &plain, &[id(3)], "is not offered on this node any more"),
            ("sick", &sick, &both, "cannot be used: it is lost: gone"),
            ("the other one", &sick, &both[1..], "1"),
            ("a claim's", &claimed, &both, "is held by claim team/training"),
            ("one replica", &shared, &[id(1) + "::1"], "1"),
            ("a replica that there is not", &shared, &[id(1) + "::2"], "is not offered on this node any more"),
            ("two replicas", &shared, &[id(1) + "::1", id(2) + "::1"], "a container may ask for one only"),
        ] {
            let ids: Vec<_> = ids.iter().map(|id| DeviceId::read(id)).collect();
            let text = match allocate(name, resource, &ids) {
                Ok(devices) => devices.len().to_string(),
                Err(refused) => refused.to_string(),
            };
            assert!(text.contains(expected) && text.len() < 256, "{what}: {text}");
        }
    }
}
