//! Work on the hardware for a claim, call by call: what `kubelet-plugin/src/works.rs` does in threads, on different
//! accelerators side by side and on the same one after the other.

use tessera_core::Record;
use tessera_driver::{Outcome, Work, WorkError};
use tessera_vocabulary::PciAddress;

use crate::bench::{Broken, Next, Way};
use crate::hardware::Hardware;
use crate::setting::Plant;

/// What is to become of the work of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    CarryOut,
    Undo,
    /// To see whether it is still done.
    Hold,
}

/// All work of one record.
#[derive(Debug)]
pub(crate) struct Works {
    task: Task,
    jobs: Vec<Job>,
    turn: usize,
}

/// One work.
#[derive(Debug)]
struct Job {
    work: Work,
    outcome: Option<Outcome>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Waits for the accelerator.
    Waits,
    UnderWay(Way),
    /// `None` as outcome of what has none, or does not hold.
    Ended(Result<Option<Outcome>, WorkError>),
}

/// What one turn led to.
pub(crate) enum Turn {
    /// All wait for accelerators that others work on.
    Waits,
    GoesOn,
    /// This was undone: it is to be told at once.
    Undone(Work),
    Died,
}

impl Works {
    pub(crate) fn new(record: &Record, task: Task) -> Self {
        let job = |(work, outcome): (&Work, Option<&Outcome>)| Job {
            work: work.clone(),
            outcome: outcome.cloned(),
            state: State::Waits,
        };
        // Only of what was done it can be asked whether it holds.
        let jobs = record.work().filter(|(_, outcome)| task != Task::Hold || outcome.is_some());
        Self { task, jobs: jobs.map(job).collect(), turn: 0 }
    }

    /// Whether it works on an accelerator now.
    pub(crate) fn works_on(&self, accelerator: PciAddress) -> bool {
        let under_way = |job: &Job| matches!(job.state, State::UnderWay(_)) && job.work.accelerator() == accelerator;
        self.jobs.iter().any(under_way)
    }

    /// One call about one of the works that can go on. `others` says which accelerators other claims' work is on.
    pub(crate) fn advance(
        &mut self,
        hardware: &mut Hardware,
        others: impl Fn(PciAddress) -> bool,
        plant: Option<Plant>,
    ) -> Turn {
        self.turn += 1;
        let free = |accelerator| !others(accelerator) && !self.works_on(accelerator);
        let can = |job: &Job| match job.state {
            State::Waits => free(job.work.accelerator()),
            State::UnderWay(_) => true,
            State::Ended(_) => false,
        };
        let ready: Vec<usize> = (0..self.jobs.len()).filter(|index| can(&self.jobs[*index])).collect();
        let Some(index) = ready.get(self.turn % ready.len().max(1)).copied() else { return Turn::Waits };
        let job = &mut self.jobs[index];
        let way = if let State::UnderWay(way) = &job.state { way.clone() } else { Way::default() };
        let left = match plant {
            Some(Plant::WorkLeft) => true,
            Some(Plant::PassLeft) => matches!(job.work, Work::Pass { .. }),
            _ => false,
        };
        let next = match (self.task, &job.outcome) {
            (Task::CarryOut, _) => hardware.carry_out(&job.work, way, plant).map(|next| next.map(Some)),
            (Task::Undo, _) if left => Ok(Next::Done(None)),
            (Task::Undo, outcome) => hardware.undo(&job.work, outcome.as_ref(), way).map(|next| next.map(|()| None)),
            (Task::Hold, Some(outcome)) => {
                hardware.holds(&job.work, outcome).map(|holds| Next::Done(holds.then(|| outcome.clone())))
            }
            (Task::Hold, None) => Ok(Next::Done(None)),
        };
        job.state = match next {
            Err(Broken::Died) => return Turn::Died,
            Err(Broken::Failed(error)) => State::Ended(Err(error)),
            Ok(Next::Call(way)) => State::UnderWay(way),
            Ok(Next::Done(outcome)) => State::Ended(Ok(outcome)),
        };
        match (self.task, &job.state) {
            (Task::Undo, State::Ended(Ok(_))) => Turn::Undone(job.work.clone()),
            _ => Turn::GoesOn,
        }
    }

    /// Whether all has come to an end.
    pub(crate) fn have_ended(&self) -> bool {
        self.jobs.iter().all(|job| matches!(job.state, State::Ended(_)))
    }

    /// The first failure.
    pub(crate) fn failure(&self) -> Option<WorkError> {
        self.jobs.iter().find_map(|job| match &job.state {
            State::Ended(Err(error)) => Some(error.clone()),
            _ => None,
        })
    }

    /// Whether all that was asked about holds.
    pub(crate) fn hold(&self) -> bool {
        self.jobs.iter().all(|job| matches!(job.state, State::Ended(Ok(Some(_)))))
    }

    /// The record with the outcomes.
    pub(crate) fn into_record(self, record: Record) -> Record {
        let results = self.jobs.into_iter().filter_map(|job| match job.state {
            State::Ended(Ok(outcome)) => outcome.map(Ok),
            State::Ended(Err(error)) => Some(Err(error)),
            State::Waits | State::UnderWay(_) => None,
        });
        record.after_work(results)
    }
}

impl<T> Next<T> {
    fn map<U>(self, of: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Self::Call(way) => Next::Call(way),
            Self::Done(done) => Next::Done(of(done)),
        }
    }
}
