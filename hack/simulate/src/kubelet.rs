//! The kubelet: its calls, and what it must be answered.

use tessera_core::{ClaimRef, ClaimUid, Refusal};

use crate::agent::OperationError;
use crate::call::{Answer, Call, Progress, Wish, advance};
use crate::disk::Trouble;
use crate::invariant::{Invariant, Violation, broken, hold};
use crate::world::World;

/// A call has fewer stages; more turns without an end would be a call that waits for itself.
const TURNS: usize = 400;

/// What the disk was like before a stage.
struct Before {
    faults: u64,
    faults_in_removing: u64,
}

impl World {
    pub(crate) fn prepare(&mut self, first: u8, count: u8, at_once: bool) -> Result<(), Violation> {
        let count = usize::from(count).min(self.claims.len());
        for offset in 0..count {
            let index = (usize::from(first) + offset) % self.claims.len();
            let claim = &self.claims[index];
            // A real one calls for claims that are allocated; now and then one is not any more when the call comes.
            if claim.allocation.is_none() && claim.answer.is_none() && !first.is_multiple_of(8) {
                continue;
            }
            let reference = claim.reference.clone();
            if self.call(reference, Wish::Prepare) {
                self.claims[index].called = true;
            }
        }
        if at_once { self.finish_all() } else { Ok(()) }
    }

    pub(crate) fn unprepare(&mut self, index: u8) -> Result<(), Violation> {
        let Some(claim) = self.claim(index).filter(|claim| claim.called) else { return Ok(()) };
        let reference = claim.reference.clone();
        if self.call(reference, Wish::Unprepare) && index.is_multiple_of(4) {
            return self.finish_all();
        }
        Ok(())
    }

    pub(crate) fn unprepare_unknown(&mut self) -> Result<(), Violation> {
        let Ok(uid) = "never-was".parse() else { return Ok(()) };
        let reference = ClaimRef { namespace: "team".to_owned(), name: "never-was".to_owned(), uid };
        self.call(reference, Wish::Unprepare);
        self.finish_all()
    }

    /// Calls the newest agent; or, while another works on the claim, that one: the kubelet does not ask two at once.
    fn call(&mut self, claim: ClaimRef, wish: Wish) -> bool {
        let works = |calls: &[Call]| calls.iter().any(|call| call.claim.uid == claim.uid);
        let busy = self.agents.iter().position(|agent| works(&agent.calls));
        let newest = self.agents.len().checked_sub(1);
        let Some(agent) = busy.or(newest).and_then(|index| self.agents.get_mut(index)) else { return false };
        agent.calls.push(Call::new(claim, wish));
        true
    }

    /// One stage of one call.
    pub(crate) fn advance_one(&mut self, index: u8) -> Result<(), Violation> {
        let total: usize = self.agents.iter().map(|agent| agent.calls.len()).sum();
        if total == 0 {
            return Ok(());
        }
        let mut index = usize::from(index) % total;
        for agent in 0..self.agents.len() {
            let calls = self.agents[agent].calls.len();
            if index < calls {
                self.stage(agent, index)?;
                return Ok(());
            }
            index -= calls;
        }
        Ok(())
    }

