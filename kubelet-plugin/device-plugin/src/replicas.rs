use std::collections::BTreeMap;

use tessera_core::{Unit, UnitKind};

use crate::config::DeviceReference;
use crate::{DeviceId, Offer, Offered, Replicated, ReplicatedDevices, ResourceName, TimeSlicing};

/// How an admin counts units: wholes in the order of PCI addresses, partitions in the order of their places on each.
pub(crate) type Numbers = BTreeMap<String, DeviceReference>;

/// The number of each unit.
pub(crate) fn numbers(units: &[Unit<'_>]) -> Numbers {
    let wholes: Vec<_> =
        units.iter().filter(|unit| unit.kind == UnitKind::Whole).map(|unit| unit.accelerator.address).collect();
    let number = |unit: &Unit<'_>| {
        let accelerator = wholes.iter().position(|address| *address == unit.accelerator.address)?;
        if unit.kind == UnitKind::Whole {
            return Some(DeviceReference::Whole(accelerator));
        }
        let siblings = units
            .iter()
            .filter(|other| other.kind != UnitKind::Whole && other.accelerator.address == unit.accelerator.address);
        let place = siblings.map(|other| &other.id).position(|id| *id == unit.id)?;
        Some(DeviceReference::Partition(accelerator, place))
    };
    units.iter().filter_map(|unit| Some((unit.id.clone(), number(unit)?))).collect()
}

/// The same offer, with the devices that pods share several times.
pub(crate) fn replicate(offer: Offer, slicing: &TimeSlicing, numbers: &Numbers) -> Offer {
    let Offer { resources, mut problems } = offer;
    let mut shared = Offer::default();
    for (name, resource) in resources {
        let Some(replicated) = slicing.resources.iter().find(|one| one.name == name) else {
            put(&mut shared, name, resource.devices, false);
            continue;
        };
        let new_name = match (&replicated.rename, slicing.rename_by_default) {
            (Some(rename), _) => Ok(rename.clone()),
            (None, true) => name.shared(),
            (None, false) => Ok(name.clone()),
        };
        let new_name = new_name.unwrap_or_else(|error| {
            problems.push(error.to_string());
            name.clone()
        });
        let (chosen, others) = split(resource.devices, replicated, numbers);
        let copies = chosen.into_iter().flat_map(|device| {
            let copy = move |number| Offered { id: DeviceId::replica(device.id.unit(), number), ..device.clone() };
            (0..replicated.replicas).map(copy)
        });
        put(&mut shared, new_name, copies.collect(), slicing.fail_requests_greater_than_one);
        put(&mut shared, name, others, false);
    }
    for replicated in &slicing.resources {
        let ReplicatedDevices::These(list) = &replicated.devices else { continue };
        let known = |one: &&DeviceReference| match one {
            DeviceReference::Uuid(uuid) => numbers.contains_key(uuid),
            number => numbers.values().any(|known| known == *number),
        };
        let unknown = list.iter().filter(|one| !known(one));
        problems.extend(unknown.map(|one| format!("{}: there is no {one} to be shared", replicated.name)));
    }
    Offer { problems, ..shared }
}

fn put(offer: &mut Offer, name: ResourceName, devices: Vec<Offered>, one_at_most: bool) {
    if devices.is_empty() {
        return;
    }
    let resource = offer.resources.entry(name).or_default();
    resource.devices.extend(devices);
    resource.one_at_most |= one_at_most;
}

/// Those that are to be shared, and the others.
fn split(devices: Vec<Offered>, replicated: &Replicated, numbers: &Numbers) -> (Vec<Offered>, Vec<Offered>) {
    let mut counted = 0;
    devices.into_iter().partition(|device| {
        counted += 1;
        match &replicated.devices {
            ReplicatedDevices::All => true,
            ReplicatedDevices::Count(count) => counted <= *count,
            ReplicatedDevices::These(list) => list.iter().any(|one| match one {
                DeviceReference::Uuid(uuid) => uuid == device.id.unit(),
                number => numbers.get(device.id.unit()) == Some(number),
            }),
        }
    })
}
