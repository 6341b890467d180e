//! Agents that start, stop and die, reboots, and the time that passes.

use std::collections::BTreeSet;

use tessera_core::{ClaimUid, PreparedDevice, Record, StoredRecord};

use crate::agent::{Agent, Desk};
use crate::disk::Files;
use crate::event::DiskState;
use crate::invariant::{self, Invariant, Violation, hold};
use crate::offers;
use crate::publisher::{Context, Failure};
use crate::server::Refused;
use crate::world::{NODE, World};
use crate::{apart, by_count};

/// How often an agent looks at the hardware and after its claims' files, in milliseconds.
const LOOK: u64 = 5_000;
const SWEEP: u64 = 60_000;
/// After so long without an agent the kubelet has started one.
const RESTART: u64 = 2_000;
/// After so many rounds the slices must be as they should be.
const ROUNDS: u32 = 12;

impl World {
    pub(crate) fn start_agent(&mut self) -> Result<(), Violation> {
        let Some(identity) = self.identity() else { return Ok(()) };
        self.agents_started += 1;
        let alone = self.agents.is_empty();
        let boot = identity.boot_id.clone();
        let intact: Vec<_> = {
            let files = self.disk.0.borrow();
            let good = |bytes: &Vec<u8>| {
                StoredRecord::decode(bytes.clone()).is_ok_and(|stored| stored.record().boot_id == boot)
            };
            files.records.iter().filter(|(_, bytes)| good(bytes)).map(|(uid, _)| uid.clone()).collect()
        };
        let faults = self.disk.0.borrow().faults;
        let mut agent =
            Agent::new(self.agents_started, identity, self.disk.clone(), alone, self.offering, self.setting.plant);
        agent.desk = Desk::new(by_count::config(self.seed, self.agents_started));
        let taken_over = agent.take_over().is_ok();
        let loaded = agent.with_ledger(|ledger| {
            intact.len() == ledger.records().count() && intact.iter().all(|uid| ledger.get(uid).is_some())
        });
        hold(loaded || !taken_over, Invariant::RecordsLoaded, || {
            format!("of {intact:?}, {:?}", agent.with_ledger(|ledger| ledger.records().count()))
        })?;
        agent.look(&self.hardware);
        (agent.next_look, agent.next_sweep) = (self.now + LOOK, self.now + SWEEP);
        agent.publisher.due = self.now;
        self.server.watch(agent.number);
        self.agents.push(agent);
        let index = self.agents.len() - 1;
        self.listen_at_once(index);
        self.swept(index, faults)?;
        let files = self.disk.0.borrow();
        let temporaries = files.spec_temporaries > 0 || !files.record_temporaries.is_empty();
        let excused = !alone || files.faults > faults || files.state == DiskState::ReadOnly;
        hold(!temporaries || excused, Invariant::SweptClean, || "unfinished files are left".to_owned())
    }

    /// After a sweep that met no fault.
    fn swept(&self, index: usize, faults_before: u64) -> Result<(), Violation> {
        let (agent, files) = (&self.agents[index], self.disk.0.borrow());
        if files.faults > faults_before || agent.dead.get() || files.state != DiskState::Works {
            return Ok(());
        }
        let broken = |what: String| hold(false, Invariant::SweptClean, || what);
        let spared = agent.spared(&files);
        agent.with_ledger(|ledger| {
            for record in ledger.records() {
                let uid = &record.claim.uid;
                if !ledger.get(uid).is_some_and(|stored| files.holds_record(stored)) {
                    return broken(format!("the record of {uid} is not on disk"));
                }
                let file = agent.identity.cdi_file(uid).ok();
                if record.is_whole() && !file.is_some_and(|file| files.holds_spec(&file, &record.spec)) {
                    return broken(format!("the spec of {uid} is not on disk"));
                }
            }
            for file in files.specs.keys() {
                let uid = file.transient_id(agent.identity.cdi_kind()).and_then(|uid| uid.parse().ok());
                if uid.is_none_or(|uid| ledger.get(&uid).is_none() && !spared.contains(&uid)) {
                    return broken(format!("{file} belongs to no claim"));
                }
            }
            for claim in self.claims.iter().filter(|claim| !claim.tampered && claim.answer.is_some()) {
                if ledger.get(claim.uid()).is_none() {
                    return broken(format!("{} runs and is forgotten", claim.uid()));
                }
            }
            Ok(())
        })
    }

