//! The machines that lives are lived on.

use fastrand::Rng;
use tessera_core::Offering;

use crate::accelerator::Tie;
use crate::mig::Mig;

/// A machine, and what its node offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// How many GPUs it has.
    pub(crate) gpus: u8,
    /// What its agents offer besides wholes.
    pub(crate) offering: Offering,
    /// How the GPU of a slot can be cut.
    pub(crate) cut: fn(u8) -> Option<Mig>,
    pub(crate) tie: Tie,
    /// Whether an IOMMU is on: without one nothing can be handed to user space.
    pub(crate) iommu: bool,
    /// Whether GPUs have a second PCI function, for sound: it goes to user space with the first.
    pub(crate) sound: bool,
    /// The slots whose GPUs an admin has bound to VFIO for each boot.
    pub(crate) bound: &'static [u8],
}

const PLAIN: Machine = Machine {
    gpus: 4,
    offering: Offering::NOTHING,
    cut: uncut,
    tie: Tie::NumaNode,
    iommu: true,
    sound: false,
    bound: &[],
};

const PARTITIONS: Offering = Offering { partitions: true, ..Offering::NOTHING };
const PASSTHROUGH: Offering = Offering { passthrough: true, ..Offering::NOTHING };
const GROUPS: Offering = Offering { groups: true, ..Offering::NOTHING };
const ALL: Offering = Offering { partitions: true, passthrough: true, groups: true };

/// Each kind of offer by itself, beside each other, and all at once.
const MACHINES: [Machine; 20] = [
    PLAIN,
    Machine { gpus: 1, offering: PARTITIONS, cut: switchable, ..PLAIN },
    Machine { gpus: 4, offering: ALL, cut: each_kind, tie: Tie::Quads, ..PLAIN },
    Machine { gpus: 2, offering: PASSTHROUGH, sound: true, ..PLAIN },
    Machine { gpus: 8, offering: GROUPS, tie: Tie::Switches, ..PLAIN },
    Machine { gpus: 3, offering: PARTITIONS, cut: each_kind, ..PLAIN },
    Machine { gpus: 2, offering: Offering { groups: false, ..ALL }, cut: with_reset, ..PLAIN },
    Machine { gpus: 4, offering: ALL, tie: Tie::PcieSwitches, sound: true, bound: &[3], ..PLAIN },
    Machine { gpus: 8, offering: ALL, cut: first_two, tie: Tie::Switches, ..PLAIN },
    Machine { gpus: 3, cut: each_kind, bound: &[1], ..PLAIN },
    Machine { gpus: 0, offering: ALL, ..PLAIN },
    Machine { gpus: 4, offering: Offering { passthrough: false, ..ALL }, cut: each_kind, ..PLAIN },
    Machine { gpus: 5, offering: Offering { partitions: false, ..ALL }, tie: Tie::Quads, bound: &[0], ..PLAIN },
    Machine { gpus: 6, ..PLAIN },
    Machine { gpus: 2, offering: PARTITIONS, cut: with_reset, ..PLAIN },
    Machine { gpus: 3, offering: ALL, cut: switchable, ..PLAIN },
    Machine { gpus: 2, offering: ALL, cut: each_kind, iommu: false, ..PLAIN },
    Machine { gpus: 1, offering: PASSTHROUGH, cut: with_reset, ..PLAIN },
    Machine { gpus: 2, sound: true, ..PLAIN },
    Machine { gpus: 2, offering: PARTITIONS, cut: switchable, ..PLAIN },
];

impl Machine {
    /// The machine of a life.
    pub(crate) fn of(seed: u64) -> Self {
        MACHINES[Rng::with_seed(seed).usize(..MACHINES.len())]
    }
}

fn uncut(_slot: u8) -> Option<Mig> {
    None
}

fn switchable(_slot: u8) -> Option<Mig> {
    Some(Mig::switchable())
}

fn with_reset(_slot: u8) -> Option<Mig> {
    Some(Mig::with_reset())
}

fn each_kind(slot: u8) -> Option<Mig> {
    match slot % 3 {
        0 => Some(Mig::switchable()),
        1 => Some(Mig::with_reset()),
        _ => None,
    }
}

fn first_two(slot: u8) -> Option<Mig> {
    each_kind(if slot < 2 { slot } else { 2 })
}
