//! What is done to a device so that it gets its layout. Nobody has it meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tessera_core::{LayoutRecord, Slot};
use tessera_driver::{Partitioning, WorkError};
use tessera_vocabulary::DeviceName;

use crate::files::FileError;
use crate::hardware::Hardware;
use crate::ledger::SharedLedger;
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::works::Works;

/// A device whose mode was just switched may not answer for a moment: so often it is looked at.
const LOOKS: u32 = 8;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// By what the hardware is changed, and what is kept of that.
#[derive(Clone)]
pub(super) struct Hands {
    pub(super) ledger: Arc<SharedLedger>,
    pub(super) hardware: Hardware,
    pub(super) works: Arc<Works>,
    pub(super) metrics: Metrics,
    pub(super) notices: Notices,
}

/// Why a device is not what it should be. For people: device, step, cause.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("removing a partition: {0}")]
    Removing(WorkError),
    #[error("joining: {0}")]
    Joining(WorkError),
    #[error("cutting: {error}")]
    Cutting { error: WorkError, slot: Slot },
    #[error("{device}: {what} after the change; see the log of the driver")]
    Unverified { device: DeviceName, what: String },
    #[error("the agent cannot keep its record: {0}; free space or mend the directory")]
    Disk(#[from] FileError),
}

/// What lies on a device.
struct There {
    partitions: Vec<(Slot, bool)>,
    cut: bool,
    switchable: bool,
}

impl Hands {
    /// Makes the device what its record says; where that fails, what it was before. The record is on disk already and says so.
    ///
    /// # Errors
    /// When the device is now neither the one nor the other, or a partition of its layout is still not there.
    pub(super) async fn carry_out(&self, mut record: LayoutRecord) -> Result<(), Trouble> {
        let begun = Instant::now();
        let reached = self.reach(&record).await;
        let is_change = record.change.is_some();
        let Some(change) = record.change.as_mut().filter(|change| change.failed.is_none()) else {
            reached?;
            return if is_change { self.finish(record, begun) } else { Ok(()) };
        };
        if let Err(trouble) = reached {
            if let Trouble::Cutting { error: WorkError { untouched: true, .. }, slot } = &trouble {
                // It is somebody else's that is there.
                change.touched.retain(|touched| touched != slot);
            }
            let (device, policy) = (&record.device, &change.desired.policy);
            let message = format!(
                "{device}: not made {} by policy {policy}: {trouble}; then count the policy's attempt up",
                change.layout
            );
            change.failed = Some(message);
            self.keep(&record)?;
            self.reach(&record).await?;
        }
        self.finish(record, begun)
    }

    fn finish(&self, record: LayoutRecord, begun: Instant) -> Result<(), Trouble> {
        let record = record.changed();
        self.keep(&record)?;
        self.metrics.layout_changed(record.failure.is_none(), begun.elapsed());
        self.notices.tell(match &record.failure {
            None => Notice::layout_applied(&record),
            Some(failure) => Notice::LayoutFailed { reason: failure.message.clone() },
        });
        Ok(())
    }

    fn keep(&self, record: &LayoutRecord) -> Result<(), FileError> {
        self.ledger.exclusively(|ledger| ledger.lay_out(record.clone()))?
    }

    /// Removes what is of the record and not of its goal, makes what is missing, and looks whether all is there.
    async fn reach(&self, record: &LayoutRecord) -> Result<(), Trouble> {
        let (goal, owned) = (record.goal(), record.owned());
        let there = self.look(record).await?;
        let is_there = |slot: &Slot, made: bool| there.partitions.contains(&(*slot, made));
        let stays = |slot: &Slot| goal.slots().contains(slot) && is_there(slot, true);
        let mut left = there.partitions.len();
        for slot in owned.iter().filter(|slot| is_there(slot, true) || is_there(slot, false)) {
            if !stays(slot) {
                self.works.undo_one(record.cut(*slot)).await.map_err(Trouble::Removing)?;
                left -= 1;
            }
        }
        // Also where an agent died after it had switched the mode, and before anything was cut.
        let is_ours = goal.is_in_one_piece() || !owned.is_empty();
        if goal.slots().is_empty() && left == 0 && is_ours && there.cut && there.switchable {
            self.works.do_one(record.join()).await.map_err(Trouble::Joining)?;
        }
        for slot in goal.slots().iter().filter(|slot| !stays(slot)) {
            let cut = self.works.do_one(record.cut(*slot)).await;
            cut.map_err(|error| Trouble::Cutting { error, slot: *slot })?;
        }
        let mut looks = 0;
        loop {
            let wrong = match self.look(record).await {
                Ok(there) => match not_so(record, &there) {
                    None => return Ok(()),
                    Some(what) => Trouble::Unverified { device: record.device.clone(), what },
                },
                Err(trouble) => trouble,
            };
            looks += 1;
            if looks == LOOKS {
                return Err(wrong);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// A look that begins now.
    async fn look(&self, record: &LayoutRecord) -> Result<There, Trouble> {
        let inventory = self.hardware.look_again().await;
        let unverified = |what: String| Trouble::Unverified { device: record.device.clone(), what };
        let device = inventory.find(&record.device).ok_or_else(|| unverified("it is gone".to_owned()))?;
        if let tessera_core::Condition::Lost { cause } = &device.condition {
            return Err(unverified(format!("it is lost: {cause}")));
        }
        let there = |own: &Partitioning| There {
            partitions: own
                .partitions
                .iter()
                .map(|one| (Slot { placement: one.placement, shape: one.shape }, one.made.is_some()))
                .collect(),
            cut: own.cut,
            switchable: own.switchable,
        };
        let nothing = There { partitions: Vec::new(), cut: false, switchable: false };
        Ok(device.accelerator.partitioning.as_ref().map_or(nothing, there))
    }
}

/// What of a record is not so.
fn not_so(record: &LayoutRecord, there: &There) -> Option<String> {
    let goal = record.goal();
    let missing = goal.slots().iter().find(|slot| !there.partitions.contains(&(**slot, true)));
    let owned = record.owned();
    let too_much = |(slot, _): &&(Slot, bool)| owned.contains(slot) && !goal.slots().contains(slot);
    if let Some(slot) = missing {
        return Some(format!("the partition at {} is not there", slot.placement));
    }
    if let Some((slot, _)) = there.partitions.iter().find(too_much) {
        return Some(format!("the partition at {} is still there", slot.placement));
    }
    let is_cut = goal.is_in_one_piece() && there.cut;
    is_cut.then(|| "it still is in the mode in which it has partitions".to_owned())
}
