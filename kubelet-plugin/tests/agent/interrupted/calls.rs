//! The kubelet's calls, interrupted.

use std::fs;

use interruptions::{Interruption, Seen};
use testkit::{Claim, GPUS};
use tonic::Status;

use super::ground::{Ground, Offered, Prepared};
use super::{REASONS, Sight, assert_seen, unfinished, writes};
use crate::{prepare_once_answered, prepare_once_seen};

/// A kind of work: what the kubelet asks for, and how things stand.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub(super) offered: Offered,
    pub(super) devices: &'static [&'static str],
    pub(super) before: Before,
    pub(super) call: Call,
    pub(super) sights: &'static [Sight],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing is known of the claim.
    Unknown,
    /// Nothing is known of it, and the first two GPUs are in the mode in which they are cut.
    InMigMode,
    /// Nothing is known of it, but a spec of it is there.
    Stray,
    Prepared,
    SpecLost,
    RecordLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Prepare,
    Unprepare,
}

/// What a call came to: `Err` when the agent did not answer.
type Outcome = Result<Result<(), String>, Status>;

const ONE: &[&str] = &[GPUS[0]];
const TWO: &[&str] = &[GPUS[0], GPUS[1]];

#[tokio::test]
async fn a_prepare_of_one_device() {
    let sights = &[Sight::RecordWritten, Sight::SpecWritten];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: ONE,
        before: Before::Unknown,
        call: Call::Prepare,
        sights,
    })
    .await;
}

#[tokio::test]
async fn a_prepare_of_two_devices() {
    let sights = &[Sight::RecordWritten, Sight::SpecWritten];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: TWO,
        before: Before::Unknown,
        call: Call::Prepare,
        sights,
    })
    .await;
}

#[tokio::test]
async fn a_repeated_prepare_changes_nothing() {
    let mut ground = Ground::new(Offered::Nothing).await;
    let claim = ground.node.allocated("claim", GPUS[0]);
    let prepared = Prepared::new(&ground.node, &ground.plugin, claim).await;
    let watch = ground.watch(Interruption::None);
    assert_eq!(ground.plugin.prepare(&prepared.claim).await.as_ref(), Ok(&prepared.answer));
    let seen = watch.end().unwrap();
    assert!(seen.points.is_empty(), "{:#?}", seen.points);
    prepared.assert_untouched(&ground.node);
}

#[tokio::test]
async fn a_repeated_prepare_that_mends_the_spec() {
    let sights = &[Sight::SpecWritten];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: ONE,
        before: Before::SpecLost,
        call: Call::Prepare,
        sights,
    })
    .await;
}

#[tokio::test]
async fn a_repeated_prepare_that_mends_the_record() {
    let sights = &[Sight::RecordWritten];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: ONE,
        before: Before::RecordLost,
        call: Call::Prepare,
        sights,
    })
    .await;
}

#[tokio::test]
async fn an_unprepare() {
    let sights = &[Sight::SpecRemoved, Sight::RecordRemoved];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: TWO,
        before: Before::Prepared,
        call: Call::Unprepare,
        sights,
    })
    .await;
}

#[tokio::test]
async fn an_unprepare_of_an_unknown_claim() {
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: ONE,
        before: Before::Unknown,
        call: Call::Unprepare,
        sights: &[],
    })
    .await;
}

#[tokio::test]
async fn an_unprepare_of_an_unknown_claim_with_a_stray() {
    let sights = &[Sight::SpecRemoved];
    interrupted(&Work {
        offered: Offered::Nothing,
        devices: ONE,
        before: Before::Stray,
        call: Call::Unprepare,
        sights,
    })
    .await;
}

async fn interrupted(work: &Work) {
    let mut case = Case::new(work, &[]).await;
    case.killed_everywhere().await;
    for next in [Call::Prepare, Call::Unprepare] {
        for (errno, text) in REASONS {
            for and_all_after in [false, true] {
                let mut at = 0;
                while case.refused(Interruption::Fail { at, errno, and_all_after }, text, next).await {
                    at += 1;
                }
            }
        }
    }
    case.end().await;
}

pub(super) struct Case<'a> {
    pub(super) work: &'a Work,
    pub(super) ground: Ground,
    pub(super) prepared: Prepared,
}

