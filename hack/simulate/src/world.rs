//! A node and what is around it, and what each event does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tessera_core::{ClaimRef, ClaimUid, Identity, Offering};
use tessera_vocabulary::DriverName;

use crate::agent::Agent;
use crate::claim::{Claim, schedule};
use crate::device_manager::DeviceManager;
use crate::disk::{Disk, damage};
use crate::event::Event;
use crate::hardware::Hardware;
use crate::invariant::{self, Violation};
use crate::machine::Machine;
use crate::server::Server;
use crate::setting::Setting;
use crate::tally::Tally;

pub(crate) const NODE: &str = "node-1";
/// So few names that claims are made anew under the name of one that is still on the node.
const NAMES: u8 = 6;
/// So few claims that looking at all of them after each step costs little.
const CLAIMS: usize = 9;

pub(crate) struct World {
    /// Of the life.
    pub(crate) seed: u64,
    pub(crate) setting: Setting,
    pub(crate) tally: Tally,
    pub(crate) driver: DriverName,
    /// Milliseconds since the node was made.
    pub(crate) now: u64,
    pub(crate) boot: u32,
    pub(crate) disk: Rc<Disk>,
    pub(crate) hardware: Hardware,
    pub(crate) offering: Offering,
    pub(crate) server: Server,
    pub(crate) claims: Vec<Claim>,
    pub(crate) devices: DeviceManager,
    /// At most two, the older first.
    pub(crate) agents: Vec<Agent>,
    pub(crate) agents_started: u32,
    claims_made: u32,
    /// Records that belonged to nobody when an agent, by its number, compared them last.
    pub(crate) orphans: BTreeMap<u32, BTreeSet<ClaimUid>>,
}

impl World {
    /// A node with a few GPUs, or none, and an agent that has just started.
    pub(crate) fn new(seed: u64, setting: Setting) -> Result<Self, Violation> {
        let machine = Machine::of(seed);
        let mut world = Self {
            seed,
            setting,
            tally: Tally::default(),
            driver: DriverName::nvidia_gpu(),
            now: 0,
            boot: 0,
            disk: Rc::default(),
            hardware: Hardware::new(machine),
            offering: machine.offering,
            server: Server::default(),
            claims: Vec::new(),
            devices: DeviceManager::default(),
            agents: Vec::new(),
            agents_started: 0,
            claims_made: 0,
            orphans: BTreeMap::new(),
        };
        world.start_agent()?;
        Ok(world)
    }

    pub(crate) fn identity(&self) -> Option<Identity> {
        Identity::new(self.driver.clone(), NODE.to_owned(), format!("boot-{}", self.boot)).ok()
    }

    /// One step: the event, then what must hold.
    pub(crate) fn step(&mut self, event: Event) -> Result<(), Violation> {
        self.apply(event)?;
        self.bury();
        for agent in &self.agents {
            agent.with_ledger(invariant::one_holder)?;
        }
        invariant::running_apart(&self.claims)?;
        invariant::one_owner(&self.claims, &self.devices.pods)?;
        let files = self.disk.0.borrow();
        invariant::specs_owned(&files, &self.claims)?;
        invariant::instances_owned(&files, &self.hardware)?;
        invariant::moves_owned(&files, &self.hardware)?;
        for agent in self.agents.iter().filter(|agent| agent.is_up_to_date(&files)) {
            agent.with_ledger(|ledger| invariant::instances_there(ledger, &self.hardware))?;
            agent.with_ledger(|ledger| invariant::passed_there(ledger, &self.hardware))?;
        }
        match &self.hardware.wronged {
            Some(what) => invariant::broken(invariant::Invariant::AdminsKept, || what.clone()),
            None => Ok(()),
        }
    }

