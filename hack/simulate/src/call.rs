//! Calls of the kubelet that an agent works on, and what its own comparison finds to do, stage by stage as in
//! `kubelet-plugin/src/claims.rs`: between two stages anything may happen.

use tessera_core::{ClaimRef, Granted, Ledger, PreparedDevice, Record, allocations};
use tessera_vocabulary::PciAddress;

use crate::agent::{Agent, Before, OperationError};
use crate::claim::{self, Claim};
use crate::disk::Trouble;
use crate::hardware::Hardware;
use crate::server::Server;
use crate::works::{Task, Turn, Works};

/// What the kubelet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Prepare,
    Unprepare,
}

/// A call that was not answered yet.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) claim: ClaimRef,
    pub(crate) wish: Wish,
    /// The agent calls itself: what its comparison with pods and API server led to.
    pub(crate) internal: bool,
    /// Whether nothing is known of the claim, or nothing any more, since the call began.
    pub(crate) fresh: bool,
    /// How many faults of the disk, of them in removing, and of the hardware there had been when it began.
    pub(crate) begun: Option<[u64; 3]>,
    stage: Stage,
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// The claim's lock, then what is known of it.
    Lock,
    /// Whether what was done for it before is still so.
    Hold(Box<Record>, Works),
    /// What the API server knows of it.
    Get(Option<Box<Ledger>>),
    /// The plan.
    Reserve(Granted, Option<Box<Ledger>>),
    /// Work on the hardware.
    Work(Box<Record>, Granted, Works),
    /// The record with what came of it.
    Complete(Box<Record>, Granted),
    /// What the container runtime is told.
    Describe(Box<Record>),
    /// The way back: the spec and the mark.
    Withdraw(After),
    /// The work is undone.
    Undo(Works, After),
    /// The record goes.
    Remove(After),
}

/// What comes after all is undone, or could not be.
#[derive(Debug)]
enum After {
    /// The call is over.
    Answer,
    /// The claim is prepared anew.
    Anew,
    /// The call failed, whatever became of the undoing.
    Fail(Box<OperationError>),
}

/// What a stage led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Another call for the claim comes first, or other work on the accelerator.
    Waits,
    /// There is another stage.
    GoesOn,
    /// The call is over.
    Answered(Box<Answer>),
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) call: Call,
    pub(crate) result: Result<Vec<PreparedDevice>, OperationError>,
}

/// Where a stage leads.
enum Next {
    Stage(Stage),
    /// The same again.
    Wait(Stage),
    Answer(Vec<PreparedDevice>),
}

/// What surrounds a stage.
pub(crate) struct Around<'a> {
    pub(crate) claims: &'a [Claim],
    pub(crate) server: &'a Server,
    pub(crate) hardware: &'a mut Hardware,
}

impl Call {
    pub(crate) fn new(claim: ClaimRef, wish: Wish) -> Self {
        Self { claim, wish, internal: false, fresh: false, begun: None, stage: Stage::Lock }
    }

    pub(crate) fn internal(claim: ClaimRef, wish: Wish) -> Self {
        Self { internal: true, ..Self::new(claim, wish) }
    }

    /// Whether it waits, so that it can be dropped.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Lock | Stage::Get(_))
    }

    /// Whether its work is on an accelerator now.
    pub(crate) fn works_on(&self, accelerator: PciAddress) -> bool {
        match &self.stage {
            Stage::Hold(_, works) | Stage::Work(_, _, works) | Stage::Undo(works, _) => works.works_on(accelerator),
            _ => false,
        }
    }
}

/// One stage of the call at `index`.
pub(crate) fn advance(agent: &mut Agent, index: usize, around: &mut Around<'_>) -> Progress {
    let uid = &agent.calls[index].claim.uid;
    let locked = |other: &Call| other.claim.uid == *uid && !matches!(other.stage, Stage::Lock);
    if matches!(agent.calls[index].stage, Stage::Lock) && agent.calls.iter().any(locked) && !agent.ignores_locks() {
        return Progress::Waits;
    }
    // Out of the list, so that the agent can be used; back in its place if it goes on.
    let mut call = agent.calls.remove(index);
    let (progress, stage) = match stage(agent, &mut call, around) {
        Ok(Next::Stage(stage)) => (Progress::GoesOn, stage),
        Ok(Next::Wait(stage)) => (Progress::Waits, stage),
        Ok(Next::Answer(devices)) => return Progress::Answered(Box::new(Answer { call, result: Ok(devices) })),
        Err(error) => return Progress::Answered(Box::new(Answer { call, result: Err(error) })),
    };
    call.stage = stage;
    agent.calls.insert(index, call);
    progress
}

