//! What can happen, as plain data. A number that stands for one of several things is taken modulo how many there are,
//! so that a list of events still means something after some of them were left out.

use fastrand::Rng;

use crate::by_count;

/// One thing that happens on the node or around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody makes a claim of a name, if there is none of that name.
    Create {
        /// Which of a few names.
        name: u8,
        /// How many devices it wants.
        devices: u8,
        /// For watching only.
        admin: bool,
        /// Which of the kinds of devices that there are.
        kind: u8,
    },
    /// The claim is deleted, whether its pods have ended or not: the scheduler may give its devices away.
    Delete(u8),
    /// The allocation is taken back; the claim stays.
    Deallocate(u8),
    /// The scheduler allocates a claim out of the slices that are published.
    Schedule(u8),
    /// The kubelet asks for a number of claims in one call.
    Prepare {
        /// The first of them.
        first: u8,
        /// How many.
        count: u8,
        /// Whether the call is carried through at once, as it is when nothing is slow.
        at_once: bool,
    },
    /// The kubelet ends a claim.
    Unprepare(u8),
    /// The kubelet loses its state: it stops its pods and will never end their claims.
    KubeletForgets,
    /// The kubelet ends a claim that never was.
    UnprepareUnknown,
    /// A call goes on by one stage.
    Advance(u8),
    /// Every call goes on until it is answered or waits.
    Finish,
    /// The kubelet gives a call up, and then ends the claim or not; the agent drops the call where it waits for the API
    /// server or for another call.
    GiveUp(u8),
    /// kill -9.
    Crash(u8),
    /// An agent starts, if none runs.
    Start,
    /// An upgrade: a second agent starts beside the first.
    StartSecond,
    /// The upgrade ends: the older agent is stopped.
    StopFirst,
    /// The node reboots.
    Reboot {
        /// Whether /run is in memory, as it should be.
        emptied: bool,
    },
    /// What the disk is like from now on.
    Disk(DiskState),
    /// A fault in one of the next operations on the disk.
    DiskFault {
        /// How many operations later.
        after: u8,
        /// What happens.
        fault: DiskFault,
    },
    /// A claim's record is damaged or removed by a person.
    DamageRecord {
        /// Whose.
        claim: u8,
        /// How.
        damage: Damage,
    },
    /// A claim's CDI spec is damaged or removed by a person.
    DamageSpec {
        /// Whose.
        claim: u8,
        /// How.
        damage: Damage,
    },
    /// The file of what pods have by count is damaged or removed by a person.
    DamageLoans(Damage),
    /// A CDI spec of a claim that nobody knows appears.
    Stray,
    /// The API server goes or comes back.
    ApiDown(bool),
    /// A fault in one of the next writes to the API server.
    ApiFault {
        /// How many writes later.
        after: u8,
        /// What happens.
        fault: ApiFault,
    },
    /// The API server begins or ceases to drop taints.
    DropTaints(bool),
    /// The kubelet wipes the node's slices.
    Wipe,
    /// A person changes a slice.
    Edit {
        /// Which.
        slice: u8,
        /// How.
        edit: Edit,
    },
    /// The Node object is deleted and made anew.
    NewNode,
    /// The garbage collector removes slices of a Node object that is gone.
    Collect,
    /// The agents hear what changed at the API server.
    Deliver,
    /// The watches break; the slices are listed anew.
    Relist,
    /// What one GPU is like from now on.
    Gpu {
        /// Which.
        slot: u8,
        /// What it is like.
        state: GpuState,
    },
    /// A person changes how a GPU is cut, by hand.
    Hand {
        /// Which GPU.
        slot: u8,
        /// What is done.
        hand: Hand,
        /// Which instance or place.
        which: u8,
    },
    /// A person gives a GPU to another driver, by hand.
    Rebind {
        /// Which GPU.
        slot: u8,
        /// What is done.
        rebind: Rebind,
        /// Which half.
        which: u8,
    },
    /// A process begins or ceases to use a GPU, or an instance on it.
    Process {
        /// Which GPU.
        slot: u8,
        /// Which instance.
        which: u8,
        /// Whether it runs from now on.
        runs: bool,
    },
    /// A fault in one of the next calls about work on a GPU.
    WorkFault {
        /// How many calls later.
        after: u8,
        /// What happens.
        fault: WorkFault,
    },
    /// A look at the hardware begins; it ends some time later.
    Look(u8),
    /// The driver fails for all, or works again.
    DriverFails(bool),
    /// Many more GPUs come or go: more than one slice holds.
    Many(bool),
    /// A pod asks for devices by count.
    Count {
        /// Which of the resources that the kubelet knows.
        resource: u8,
        /// How many devices.
        devices: u8,
        /// Whether its containers start at once; else another device plugin has to answer too.
        at_once: bool,
        /// Whether only a container that prepares the pod gets them: the kubelet lists it nowhere.
        prepares: bool,
    },
    /// A pod that asked by count ends. The kubelet tells nobody.
    EndCounted(u8),
    /// The kubelet hears which devices there are by count.
    TellKubelet,
    /// What agents asked the kubelet about pods is answered.
    Answer,
    /// The kubelet ends and starts anew; pods run on.
    KubeletRestarts,
    /// Time goes by: hardware is looked at, claims' files are looked after, slices are published.
    Pass {
        /// Hundreds of milliseconds.
        tenths: u16,
    },
    /// All that was under way at the API server ends well; then the slices must be right.
    Settle,
}

