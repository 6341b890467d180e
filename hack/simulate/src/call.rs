//! Calls of the kubelet that an agent works on, stage by stage: between two stages anything may happen.

use tessera_core::{ClaimRef, Granted, Ledger, PreparedDevice, Record, allocations};

use crate::agent::{Agent, OperationError};
use crate::claim::{self, Claim};
use crate::hardware::Hardware;
use crate::server::Server;

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
    stage: Stage,
}

/// What comes next.
#[derive(Debug)]
enum Stage {
    /// The claim's lock, then what is known of it.
    Lock,
    /// What the API server knows of it.
    Get(Option<Box<Ledger>>),
    /// The plan.
    Reserve(Granted, Option<Box<Ledger>>),
    /// The rest of the steps.
    CarryOut(Box<Record>),
}

/// What a stage led to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Another call for the claim comes first.
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
    /// Whether nothing was known of the claim when the call came to it.
    pub(crate) fresh: bool,
    pub(crate) result: Result<Vec<PreparedDevice>, OperationError>,
}

impl Call {
    pub(crate) fn new(claim: ClaimRef, wish: Wish) -> Self {
        Self { claim, wish, stage: Stage::Lock }
    }

    /// Whether it waits, so that it can be dropped.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.stage, Stage::Lock | Stage::Get(_))
    }
}

/// One stage of the call at `index`.
pub(crate) fn advance(
    agent: &mut Agent,
    index: usize,
    claims: &[Claim],
    server: &Server,
    hardware: &Hardware,
) -> Progress {
    let uid = &agent.calls[index].claim.uid;
    let locked = |other: &Call| other.claim.uid == *uid && !matches!(other.stage, Stage::Lock);
    if matches!(agent.calls[index].stage, Stage::Lock) && agent.calls.iter().any(locked) && !agent.ignores_locks() {
        return Progress::Waits;
    }
    // Out of the list, so that the agent can be used; back in its place if it goes on.
    let mut call = agent.calls.remove(index);
    let fresh = !matches!(call.stage, Stage::Lock);
    match stage(agent, &mut call, claims, server, hardware) {
        Ok(None) => {
            agent.calls.insert(index, call);
            Progress::GoesOn
        }
        Ok(Some(devices)) => Progress::Answered(Box::new(Answer { call, fresh, result: Ok(devices) })),
        Err(error) => Progress::Answered(Box::new(Answer { call, fresh, result: Err(error) })),
    }
}

fn stage(
    agent: &Agent,
    call: &mut Call,
    claims: &[Claim],
    server: &Server,
    hardware: &Hardware,
) -> Result<Option<Vec<PreparedDevice>>, OperationError> {
    match std::mem::replace(&mut call.stage, Stage::Lock) {
        Stage::Lock if call.wish == Wish::Unprepare => agent.forget(&call.claim.uid).map(|()| Some(Vec::new())),
        Stage::Lock => match agent.recall(&call.claim.uid)? {
            Some(record) => agent.prepared_before(record).map(Some),
            None => {
                call.stage = Stage::Get(agent.snapshot());
                Ok(None)
            }
        },
        Stage::Get(snapshot) => {
            let object = claim::read(claims, &call.claim, &agent.identity, server)?;
            let granted = allocations(&object, &call.claim, &agent.identity)?;
            if granted.allocations.is_empty() {
                return Ok(Some(Vec::new()));
            }
            call.stage = Stage::Reserve(granted, snapshot);
            Ok(None)
        }
        Stage::Reserve(granted, snapshot) => {
            let record = agent.reserve(&call.claim, &granted, snapshot.as_deref(), hardware)?;
            call.stage = Stage::CarryOut(Box::new(record));
            Ok(None)
        }
        Stage::CarryOut(record) => agent.carry_out(*record).map(Some),
    }
}
