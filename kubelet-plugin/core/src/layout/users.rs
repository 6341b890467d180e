use std::fmt;

use tessera_driver::Placement;

use super::LayoutRecord;
use crate::inventory::Device;
use crate::offers::by_hand;
use crate::record::PreparedDevice;
use crate::{Ledger, Slot};

/// Who has a device or a part of it, so that it cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A claim, by namespace and name.
    Claim(String),
    /// Pods that asked for an extended resource.
    Pods {
        /// Which.
        resource: String,
    },
    /// Nobody, but somebody has cut it.
    ByHand(Placement),
    /// Somebody has handed it to VFIO.
    BoundByHand,
}

impl User {
    /// All that have a device, claims first. `record` says what on it is its layout's.
    pub(super) fn all(device: &Device, ledger: &Ledger, record: &LayoutRecord) -> Vec<Self> {
        let name = device.name();
        let on_it = |held: &PreparedDevice| held.uses().iter().any(|used| used.accelerator == *name);
        let claims = ledger.records().filter(|record| record.holds().any(on_it));
        let claims = claims.map(|record| Self::Claim(record.claim.to_string()));
        let lent = ledger.loans().values().filter(|loan| loan.uses.iter().any(|used| used.accelerator == *name));
        let lent = lent.map(|loan| Self::Pods { resource: loan.resource.clone() });
        let owned = record.owned();
        let cut = by_hand(device, ledger)
            .filter(|partition| !owned.contains(&Slot { placement: partition.placement, shape: partition.shape }))
            .map(|partition| Self::ByHand(partition.placement));
        let bound = device.accelerator.passthrough.is_some_and(|passthrough| passthrough.bound)
            && !ledger.passes(device.accelerator.address);
        claims.chain(lent).chain(cut).chain(bound.then_some(Self::BoundByHand)).collect()
    }

    /// Whether it is a claim or a pod.
    pub(super) fn is_workload(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::Pods { .. })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(name) => write!(f, "claim {name}"),
            Self::Pods { resource } => write!(f, "pods that asked for {resource}"),
            Self::ByHand(placement) => write!(f, "a partition at {placement} that was made by hand (remove it)"),
            Self::BoundByHand => f.write_str("VFIO, to which it was bound by hand (give it back to its driver)"),
        }
    }
}