/// What a disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskState {
    /// All that is asked of it.
    #[default]
    Works,
    /// Nothing new can be written.
    Full,
    /// Nothing can be written or removed.
    ReadOnly,
}

/// What goes wrong with one operation on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// It fails.
    Fails,
    /// It is done, and fails.
    DoneAndFails,
    /// The agent dies in the middle: an unfinished file is left.
    DiesInside,
    /// The agent dies right after it.
    DiesAfter,
}

/// What goes wrong with one write to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    /// It fails.
    Fails,
    /// Another writer was faster.
    Conflict,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is done, and the agent dies.
    AgentDies,
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It is gone.
    Removed,
    /// Its end is missing.
    Truncated,
    /// One of its bytes is another.
    Garbled,
}

/// What a person does to a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Deletes it.
    Delete,
    /// Takes the taints off.
    Untaint,
    /// Takes a device out.
    TakeDevice,
    /// Raises the generation.
    Generation,
    /// Changes the number of slices that the pool is said to have.
    Count,
    /// Adds a slice of the pool that is none of ours.
    Foreign,
}

/// What a person does to a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Makes an instance that can be used.
    Make,
    /// Makes one and leaves it empty.
    HalfMake,
    /// Makes one and cuts it further.
    CutFurther,
    /// Destroys one, whosever it is.
    Destroy,
    /// Switches the mode, where that takes no reset.
    Switch,
    /// Resets the GPU, with another mode.
    Reset,
}

/// What a person does with the drivers of a GPU's functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebind {
    /// Gives all functions to VFIO.
    All,
    /// Gives it the second one, or leaves the first to nobody but VFIO, which does not take it yet.
    Half,
    /// Takes the GPU from its driver.
    Unbind,
    /// Gives all functions back to their drivers.
    Back,
}

/// What goes wrong with one call about work on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkFault {
    /// It fails.
    Fails,
    /// Something is in use.
    Busy,
    /// It is done, and fails.
    DoneAndFails,
    /// The agent dies before it.
    DiesBefore,
    /// It is done, and the agent dies.
    DiesAfter,
}

/// What a GPU is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuState {
    /// It answers.
    Ready,
    /// It is on the bus and does not answer.
    Silent,
    /// It is not there.
    Pulled,
    /// It answers, but its device node is missing.
    NoNode,
}

/// The events of one life of a node.
pub fn events(seed: u64, count: usize) -> Vec<Event> {
    let mut rng = Rng::with_seed(seed);
    if !by_count::is_served(seed) {
        return (0..count).map(|_| event(&mut rng)).collect();
    }
    let mut of_pods = Rng::with_seed(!seed);
    (0..count).map(|_| if of_pods.u8(..5) == 0 { counted(&mut of_pods) } else { event(&mut rng) }).collect()
}

/// One event of pods that ask by count.
fn counted(rng: &mut Rng) -> Event {
    let any = rng.u8(..);
    match rng.u8(..41) {
        0..14 => {
            Event::Count { resource: any, devices: rng.u8(1..3), at_once: rng.u8(..3) != 0, prepares: rng.u8(..8) == 0 }
        }
        14..22 => Event::EndCounted(any),
        22..32 => Event::TellKubelet,
        32..39 => Event::Answer,
        39 => Event::KubeletRestarts,
        _ => Event::DamageLoans(damage(rng)),
    }
}