    /// All calls, by turns, to their ends.
    pub(crate) fn finish_all(&mut self) -> Result<(), Violation> {
        for agent in 0..self.agents.len() {
            self.finish(agent)?;
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self, agent: usize) -> Result<(), Violation> {
        for turn in 0..TURNS {
            let calls = self.agents[agent].calls.len();
            if calls == 0 || self.agents[agent].dead.get() {
                return Ok(());
            }
            self.stage(agent, turn % calls)?;
        }
        broken(Invariant::UnprepareEnds, || "calls wait for each other for ever".to_owned())
    }

    fn stage(&mut self, agent: usize, index: usize) -> Result<(), Violation> {
        let call = &self.agents[agent].calls[index];
        let (uid, wish) = (call.claim.uid.clone(), call.wish);
        let before = {
            let files = self.disk.0.borrow();
            Before { faults: files.faults, faults_in_removing: files.faults_in_removing }
        };
        let progress = advance(&mut self.agents[agent], index, &self.claims, &self.server, &self.hardware);
        // The kubelet ends a claim when its pods have ended.
        if wish == Wish::Unprepare && !matches!(progress, Progress::Waits) {
            self.claims.iter_mut().filter(|claim| *claim.uid() == uid).for_each(|claim| claim.answer = None);
        }
        match progress {
            Progress::Waits | Progress::GoesOn => Ok(()),
            Progress::Answered(answer) if matches!(answer.result, Err(OperationError::Disk(Trouble::Died))) => Ok(()),
            Progress::Answered(answer) => match wish {
                Wish::Prepare => self.prepared(*answer, &uid, &before),
                Wish::Unprepare => self.unprepared(*answer, &uid, &before, agent),
            },
        }
    }

    fn prepared(&mut self, answer: Answer, uid: &ClaimUid, before: &Before) -> Result<(), Violation> {
        let claim = self.claims.iter_mut().find(|claim| claim.uid() == uid);
        match answer.result {
            Ok(devices) => {
                let Some(claim) = claim else { return Ok(()) };
                claim.called = true;
                let same = claim.tampered || claim.answer.as_ref().is_none_or(|first| *first == devices);
                hold(same, Invariant::SameAnswer, || format!("{uid}: {:?}, then {devices:?}", claim.answer))?;
                let files = self.disk.0.borrow();
                hold(files.specs.contains_key(&claim.file), Invariant::SweptClean, || {
                    format!("{uid} was answered and has no spec")
                })?;
                drop(files);
                self.tally.prepared += 1;
                self.tally.repeated += u64::from(claim.answer.is_some());
                claim.answer = Some(devices);
                Ok(())
            }
            Err(error) if answer.fresh => {
                self.tally.refused += 1;
                self.tally.refused_as_held += u64::from(matches!(error, OperationError::Refusal(Refusal::Held { .. })));
                let files = self.disk.0.borrow();
                let left = files.records.contains_key(uid)
                    || claim.as_ref().is_some_and(|claim| files.specs.contains_key(&claim.file));
                // A damaged record that could not be set aside is there and not known.
                let tampered = claim.is_some_and(|claim| claim.tampered);
                let excused = tampered || files.faults_in_removing > before.faults_in_removing;
                hold(!left || excused, Invariant::AllOrNothing, || {
                    format!("{} of {uid} failed ({error}) and something is left", answer.call.claim)
                })
            }
            Err(_) => Ok(()),
        }
    }

    fn unprepared(&mut self, answer: Answer, uid: &ClaimUid, before: &Before, agent: usize) -> Result<(), Violation> {
        let files = self.disk.0.borrow();
        if let Err(error) = answer.result {
            return hold(files.faults > before.faults, Invariant::UnprepareEnds, || format!("{uid}: {error}"));
        }
        let file = self.agents[agent].identity.cdi_file(uid).ok();
        let left = files.records.contains_key(uid) || file.is_some_and(|file| files.specs.contains_key(&file));
        let known = self.agents[agent].with_ledger(|ledger| ledger.get(uid).is_some());
        hold(!left && !known, Invariant::NothingLeft, || format!("{uid} was unprepared and something is left"))?;
        drop(files);
        self.tally.unprepared += 1;
        let others = self.agents.iter().any(|agent| agent.calls.iter().any(|call| call.claim.uid == *uid));
        if let Some(claim) = self.claims.iter_mut().find(|claim| claim.uid() == uid) {
            claim.tampered = false;
            claim.called = others;
        }
        self.forget_claims();
        Ok(())
    }

    /// The kubelet's patience ends. The agent notices where it waits, and nowhere else.
    pub(crate) fn give_up(&mut self, index: u8) -> Result<(), Violation> {
        let Some(agent) = self.agents.iter().position(|agent| !agent.calls.is_empty()) else { return Ok(()) };
        let calls = &mut self.agents[agent].calls;
        let any = usize::from(index) % calls.len();
        // More often one that the agent is in the midst of: what happens then is worth more.
        let midst = calls.iter().position(|call| !call.waits()).filter(|_| index.is_multiple_of(2));
        let index_of_call = midst.unwrap_or(any);
        let end = Call::new(calls[index_of_call].claim.clone(), Wish::Unprepare);
        if calls[index_of_call].waits() {
            calls.remove(index_of_call);
        }
        if index.is_multiple_of(4) {
            calls.push(end);
            let last = calls.len() - 1;
            return self.stage(agent, last);
        }
        Ok(())
    }
}
