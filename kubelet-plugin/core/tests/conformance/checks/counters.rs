//! Counters, as the scheduler counts them.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::Device;
use tessera_core::{Inventory, Ledger, parse_quantity};

use crate::node::{EVERYTHING, Node, Published, holds, type_of};

/// Counters by set and name.
type Counts = BTreeMap<(String, String), u64>;

/// Each device fits alone, all accelerators fit as wholes, and two that use one accelerator fit only if they are parts of
/// it that do not overlap; of what can be cut, as many parts fit as it says.
pub(crate) fn add_up(node: &Node<'_>) -> Result<(), String> {
    let inventory = node.inventory(EVERYTHING)?;
    let published = node.publish(&inventory, &Ledger::default());
    let all = available(&published)?;
    for device in published.devices() {
        holds(fits(&all, &[device])?, || format!("{} does not fit where nothing else is", device.name))?;
    }
    let wholes: Vec<&Device> =
        inventory.devices().iter().filter_map(|one| find(&published, one.accelerator.name().as_str())).collect();
    holds(wholes.len() == inventory.devices().len(), || "not every accelerator is offered".to_owned())?;
    holds(fits(&all, &wholes)?, || "the wholes do not fit together".to_owned())?;
    groups(node, &inventory, &published, &all)?;
    for one in inventory.devices() {
        let accelerator = &one.accelerator;
        let Some(partitioning) = &accelerator.partitioning else { continue };
        let whole = find(&published, accelerator.name().as_str());
        for shape in &partitioning.shapes {
            let parts = shape.placements.iter().map(|place| accelerator.partition_name(shape, *place));
            let parts: Vec<&Device> = parts.filter_map(|name| find(&published, name.as_str())).collect();
            let Some(first) = parts.first() else { continue };
            holds(!fits(&all, &[whole.ok_or("no whole")?, first])?, || {
                format!("{} fits beside its whole", first.name)
            })?;
            let mut taken: Vec<&Device> = Vec::new();
            for part in parts {
                taken.push(part);
                if !fits(&all, &taken)? {
                    taken.pop();
                }
            }
            let expected = usize::try_from(shape.at_most).unwrap();
            holds(taken.len() == expected, || format!("{} of {} fit instead of {expected}", taken.len(), shape.name))?;
        }
    }
    Ok(())
}

/// Two groups fit together exactly if they share no member.
fn groups(node: &Node<'_>, inventory: &Inventory, published: &Published, all: &Counts) -> Result<(), String> {
    let members = |device: &Device| -> Result<Vec<String>, String> {
        let record = node.plan("uid-1", std::slice::from_ref(&device.name), inventory, &Ledger::default())?;
        Ok(record.devices[0].uses.iter().map(|used| used.accelerator.to_string()).collect())
    };
    let groups: Vec<&Device> = published.devices().filter(|device| type_of(device) == "group").collect();
    let members = groups.iter().map(|group| members(group)).collect::<Result<Vec<_>, _>>()?;
    for (position, one) in groups.iter().enumerate() {
        for (other, theirs) in groups.iter().zip(&members).skip(position + 1) {
            let apart = members[position].iter().all(|member| !theirs.contains(member));
            let fit = fits(all, &[one, other])?;
            holds(fit == apart, || format!("{} and {}: apart {apart}, fit {fit}", one.name, other.name))?;
        }
    }
    Ok(())
}

fn find<'a>(published: &'a Published, name: &str) -> Option<&'a Device> {
    published.devices().find(|device| device.name == name)
}

fn available(published: &Published) -> Result<Counts, String> {
    let mut all = Counts::new();
    for set in published.sets() {
        holds((1..=32).contains(&set.counters.len()), || format!("{} has {} counters", set.name, set.counters.len()))?;
        for (name, counter) in &set.counters {
            let value = parse_quantity(&counter.value).ok_or_else(|| format!("{name} is {:?}", counter.value))?;
            let before = all.insert((set.name.clone(), name.clone()), value);
            holds(before.is_none(), || format!("{} comes twice", set.name))?;
        }
    }
    Ok(all)
}

/// Whether these can be allocated at once.
fn fits(all: &Counts, devices: &[&Device]) -> Result<bool, String> {
    let mut used = Counts::new();
    for device in devices {
        let sets = device.consumes_counters.as_deref().unwrap_or_default();
        holds((1..=2).contains(&sets.len()), || format!("{} takes from {} sets", device.name, sets.len()))?;
        for (set, name, counter) in
            sets.iter().flat_map(|set| set.counters.iter().map(|(name, counter)| (&set.counter_set, name, counter)))
        {
            let key = (set.clone(), name.clone());
            holds(all.contains_key(&key), || format!("{} takes {name} of {set}, which is none", device.name))?;
            *used.entry(key).or_default() +=
                parse_quantity(&counter.value).ok_or_else(|| format!("{name} is {:?}", counter.value))?;
        }
    }
    Ok(used.iter().all(|(key, used)| all[key] >= *used))
}
