//! What the agent decides, as functions of plain data: what to publish, what to write to the API server, what a
//! claim gets. No I/O, no clock, no randomness: equal input gives equal output, byte for byte.

mod claim;
mod claim_object;
mod counters;
mod domains;
mod inventory;
mod layout;
mod ledger;
mod loans;
mod offers;
mod plan;
mod pool;
mod published;
mod quantity;
mod reconcile;
mod record;
mod refusal;
mod sealed;
mod seen;
mod set_up;
mod slices;
mod standing;
mod steps;
#[cfg(test)]
mod testing;
mod units;

pub use claim::{Allocation, ClaimError, ClaimRef, ClaimUid, Config, Granted, InvalidClaimUid, Scope, allocations};
pub use claim_object::ClaimObject;
pub use inventory::{Condition, Device, Inventory};
pub use layout::{
    Change, DeviceLayout, DoesNotFit, Failure, Layout, LayoutRecord, Layouts, Next, Repartitioning, Situation, Slot,
    Stage, Step as LayoutStep, User, Wanted, next_step, places, report,
};
pub use ledger::Ledger;
pub use loans::{Loan, Loans};
pub use offers::Offering;
pub use plan::{Identity, Part, complete, plan};
pub use pool::{NodeIdentity, Pool, pool_name};
pub use published::Published;
pub use quantity::{format_quantity, parse_quantity};
pub use reconcile::{Write, reconcile};
pub use record::{Answer, PreparedDevice, Record, StoredRecord, Use};
pub use refusal::Refusal;
pub use sealed::Unreadable;
pub use seen::Seen;
pub use slices::{Features, Slices, dropped_features, slices};
pub use standing::{Doubts, InUse, stands};
pub use steps::{Executor, Failed, Step, execute, repair, revert};
pub use units::{State, Unit, UnitKind};
