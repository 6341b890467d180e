use std::fmt;
use std::ops::AddAssign;

/// What happened in a run: invariants that hold because nothing happens say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Prepares that were answered with devices.
    pub prepared: u64,
    /// Those of them that were answered so before.
    pub repeated: u64,
    /// Prepares of unknown claims that failed.
    pub refused: u64,
    /// Those of them that asked for a device that another claim holds.
    pub refused_as_held: u64,
    /// Those of them that asked for a device that a pod has by count.
    pub refused_as_lent: u64,
    /// Containers that got devices by count.
    pub allocated: u64,
    /// Containers that got none of those that the kubelet had chosen.
    pub not_allocated: u64,
    /// Prepares that were answered with partitions.
    pub cut: u64,
    /// Prepares that were answered with GPUs for user space.
    pub passed: u64,
    /// Prepares that were answered with groups.
    pub grouped: u64,
    /// Prepares that failed because work on the hardware did.
    pub work_failed: u64,
    /// What people did to the hardware.
    pub by_hand: u64,
    /// Unprepares that succeeded.
    pub unprepared: u64,
    /// Agents that died or were stopped.
    pub stopped: u64,
    /// Writes of agents to the API server.
    pub slice_writes: u64,
    /// How often the slices were held against inventory and ledger.
    pub settled: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.prepared += other.prepared;
        self.repeated += other.repeated;
        self.refused += other.refused;
        self.refused_as_held += other.refused_as_held;
        self.refused_as_lent += other.refused_as_lent;
        self.allocated += other.allocated;
        self.not_allocated += other.not_allocated;
        self.cut += other.cut;
        self.passed += other.passed;
        self.grouped += other.grouped;
        self.work_failed += other.work_failed;
        self.by_hand += other.by_hand;
        self.unprepared += other.unprepared;
        self.stopped += other.stopped;
        self.slice_writes += other.slice_writes;
        self.settled += other.settled;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} prepared ({} repeated, {} with partitions, {} for user space, {} with groups), {} refused ({} as held, {} \
             as lent, {} at the hardware), {} allocated by count ({} not), {} changes by hand, {} unprepared, {} agents ended, {} slice writes, {} times settled",
            self.prepared,
            self.repeated,
            self.cut,
            self.passed,
            self.grouped,
            self.refused,
            self.refused_as_held,
            self.refused_as_lent,
            self.work_failed,
            self.allocated,
            self.not_allocated,
            self.by_hand,
            self.unprepared,
            self.stopped,
            self.slice_writes,
            self.settled
        )
    }
}