impl<'a> Case<'a> {
    /// With these flags of the agent besides what the work needs.
    pub(super) async fn new(work: &'a Work, more: &[&'static str]) -> Self {
        let ground = Ground::with(work.offered, more).await;
        let claim = work.devices.iter().fold(Claim::new("claim"), |claim, device| claim.device("gpu", device));
        let prepared = Prepared::new(&ground.node, &ground.plugin, ground.node.known(claim)).await;
        ground.plugin.unprepare(&prepared.claim).await.unwrap();
        Self { work, ground, prepared }
    }

    /// The agent is killed at each point, and in the midst of each write.
    async fn killed_everywhere(&mut self) {
        // What the kubelet does afterwards: it repeats the call, or the pod is gone and it never does, or comes again.
        for next in [Call::Prepare, Call::Unprepare] {
            let mut at = 0;
            let all = loop {
                match self.killed(Interruption::Kill { at }, next).await {
                    seen if seen.interrupted.is_none() => break seen,
                    _ => at += 1,
                }
            };
            let sights: Vec<_> = self.work.sights.iter().map(|sight| (*sight, &self.prepared.claim)).collect();
            assert_seen(&sights, &all, &self.ground.node);
            for at in writes(&all) {
                self.killed(Interruption::Tear { at }, next).await;
            }
            self.ground.assert_nothing_left_but_bystander_and(&[]);
        }
    }

    /// What could not be removed while everything failed goes with the next agent.
    pub(super) async fn end(mut self) {
        self.ground.node.kill().await;
        self.ground.restart().await;
        self.ground.assert_nothing_left_but_bystander_and(&[]);
    }

    /// The work, during which the agent is killed, and all that must be so afterwards.
    pub(super) async fn killed(&mut self, interruption: Interruption, next: Call) -> Seen {
        let (outcome, seen) = self.carry_out(interruption).await;
        match seen.interrupted.map(|at| &seen.points[at]) {
            Some(point) => {
                println!("{interruption:?} before {point}, then {next:?}");
                self.ground.restart_after_kill().await;
                self.ground.assert_bystander_untouched();
                assert_eq!(unfinished(&self.ground.node), [""; 0]);
                // An answer that the kubelet has got holds.
                match (outcome, self.work.call) {
                    (Ok(_), Call::Prepare) => self.prepared.assert_untouched(&self.ground.node),
                    (Ok(_), Call::Unprepare) => self.ground.assert_nothing_left_but_bystander_and(&[]),
                    (Err(_), _) => {}
                }
            }
            None => assert!(matches!(outcome, Ok(Ok(()))), "{outcome:?}"),
        }
        self.goes_on(next).await;
        seen
    }

    /// The work, during which calls fail, and all that must be so afterwards. Says whether one failed.
    pub(super) async fn refused(&mut self, interruption: Interruption, reason: &str, next: Call) -> bool {
        let earlier = unfinished(&self.ground.node);
        let (outcome, seen) = self.carry_out(interruption).await;
        let Some(point) = seen.interrupted.map(|at| &seen.points[at]) else {
            self.goes_on(next).await;
            return false;
        };
        println!("{interruption:?} of {point}, then {next:?}");
        let node = &self.ground.node;
        let once = matches!(interruption, Interruption::Fail { and_all_after: false, .. });
        self.ground.assert_bystander_untouched();
        if once {
            assert_eq!(unfinished(node), earlier);
        }
        match outcome.unwrap() {
            Ok(()) if self.work.call == Call::Prepare => self.prepared.assert_untouched(node),
            Ok(()) => self.ground.assert_nothing_left_but_bystander_and(&unfinished(node)),
            Err(text) => {
                assert!(text.len() < 256, "{text}");
                let directories = [node.cdi_dir(), node.state_dir()];
                if point.path().is_some_and(|path| directories.iter().any(|directory| path.starts_with(directory))) {
                    let named = directories.iter().any(|directory| text.contains(&*directory.to_string_lossy()));
                    assert!(named && text.contains(reason), "{text}");
                }
                if once && matches!(self.work.before, Before::Unknown | Before::InMigMode) {
                    self.ground.assert_nothing_left_but_bystander_and(&earlier);
                    self.ground.assert_nothing_done();
                }
            }
        }
        self.goes_on(next).await;
        true
    }

    /// Sets up, and does the work under watch.
    async fn carry_out(&mut self, interruption: Interruption) -> (Outcome, Seen) {
        self.set_up().await;
        let watch = self.ground.watch(interruption);
        let outcome = self.call().await;
        (outcome, watch.end().unwrap())
    }

    /// Makes things as they are before the call.
    pub(super) async fn set_up(&self) {
        let (node, claim) = (&self.ground.node, &self.prepared.claim);
        if !matches!(self.work.before, Before::Unknown | Before::InMigMode | Before::Stray) {
            assert_eq!(prepare_once_seen(&self.ground.plugin, claim).await, self.prepared.answer);
            self.prepared.assert_untouched(node);
        }
        match self.work.before {
            Before::Unknown | Before::Prepared => {}
            Before::InMigMode => [0, 1].iter().for_each(|gpu| node.hardware(&format!("mig {gpu} on"))),
            Before::Stray => fs::write(node.spec_path(claim), "{}").unwrap(),
            Before::SpecLost => fs::remove_file(node.spec_path(claim)).unwrap(),
            Before::RecordLost => fs::remove_file(node.record_path(claim)).unwrap(),
        }
    }

    /// The call itself.
    pub(super) async fn call(&self) -> Outcome {
        let (plugin, claim) = (&self.ground.plugin, &self.prepared.claim);
        match self.work.call {
            // An agent that is traced is slow, and more so on a busy machine.
            Call::Prepare => {
                let answer = prepare_once_answered(plugin, claim).await?;
                Ok(answer.map(|devices| assert_eq!(devices, self.prepared.answer)))
            }
            Call::Unprepare => {
                plugin.unprepare_all(&[claim]).await.map(|mut answers| answers.remove(&claim.uid).unwrap())
            }
        }
    }

    /// The kubelet calls again, and nothing is as if there had been an interruption.
    pub(super) async fn goes_on(&self, next: Call) {
        let claim = &self.prepared.claim;
        if next == Call::Prepare {
            assert_eq!(prepare_once_seen(&self.ground.plugin, claim).await, self.prepared.answer);
            self.prepared.assert_untouched(&self.ground.node);
        }
        self.ground.plugin.unprepare(claim).await.unwrap();
        self.ground.assert_nothing_left_but_bystander_and(&unfinished(&self.ground.node));
        self.ground.assert_nothing_done();
        self.ground.assert_all_in_order(self.work.devices).await;
    }
}