    pub(crate) fn crash(&mut self, agent: u8) {
        let count = self.agents.len().max(1);
        if let Some(agent) = self.agents.get(usize::from(agent) % count) {
            agent.dead.set(true);
        }
    }

    /// Takes dead agents away. Nobody answers their calls.
    pub(crate) fn bury(&mut self) {
        let any = self.agents.iter().any(|agent| agent.dead.get());
        if any {
            self.forgive();
        }
        let Self { agents, server, tally, .. } = self;
        agents.retain(|agent| {
            if agent.dead.get() {
                tally.stopped += 1;
                server.watches.remove(&agent.number);
            }
            !agent.dead.get()
        });
    }

    /// A record is written before the place is looked at again. When its agent dies in between, and an admin has put the
    /// same there since the last look, nobody can tell whose it is. Neither can anybody which of a GPU's functions an agent
    /// had moved that died while it did so.
    fn forgive(&mut self) {
        let files = self.disk.0.borrow();
        let begun = files.kept.values().filter(|kept| !kept.whole).flat_map(|kept| &kept.work);
        begun.for_each(|work| self.hardware.forgive(work));
    }

    /// An agent that is told to stop finishes its calls.
    pub(crate) fn stop_first(&mut self) -> Result<(), Violation> {
        if self.agents.len() > 1 {
            self.finish(0)?;
            self.agents[0].dead.set(true);
        }
        Ok(())
    }

    pub(crate) fn reboot(&mut self, emptied: bool) {
        for agent in &self.agents {
            agent.dead.set(true);
        }
        self.boot += 1;
        self.hardware.all_well();
        {
            let mut files = self.disk.0.borrow_mut();
            if emptied {
                *files = Files::default();
            }
            files.state = DiskState::Works;
        }
        for claim in &mut self.claims {
            claim.answer = None;
            // Its record is forgotten before its spec is removed.
            claim.tampered = !emptied;
        }
        self.reboot_pods();
        self.tell_taken_from_pods();
    }

    pub(crate) fn deliver(&mut self) {
        for agent in &mut self.agents {
            agent.publisher.hear(&mut self.server, agent.number);
        }
    }