/// One event. Calls are frequent, disasters are rare enough for something to be built up between them, and what
/// mends a fault comes as often as the fault.
fn event(rng: &mut Rng) -> Event {
    let any = rng.u8(..);
    let often = rng.u8(..8) != 0;
    match rng.u16(..1080) {
        0..90 => Event::Create { name: any, devices: rng.u8(1..3), admin: rng.u8(..8) == 0, kind: rng.u8(..) },
        90..170 => Event::Schedule(any),
        170..350 => Event::Prepare { first: any, count: rng.u8(1..4), at_once: rng.u8(..3) == 0 },
        350..410 => Event::Unprepare(any),
        410..413 => Event::UnprepareUnknown,
        413..415 => Event::KubeletForgets,
        415..530 => Event::Advance(any),
        530..545 => Event::Finish,
        545..595 => Event::Delete(any),
        595..605 => Event::Deallocate(any),
        605..660 => Event::GiveUp(any),
        660..670 => Event::Crash(any),
        670..710 => Event::Start,
        710..716 => Event::StartSecond,
        716..730 => Event::StopFirst,
        730..733 => Event::Reboot { emptied: often },
        733..745 => {
            Event::Disk(if often { DiskState::Works } else { *pick(rng, &[DiskState::Full, DiskState::ReadOnly]) })
        }
        745..765 => Event::DiskFault {
            after: rng.u8(..6),
            fault: *pick(
                rng,
                &[DiskFault::Fails, DiskFault::DoneAndFails, DiskFault::DiesInside, DiskFault::DiesAfter],
            ),
        },
        765..769 => Event::DamageRecord { claim: any, damage: damage(rng) },
        769..775 => Event::DamageSpec { claim: any, damage: damage(rng) },
        775..778 => Event::Stray,
        778..786 => Event::ApiDown(!often),
        786..798 => Event::ApiFault {
            after: rng.u8(..3),
            fault: *pick(rng, &[ApiFault::Fails, ApiFault::Conflict, ApiFault::AnswerLost, ApiFault::AgentDies]),
        },
        798..800 => Event::DropTaints(!often),
        800..803 => Event::Wipe,
        803..812 => Event::Edit {
            slice: any,
            edit: *pick(
                rng,
                &[Edit::Delete, Edit::Untaint, Edit::TakeDevice, Edit::Generation, Edit::Count, Edit::Foreign],
            ),
        },
        812..814 => Event::NewNode,
        814..820 => Event::Collect,
        820..850 => Event::Deliver,
        850..854 => Event::Relist,
        854..880 => Event::Gpu {
            slot: any,
            state: *pick(
                rng,
                &[
                    GpuState::Ready,
                    GpuState::Ready,
                    GpuState::Ready,
                    GpuState::Silent,
                    GpuState::Pulled,
                    GpuState::NoNode,
                ],
            ),
        },
        880..886 => Event::DriverFails(!often),
        886..888 => Event::Many(rng.u8(..5) == 0),
        888..985 => Event::Pass { tenths: if often { rng.u16(1..60) } else { rng.u16(60..900) } },
        985..1000 => Event::Settle,
        1000..1022 => Event::Hand {
            slot: any,
            hand: *pick(
                rng,
                &[
                    Hand::Make,
                    Hand::Make,
                    Hand::HalfMake,
                    Hand::CutFurther,
                    Hand::Destroy,
                    Hand::Destroy,
                    Hand::Destroy,
                    Hand::Switch,
                    Hand::Reset,
                ],
            ),
            which: rng.u8(..),
        },
        1065..1080 => Event::Rebind {
            slot: any,
            rebind: *pick(
                rng,
                &[
                    Rebind::All,
                    Rebind::All,
                    Rebind::Half,
                    Rebind::Unbind,
                    Rebind::Back,
                    Rebind::Back,
                    Rebind::Back,
                    Rebind::Back,
                ],
            ),
            which: rng.u8(..),
        },
        1022..1036 => Event::Process { slot: any, which: rng.u8(..), runs: rng.u8(..3) == 0 },
        1036..1050 => Event::WorkFault {
            after: rng.u8(..5),
            fault: *pick(
                rng,
                &[
                    WorkFault::Fails,
                    WorkFault::Busy,
                    WorkFault::DoneAndFails,
                    WorkFault::DiesBefore,
                    WorkFault::DiesAfter,
                ],
            ),
        },
        _ => Event::Look(any),
    }
}

fn damage(rng: &mut Rng) -> Damage {
    *pick(rng, &[Damage::Removed, Damage::Truncated, Damage::Garbled])
}

fn pick<'a, T>(rng: &mut Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.usize(..choices.len())]
}