    fn apply(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Create { name, devices, admin, kind } => self.create(name, devices, admin, kind),
            Event::Delete(claim) => {
                if let Some(claim) = self.claim(claim) {
                    claim.exists = false;
                    claim.allocation = None;
                }
                self.forget_claims();
            }
            Event::Deallocate(claim) => {
                if let Some(claim) = self.claim(claim) {
                    claim.allocation = None;
                }
            }
            Event::Schedule(index) => {
                let waits = |claim: &Claim| claim.exists && claim.allocation.is_none();
                let waiting: Vec<_> = (0..self.claims.len()).filter(|index| waits(&self.claims[*index])).collect();
                if let Some(index) = waiting.get(usize::from(index) % waiting.len().max(1)).copied() {
                    schedule(&mut self.claims, index, &self.server);
                }
            }
            Event::Prepare { first, count, at_once } => return self.prepare(first, count, at_once),
            Event::Unprepare(claim) => return self.unprepare(claim),
            Event::KubeletForgets => {
                for claim in &mut self.claims {
                    let under_way = self.agents.iter().flat_map(|agent| &agent.calls);
                    claim.called = under_way.into_iter().any(|call| call.claim.uid == *claim.uid());
                    claim.answer = None;
                }
                self.forget_claims();
                self.forget_pods();
            }
            Event::UnprepareUnknown => return self.unprepare_unknown(),
            Event::Advance(call) => return self.advance_one(call),
            Event::Finish => return self.finish_all(),
            Event::GiveUp(call) => return self.give_up(call),
            Event::Crash(agent) => self.crash(agent),
            Event::Start if self.agents.is_empty() => return self.start_agent(),
            Event::Start => {}
            Event::StartSecond if self.agents.len() == 1 => return self.start_agent(),
            Event::StartSecond => {}
            Event::StopFirst => return self.stop_first(),
            Event::Reboot { emptied } => self.reboot(emptied),
            Event::Disk(state) => self.disk.0.borrow_mut().state = state,
            Event::DiskFault { after, fault } => self.disk.0.borrow_mut().next_fault = Some((after, fault)),
            Event::DamageRecord { claim, damage: how } => {
                let disk = self.disk.clone();
                let mut lost = None;
                if let Some(claim) = self.claim(claim)
                    && let Some(bytes) = disk.0.borrow_mut().records.get_mut(claim.uid())
                {
                    damage(bytes, how);
                    claim.tampered = true;
                    lost = Some(claim.uid().clone());
                }
                disk.0.borrow_mut().records.retain(|_, bytes| !bytes.is_empty());
                lost.iter().for_each(|uid| self.record_is_lost(uid));
            }
            Event::DamageSpec { claim, damage: how } => {
                let disk = self.disk.clone();
                if let Some(claim) = self.claim(claim)
                    && let Some(bytes) = disk.0.borrow_mut().specs.get_mut(&claim.file)
                {
                    damage(bytes, how);
                }
                disk.0.borrow_mut().specs.retain(|_, bytes| !bytes.is_empty());
            }
            Event::DamageLoans(how) => {
                let mut files = self.disk.0.borrow_mut();
                if let Some(bytes) = &mut files.loans {
                    damage(bytes, how);
                    // Before the kubelet has told of them, nothing else says that they have it.
                    self.devices.pods.iter_mut().for_each(|pod| pod.tampered = true);
                }
                files.loans.take_if(|bytes| bytes.is_empty());
            }
            Event::Stray => {
                let file = self.identity().and_then(|identity| identity.cdi_file(&"stray".parse().ok()?).ok());
                if let Some(file) = file {
                    self.disk.0.borrow_mut().specs.insert(file, b"{}".to_vec());
                }
            }
            Event::ApiDown(down) => self.server.down = down,
            Event::ApiFault { after, fault } => self.server.next_fault = Some((after, fault)),
            Event::DropTaints(drop) => self.server.drops_taints = drop,
            Event::Wipe => self.server.wipe(),
            Event::Edit { slice, edit } => self.server.edit(slice, edit),
            Event::NewNode => self.server.node += 1,
            Event::Collect => self.server.collect(),
            Event::Deliver => self.deliver(),
            Event::Relist => self.server.relist(),
            Event::Gpu { slot, state } => {
                self.hardware.set(slot, state);
                self.tell_taken();
            }
            Event::Hand { slot, hand, which } => self.by_hand(slot, hand, which),
            Event::Rebind { slot, rebind, which } => self.rebind_by_hand(slot, rebind, which),
            Event::Process { slot, which, runs } => self.process(slot, which, runs),
            Event::WorkFault { after, fault } => self.hardware.next_fault = Some((after, fault)),
            Event::Look(agent) => {
                let count = self.agents.len().max(1);
                if let Some(agent) = self.agents.get_mut(usize::from(agent) % count) {
                    agent.end_look(&self.hardware);
                    agent.begin_look(&self.hardware);
                }
            }
            Event::DriverFails(fails) => self.hardware.driver_fails = fails,
            Event::Many(many) => {
                self.hardware.set_many(many);
                self.tell_taken();
            }
            Event::Count { resource, devices, at_once, prepares } => {
                self.count(resource, devices, at_once, prepares);
            }
            Event::EndCounted(pod) => self.end_counted(pod),
            Event::TellKubelet => self.tell_kubelet(),
            Event::Answer => self.answer_all(),
            Event::KubeletRestarts => self.devices.restart(self.now),
            Event::Pass { tenths } => return self.pass(u64::from(tenths) * 100),
            Event::Settle => return self.settle(),
        }
        Ok(())
    }

    fn create(&mut self, name: u8, wants: u8, admin: bool, kind: u8) {
        let name = format!("claim-{}", name % NAMES);
        let taken = self.claims.iter().any(|claim| claim.exists && claim.reference.name == name);
        if taken || self.claims.len() >= CLAIMS {
            return;
        }
        self.claims_made += 1;
        // Both take such a UID.
        let Ok(uid) = format!("uid-{}", self.claims_made).parse() else { return };
        let Some(file) = self.identity().and_then(|identity| identity.cdi_file(&uid).ok()) else { return };
        self.claims.push(Claim {
            reference: ClaimRef { namespace: "team".to_owned(), name, uid },
            file,
            wants,
            kind,
            admin,
            exists: true,
            allocation: None,
            called: false,
            answer: None,
            tampered: false,
        });
    }

    /// The claim that a number stands for.
    pub(crate) fn claim(&mut self, index: u8) -> Option<&mut Claim> {
        let count = self.claims.len().max(1);
        self.claims.get_mut(usize::from(index) % count)
    }

    /// Nobody knows some claims any more.
    pub(crate) fn forget_claims(&mut self) {
        self.claims.retain(Claim::is_known);
    }
}