    /// Time goes by; what is due is done, once.
    pub(crate) fn pass(&mut self, milliseconds: u64) -> Result<(), Violation> {
        self.now += milliseconds;
        if self.agents.is_empty() && milliseconds >= RESTART {
            self.start_agent()?;
        }
        self.devices.admit(self.now);
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if agent.next_look <= self.now {
                agent.end_look(&self.hardware);
                agent.look(&self.hardware);
                agent.next_look = self.now + LOOK;
            }
            self.listen(index);
            let agent = &mut self.agents[index];
            if agent.next_sweep <= self.now {
                agent.next_sweep = self.now + SWEEP;
                let faults = self.disk.0.borrow().faults;
                self.agents[index].sweep();
                self.swept(index, faults)?;
                self.compare(index)?;
            }
            let agent = &mut self.agents[index];
            let heard = agent.publisher.hear(&mut self.server, agent.number);
            if heard || agent.publisher.due <= self.now {
                self.publish(index)?;
            }
        }
        self.tell_kubelet();
        Ok(())
    }

    /// The ledger beside the kubelet's pods and the API server.
    fn compare(&mut self, index: usize) -> Result<(), Violation> {
        let faults = self.disk.0.borrow().faults;
        let troubles = self.hardware.troubles;
        self.agents[index].compare(&self.claims, &self.server);
        // Now and then it takes its time.
        if !self.now.is_multiple_of(300) {
            self.finish_internal(index)?;
        }
        let files = self.disk.0.borrow();
        let left = self.orphans.remove(&self.agents[index].number).unwrap_or_default();
        let failed = files.faults > faults || self.hardware.troubles > troubles;
        if self.server.down || failed || self.agents[index].dead.get() {
            return Ok(());
        }
        // What this agent saw without an owner before is gone now. One that goes by the name and the device of a claim in
        // use cannot be told from it.
        let owned = |record: &Record| {
            self.claims.iter().any(|claim| {
                let device = |given: &PreparedDevice| record.devices.iter().any(|held| held.device == given.device);
                claim.reference == record.claim
                    || claim.reference.name == record.claim.name && claim.answer.iter().flatten().any(device)
            })
        };
        let busy =
            |uid: &ClaimUid| self.agents.iter().any(|agent| agent.calls.iter().any(|call| call.claim.uid == *uid));
        let ledger = self.agents[index].ledger();
        let unowned = ledger.records().filter(|record| !owned(record)).map(|record| record.claim.uid.clone());
        let now: BTreeSet<_> = unowned.filter(|uid| !busy(uid)).collect();
        let stale: Vec<_> = left.intersection(&now).collect();
        hold(stale.is_empty(), Invariant::OrphansUndone, || format!("{stale:?} belong to nobody for two rounds"))?;
        self.orphans.insert(self.agents[index].number, now);
        Ok(())
    }

    /// One try of one agent. Says whether all was as it should be at its end.
    fn publish(&mut self, index: usize) -> Result<bool, Violation> {
        // A later agent that has published does so alone.
        if self.agents[index + 1..].iter().any(|later| later.publisher.announced && !later.dead.get()) {
            return Ok(true);
        }
        let agent = &mut self.agents[index];
        if agent.dead.get() {
            return Ok(false);
        }
        let ledger = agent.ledger();
        let observed = agent.observed.borrow();
        let mut context = Context {
            server: &mut self.server,
            inventory: observed.as_ref(),
            ledger: &ledger,
            driver: &self.driver,
            node: NODE,
            plant: self.setting.plant,
        };
        match agent.publisher.turn(&mut context, self.now) {
            Ok(done) => {
                agent.publisher.announced |= done;
                Ok(done)
            }
            Err(Failure::Violation(violation)) => Err(violation),
            Err(Failure::Refused(Refused::Died)) => {
                agent.dead.set(true);
                Ok(false)
            }
            Err(Failure::Refused(_)) => Ok(false),
        }
    }

    /// The API server is well and all is heard: then the slices are right, and stay as they are.
    pub(crate) fn settle(&mut self) -> Result<(), Violation> {
        self.server.down = false;
        self.server.next_fault = None;
        for agent in &mut self.agents {
            agent.look(&self.hardware);
        }
        self.bury();
        let mut settled = self.agents.is_empty();
        for _ in 0..ROUNDS {
            self.server.collect();
            let writes = self.server.writes;
            let mut quiet = true;
            for index in 0..self.agents.len() {
                let agent = &mut self.agents[index];
                agent.publisher.hear(&mut self.server, agent.number);
                quiet &= self.publish(index)?;
            }
            settled |= quiet && self.server.writes == writes;
            if settled {
                break;
            }
        }
        hold(settled, Invariant::PublishingEnds, || format!("the slices are not settled after {ROUNDS} rounds"))?;
        let [agent] = self.agents.as_slice() else { return Ok(()) };
        if let Some(inventory) = &*agent.observed.borrow() {
            let features = agent.publisher.features;
            let ledger = agent.ledger();
            invariant::slices_true(&self.server, offers::published(inventory, &ledger, features), inventory)?;
            offers::leave_admins_alone(&self.server, &self.hardware, inventory, &ledger)?;
            offers::counters_suffice(&self.server, &ledger, &self.hardware)?;
            apart::counters_tell_apart(&self.server, inventory, &ledger)?;
            self.tally.settled += 1;
        }
        let writes = self.server.writes;
        self.publish(0)?;
        hold(self.server.writes == writes, Invariant::NoNeedlessWrite, || {
            format!("{} writes, and nothing had changed", self.server.writes - writes)
        })
    }
}
