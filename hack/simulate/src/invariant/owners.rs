//! What holds where claims and pods that ask by count are served from one ledger.

use tessera_core::Use;
use tessera_device_plugin::DeviceId;
use tessera_driver::Placement;
use tessera_vocabulary::DeviceName;

use super::{Invariant, Violation, broken, parts};
use crate::claim::Claim;
use crate::device_manager::Pod;

/// [`Invariant::OneOwner`]. Claims and pods that a person took something from are left out.
pub(crate) fn one_owner(claims: &[Claim], pods: &[Pod]) -> Result<(), Violation> {
    let running = claims.iter().filter(|claim| !claim.tampered);
    let claimed: Vec<_> = running
        .flat_map(|claim| claim.answer.iter().flatten().map(move |device| (claim, device)))
        .filter(|(_, device)| !device.admin_access)
        .flat_map(|(claim, device)| parts(device).into_iter().map(move |part| (claim, part)))
        .collect();
    let counted: Vec<_> = pods.iter().enumerate().filter(|(_, pod)| pod.owns()).collect();
    for (number, pod) in &counted {
        for (id, uses) in &pod.devices {
            let both = claimed.iter().find(|(_, part)| uses.iter().any(|one| meets(one, part)));
            if let Some((claim, _)) = both {
                return broken(Invariant::OneOwner, || format!("a pod has {id} by count, and claim {}", claim.uid()));
            }
            let others = counted.iter().filter(|(other, _)| other > number);
            let twice = others.flat_map(|(_, other)| &other.devices).find(|(other, theirs)| {
                let overlap = uses.iter().any(|one| theirs.iter().any(|their| meets(one, &part(their))));
                overlap && !are_shared(id, other)
            });
            if let Some((other, _)) = twice {
                return broken(Invariant::OneOwner, || format!("a pod has {id} by count, and another {other}"));
            }
        }
    }
    Ok(())
}

fn meets(one: &Use, (accelerator, placement): &(DeviceName, Option<Placement>)) -> bool {
    one.accelerator == *accelerator && one.placement.zip(*placement).is_none_or(|(one, other)| one.overlaps(other))
}

fn part(one: &Use) -> (DeviceName, Option<Placement>) {
    (one.accelerator.clone(), one.placement)
}

/// Replicas of one unit.
fn are_shared(one: &DeviceId, other: &DeviceId) -> bool {
    one.unit() == other.unit() && one.is_replica() && other.is_replica() && one != other
}
