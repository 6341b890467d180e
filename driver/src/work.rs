use std::time::Instant;

use serde::{Deserialize, Serialize};
use tessera_vocabulary::PciAddress;

use crate::vfio::{Rebinding, Ways};
use crate::{Made, Placement};

/// Something that is done to the hardware before a container can be given a device, and undone after it. Plain data, to
/// be kept before it is done: whoever has it can do it again and undo it, after a death at any point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Make sure that the accelerator can be used as a whole.
    Join {
        /// Which.
        accelerator: PciAddress,
        /// Its UUID.
        uuid: String,
    },
    /// Cut a partition out of it.
    Cut {
        /// Which.
        accelerator: PciAddress,
        /// Its UUID.
        uuid: String,
        /// The [`Shape::id`](crate::Shape::id) of what is cut.
        shape: u32,
        /// Where.
        placement: Placement,
    },
    /// Hand it to user space.
    Pass {
        /// Which.
        accelerator: PciAddress,
    },
}

impl Work {
    /// What it is done to. Work on one accelerator is done one after the other.
    pub fn accelerator(&self) -> PciAddress {
        match self {
            Self::Join { accelerator, .. } | Self::Cut { accelerator, .. } | Self::Pass { accelerator } => *accelerator,
        }
    }
}

/// What came of work: what nobody could know before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done, and there is nothing to tell.
    Done,
    /// The partition is there.
    Cut(Made),
    /// User space can have it.
    Passed {
        /// By what it reaches it.
        ways: Ways,
        /// What was moved, and whence.
        rebinding: Rebinding,
    },
}

/// Work that failed. The text says device, step, cause and what to do, for a pod's event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct WorkError {
    /// What happened.
    pub text: String,
    /// Whether it may succeed later, when somebody has let go of something.
    pub busy: bool,
    /// Whether what it was about is not there.
    pub gone: bool,
    /// Whether it was not even begun: then there is nothing to undo, and what is in its place is somebody else's.
    pub untouched: bool,
}

/// One vendor's way to change its hardware. Calls block, some for seconds; those about different accelerators may be made
/// at once.
pub trait Workbench: Send + Sync {
    /// Does it. Done before, it is found done.
    ///
    /// # Errors
    /// Then nothing of it is left, or what [`Workbench::undo`] removes.
    fn carry_out(&self, work: &Work, deadline: Instant) -> Result<Outcome, WorkError>;

    /// Undoes it, whether all, half or nothing of it was done. `outcome` is what came of it, if that is known.
    ///
    /// # Errors
    /// Then it is worth another try.
    fn undo(&self, work: &Work, outcome: Option<&Outcome>, deadline: Instant) -> Result<(), WorkError>;

    /// Whether the work is still done, with this outcome.
    ///
    /// # Errors
    /// When that cannot be known now.
    fn holds(&self, work: &Work, outcome: &Outcome) -> Result<bool, WorkError>;
}

/// The workbench of a vendor whose accelerators are handed out as they are: there is never anything to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWork;

impl Workbench for NoWork {
    fn carry_out(&self, work: &Work, _: Instant) -> Result<Outcome, WorkError> {
        // Nobody plans any; a record that says so was made for other hardware.
        let text = format!("accelerator {} knows no such work; delete the claim's pods", work.accelerator());
        Err(WorkError { text, busy: false, gone: false, untouched: true })
    }

    fn undo(&self, _: &Work, _: Option<&Outcome>, _: Instant) -> Result<(), WorkError> {
        Ok(())
    }

    fn holds(&self, _: &Work, _: &Outcome) -> Result<bool, WorkError> {
        Ok(false)
    }
}