fn stage(agent: &mut Agent, call: &mut Call, around: &mut Around<'_>) -> Result<Next, OperationError> {
    let uid = call.claim.uid.clone();
    let next = match std::mem::replace(&mut call.stage, Stage::Lock) {
        Stage::Lock if call.wish == Wish::Unprepare && call.internal && agent.was_asked_for(&uid)? => {
            return Err(OperationError::AskedFor);
        }
        Stage::Lock if call.wish == Wish::Unprepare => return withdraw(agent, call, After::Answer),
        Stage::Lock => match agent.before(&uid)? {
            Before::Nothing => Stage::Get(agent.snapshot()),
            Before::Ready(devices) => return Ok(Next::Answer(devices)),
            Before::Worked(record) if record.is_whole() => {
                let works = Works::new(&record, Task::Hold);
                Stage::Hold(record, works)
            }
            Before::Worked(_) => Stage::Withdraw(After::Anew),
        },
        Stage::Hold(record, works) => match turn(agent, works, around)? {
            (works, true) => Stage::Hold(record, works),
            (works, false) if !works.have_ended() => return Ok(Next::Wait(Stage::Hold(record, works))),
            (works, false) => match works.failure() {
                // Nothing is known: what a container may use must not be undone.
                Some(error) => return Err(error.into()),
                None if works.hold() => match agent.answer_again(*record)? {
                    Some(devices) => return Ok(Next::Answer(devices)),
                    None => Stage::Withdraw(After::Anew),
                },
                None => Stage::Withdraw(After::Anew),
            },
        },
        Stage::Get(snapshot) => {
            call.fresh = true;
            let object = claim::read(around.claims, &call.claim, &agent.identity, around.server)?;
            let granted = allocations(&object, &call.claim, &agent.identity)?;
            if granted.allocations.is_empty() {
                return Ok(Next::Answer(Vec::new()));
            }
            Stage::Reserve(granted, snapshot)
        }
        Stage::Reserve(granted, snapshot) => {
            let record = agent.reserve(&call.claim, &granted, snapshot.as_deref(), around.hardware)?;
            let works = Works::new(&record, Task::CarryOut);
            if record.is_whole() {
                Stage::Describe(Box::new(record))
            } else {
                Stage::Work(Box::new(record), granted, works)
            }
        }
        Stage::Work(record, granted, works) => match turn(agent, works, around)? {
            (works, true) => Stage::Work(record, granted, works),
            (works, false) if !works.have_ended() => return Ok(Next::Wait(Stage::Work(record, granted, works))),
            (works, false) => match works.failure() {
                None => Stage::Complete(Box::new(works.into_record(*record)), granted),
                Some(error) => {
                    keep_half_done(agent, &record, works, around.hardware)?;
                    failed(error.into())
                }
            },
        },
        Stage::Complete(done, granted) => match agent.complete((*done).clone(), &granted, around.hardware) {
            Ok(record) => Stage::Describe(Box::new(record)),
            Err(error) => {
                keep_known(agent, Record { ending: true, ..*done }, around.hardware)?;
                failed(error)
            }
        },
        Stage::Describe(record) => match agent.describe(*record) {
            Ok(devices) => return Ok(Next::Answer(devices)),
            Err(error) => failed(error),
        },
        Stage::Withdraw(after) => return withdraw(agent, call, after),
        Stage::Undo(works, after) => match turn(agent, works, around)? {
            (works, true) => Stage::Undo(works, after),
            (works, false) if !works.have_ended() => return Ok(Next::Wait(Stage::Undo(works, after))),
            (works, false) => match works.failure() {
                None => Stage::Remove(after),
                Some(error) => return Err(instead(after, error.into())),
            },
        },
        Stage::Remove(after) => match agent.remove(&uid) {
            Ok(()) => return afterwards(agent, after),
            Err(error) => return Err(instead(after, error.into())),
        },
    };
    match next {
        // The planted bug.
        Stage::Withdraw(After::Fail(error)) if agent.undoes_nothing() => Err(*error),
        next => Ok(Next::Stage(next)),
    }
}

/// One turn of some work; whether anything went on.
fn turn(agent: &mut Agent, mut works: Works, around: &mut Around<'_>) -> Result<(Works, bool), OperationError> {
    let turn = works.advance(around.hardware, |accelerator| agent.works_on(accelerator), agent.plant);
    let went_on = match turn {
        Turn::Waits => false,
        Turn::GoesOn => true,
        Turn::Undone(work) => {
            agent.undone(&work);
            true
        }
        Turn::Died => {
            agent.dead.set(true);
            return Err(Trouble::Died.into());
        }
    };
    Ok((works, went_on))
}

fn failed(error: OperationError) -> Stage {
    Stage::Withdraw(After::Fail(Box::new(error)))
}

/// What is known of work of which some failed is kept.
fn keep_half_done(
    agent: &Agent,
    planned: &Record,
    works: Works,
    hardware: &mut Hardware,
) -> Result<(), OperationError> {
    let half_done = works.into_record(planned.clone());
    if half_done.devices == planned.devices {
        return Ok(());
    }
    // What goes out of the record is spoken for as well.
    keep_known(agent, half_done, hardware).inspect_err(|_| planned.work().for_each(|(work, _)| hardware.forgive(work)))
}

/// What is known of work that is about to be undone is kept. An agent that dies right here, or cannot write, leaves a record
/// that says otherwise: what an admin put there is nobody's from then on.
fn keep_known(agent: &Agent, known: Record, hardware: &mut Hardware) -> Result<(), OperationError> {
    let work: Vec<_> = known.work().map(|(work, _)| work.clone()).collect();
    let kept = agent.keep(known);
    if kept.is_err() {
        work.iter().for_each(|work| hardware.forgive(work));
    }
    kept.map(|_| ())
}

fn withdraw(agent: &mut Agent, call: &Call, after: After) -> Result<Next, OperationError> {
    match agent.withdraw(&call.claim.uid) {
        Ok(Some(record)) => Ok(Next::Stage(Stage::Undo(Works::new(&record, Task::Undo), after))),
        Ok(None) => afterwards(agent, after),
        Err(error) => Err(instead(after, error)),
    }
}

fn afterwards(agent: &Agent, after: After) -> Result<Next, OperationError> {
    match after {
        After::Answer => Ok(Next::Answer(Vec::new())),
        After::Anew => Ok(Next::Stage(Stage::Get(agent.snapshot()))),
        After::Fail(error) => Err(*error),
    }
}

/// The error that the caller is told when the way back ends with one.
fn instead(after: After, error: OperationError) -> OperationError {
    match (after, error) {
        (_, OperationError::Disk(Trouble::Died)) => Trouble::Died.into(),
        (After::Fail(cause), _) => *cause,
        (_, error) => error,
    }
}
