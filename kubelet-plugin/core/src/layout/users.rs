use std::fmt;

use tessera_driver::Placement;

use super::LayoutRecord;
use crate::inventory::Device;
use crate::offers::by_hand;
use crate::record::PreparedDevice;
use crate::{Ledger, Slot, Use};

/// Who has a device or a part of it, so that it cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A claim.
    Claim {
        /// By namespace and name.
        name: String,
        /// Whether it has all of the device.
        whole: bool,
    },
    /// Pods that asked for an extended resource.
    Pods {
        /// Which.
        resource: String,
        /// Whether they have all of the device.
        whole: bool,
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
        // Whether anything of the device is used, and then whether it is all of it.
        let whole = |uses: Vec<Use>| {
            let mut on_it = uses.into_iter().filter(|used| used.accelerator == *name).peekable();
            on_it.peek().is_some().then(|| on_it.all(|used| used.placement.is_none()))
        };
        let claims = ledger.records().filter_map(|record| {
            let whole = whole(record.holds().flat_map(PreparedDevice::uses).collect())?;
            Some(Self::Claim { name: record.claim.to_string(), whole })
        });
        let lent =
            ledger.loans().units.values().filter_map(|loan| {
                Some(Self::Pods { resource: loan.resource.clone(), whole: whole(loan.uses.clone())? })
            });
        let owned = record.owned();
        let cut = by_hand(device, ledger)
            .filter(|partition| !owned.contains(&Slot { placement: partition.placement, shape: partition.shape }))
            .map(|partition| Self::ByHand(partition.placement));
        let bound = device.accelerator.passthrough.is_some_and(|passthrough| passthrough.bound)
            && !ledger.passes(device.accelerator.address);
        claims.chain(lent).chain(cut).chain(bound.then_some(Self::BoundByHand)).collect()
    }

    /// Whether it keeps what it has where a device is only not cut any more.
    pub(super) fn has_the_whole(&self) -> bool {
        matches!(self, Self::Claim { whole: true, .. } | Self::Pods { whole: true, .. })
    }

    /// Whether it is a claim or a pod.
    pub(super) fn is_workload(&self) -> bool {
        matches!(self, Self::Claim { .. } | Self::Pods { .. })
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { name, .. } => write!(f, "claim {name}"),
            Self::Pods { resource, .. } => write!(f, "pods that asked for {resource}"),
            Self::ByHand(placement) => write!(f, "a partition at {placement} that was made by hand (remove it)"),
            Self::BoundByHand => f.write_str("VFIO, to which it was bound by hand (give it back to its driver)"),
        }
    }
}
