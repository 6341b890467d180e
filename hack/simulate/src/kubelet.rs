//! The kubelet: its calls, and what it must be answered.

use tessera_core::{ClaimRef, ClaimUid, PreparedDevice, Refusal};

use crate::agent::OperationError;
use crate::call::{Answer, Around, Call, Progress, Wish, advance};
use crate::disk::Trouble;
use crate::invariant::{self, Invariant, Violation, broken, hold};
use crate::world::World;

/// All calls together have fewer stages.
const TURNS: usize = 400;

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
        for _ in 0..TURNS {
            let mut any = false;
            for index in (0..self.agents[agent].calls.len()).rev() {
                any |= index < self.agents[agent].calls.len() && self.stage(agent, index)?;
                if self.agents[agent].dead.get() {
                    return Ok(());
                }
            }
            if self.agents[agent].calls.is_empty() {
                return Ok(());
            }
            hold(any, Invariant::UnprepareEnds, || "calls wait for each other for ever".to_owned())?;
        }
        broken(Invariant::UnprepareEnds, || format!("calls go on after {TURNS} turns"))
    }

    /// How often disk and hardware have failed.
    fn faults(&self) -> [u64; 3] {
        let files = self.disk.0.borrow();
        [files.faults, files.faults_in_removing, self.hardware.troubles]
    }

    /// Calls of the agent to itself, to their ends if nothing holds them up.
    pub(crate) fn finish_internal(&mut self, agent: usize) -> Result<(), Violation> {
        for _ in 0..TURNS {
            let calls = &self.agents[agent].calls;
            let Some(index) = calls.iter().position(|call| call.internal) else { return Ok(()) };
            if self.agents[agent].dead.get() || !self.stage(agent, index)? {
                return Ok(());
            }
        }
        broken(Invariant::UnprepareEnds, || "the agent's own calls wait for each other for ever".to_owned())
    }

    /// Says whether anything went on.
    fn stage(&mut self, agent: usize, index: usize) -> Result<bool, Violation> {
        let faults = self.faults();
        let call = &mut self.agents[agent].calls[index];
        call.begun.get_or_insert(faults);
        let (uid, wish, internal) = (call.claim.uid.clone(), call.wish, call.internal);
        let mut around = Around { claims: &self.claims, server: &self.server, hardware: &mut self.hardware };
        let progress = advance(&mut self.agents[agent], index, &mut around);
        // The kubelet ends a claim when its pods have ended.
        if wish == Wish::Unprepare && !internal && !matches!(progress, Progress::Waits) {
            self.claims.iter_mut().filter(|claim| *claim.uid() == uid).for_each(|claim| claim.answer = None);
        }
        let went_on = !matches!(progress, Progress::Waits);
        match progress {
            Progress::Waits | Progress::GoesOn => {}
            Progress::Answered(answer) if matches!(answer.result, Err(OperationError::Disk(Trouble::Died))) => {}
            Progress::Answered(answer) => match wish {
                Wish::Prepare => self.prepared(*answer, &uid, agent)?,
                Wish::Unprepare => self.unprepared(*answer, &uid, agent)?,
            },
        }
        Ok(went_on)
    }

    fn prepared(&mut self, answer: Answer, uid: &ClaimUid, agent: usize) -> Result<(), Violation> {
        let (before, now) = (answer.call.begun.unwrap_or_default(), self.faults());
        let claim = self.claims.iter_mut().find(|claim| claim.uid() == uid);
        match answer.result {
            Ok(devices) => {
                let Some(claim) = claim else { return Ok(()) };
                if answer.call.internal {
                    return Ok(());
                }
                claim.called = true;
                let same = claim.tampered || claim.answer.as_ref().is_none_or(|first| told(first) == told(&devices));
                hold(same, Invariant::SameAnswer, || format!("{uid}: {:?}, then {devices:?}", claim.answer))?;
                let files = self.disk.0.borrow();
                hold(files.specs.contains_key(&claim.file), Invariant::SweptClean, || {
                    format!("{uid} was answered and has no spec")
                })?;
                invariant::is_there(&devices, files.specs.get(&claim.file), &self.hardware)?;
                drop(files);
                self.tally.prepared += 1;
                let any = |kind: fn(&PreparedDevice) -> bool| u64::from(devices.iter().any(kind));
                self.tally.cut += any(|device| device.uses.iter().any(|used| used.placement.is_some()));
                self.tally.passed += any(|device| device.device.as_str().starts_with("vfio"));
                self.tally.grouped += any(|device| device.uses.len() > 1);
                self.tally.repeated += u64::from(claim.answer.is_some());
                claim.answer = Some(devices);
                Ok(())
            }
            Err(error) if answer.call.fresh => {
                self.tally.refused += 1;
                self.tally.refused_as_held += u64::from(matches!(error, OperationError::Refusal(Refusal::Held { .. })));
                self.tally.refused_as_lent += u64::from(matches!(error, OperationError::Refusal(Refusal::Lent { .. })));
                self.tally.work_failed += u64::from(matches!(error, OperationError::Work(_)));
                let files = self.disk.0.borrow();
                let left = files.records.contains_key(uid)
                    || claim.as_ref().is_some_and(|claim| files.specs.contains_key(&claim.file));
                // A damaged record that could not be set aside is there and not known.
                let tampered = claim.is_some_and(|claim| claim.tampered);
                // The way back begins with a mark that has to be written.
                let marked = files.kept.get(uid).is_some_and(|kept| !kept.work.is_empty());
                let excused = tampered || before[1..] != now[1..] || marked && before != now;
                hold(!left || excused, Invariant::AllOrNothing, || {
                    format!("{} of {uid} failed ({error}) and something is left", answer.call.claim)
                })
            }
            Err(OperationError::Refusal(Refusal::Gone(device))) => {
                let given = claim.filter(|claim| !claim.tampered).and_then(|claim| claim.answer.as_ref());
                let group = given.into_iter().flatten().find(|given| given.device == device && given.uses.len() > 1);
                let whole = group.is_some_and(|group| self.agents[agent].has_members(group));
                hold(!whole, Invariant::SameAnswer, || format!("{uid} is told that {device} is gone, and it is not"))
            }
            Err(_) => Ok(()),
        }
    }

    fn unprepared(&mut self, answer: Answer, uid: &ClaimUid, agent: usize) -> Result<(), Violation> {
        let (before, now) = (answer.call.begun.unwrap_or_default(), self.faults());
        let files = self.disk.0.borrow();
        if matches!(answer.result, Err(OperationError::AskedFor)) {
            return Ok(());
        }
        if let Err(error) = answer.result {
            return hold(before != now, Invariant::UnprepareEnds, || format!("{uid}: {error}"));
        }
        let file = self.agents[agent].identity.cdi_file(uid).ok();
        let left = files.records.contains_key(uid) || file.is_some_and(|file| files.specs.contains_key(&file));
        let known = self.agents[agent].with_ledger(|ledger| ledger.get(uid).is_some());
        hold(!left && !known, Invariant::NothingLeft, || format!("{uid} was unprepared and something is left"))?;
        drop(files);
        if answer.call.internal {
            return Ok(());
        }
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
            self.stage(agent, last)?;
        }
        Ok(())
    }
}

/// What the kubelet is told of devices; what is behind the names is the agent's business.
fn told(devices: &[PreparedDevice]) -> Vec<(&[String], &str, &[String])> {
    devices.iter().map(|device| (&device.requests[..], device.device.as_str(), &device.cdi_ids[..])).collect()
}
