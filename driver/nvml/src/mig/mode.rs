//! The mode: whether a GPU is to be cut at all.

/// The mode of a GPU that can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigMode {
    /// What it is.
    pub current: bool,
    /// What it becomes at the next reset of the GPU or reboot; equal to `current` if nothing waits.
    pub pending: bool,
}

/// What became of a new mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ModeChange {
    /// It is there. The driver may have reset the GPU for it: facts like the minor number are to be read again.
    Done,
    /// It is noted, and comes when the GPU is reset or the node reboots: Ampere, where the driver may not reset.
    NeedsReset,
}
