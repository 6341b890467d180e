//! What is looked for.

/// What a run is to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// A bug that is put in.
    pub plant: Option<Plant>,
}

/// A bug that is put into the simulated agent's shell on purpose: what the simulation is worth is shown by finding it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// A prepare that fails undoes nothing.
    UndoSkipped,
    /// Calls for one claim do not wait for each other, and a plan is made without the ledger's lock,
    /// from a copy that is older than what other claims were given.
    LockDropped,
    /// A record is entered in memory and, now and then, not written.
    RecordLost,
    /// Slices are written with the generation that they had.
    StaleGeneration,
    /// What was done to the hardware for a claim is not undone.
    WorkLeft,
    /// An instance that an admin made is taken for one's own.
    Adopted,
    /// A record that is being undone does not say so.
    EndingUnmarked,
    /// Nobody is told that an instance was removed: it is taken for an admin's until the next look.
    UndoingUntold,
    /// A GPU that was handed to user space is not taken back.
    PassLeft,
    /// The record of a claim that has a group does not say that it uses all members.
    MemberNotHeld,
    /// Another try to hand a GPU to user space, after one that got half-way, plans anew: what the first has moved is taken
    /// for how it was.
    PlannedAnew,
    /// A try to hand a GPU to user space that found nothing to do, and failed then, does not say so: what an admin has
    /// bound is taken from there.
    PassClaimed,
    /// What pods get by count stands in no ledger.
    LoanLost,
    /// It stands in no file: another agent has to hear of it from the kubelet.
    LoanUntold,
    /// What nobody needed a moment ago is undone, though the kubelet has asked for it since.
    OrphanAnyhow,
    /// A GPU is handed to user space without a look at what it is cut into by then.
    CutUnasked,
}
