//! The kubelet's calls, interrupted.

use std::fs;

use interruptions::{Interruption, Seen};
use testkit::{Claim, GPUS};
use tonic::Status;

use super::ground::{Ground, Prepared};
use super::{REASONS, Sight, assert_seen, unfinished, writes};

/// A kind of work: what the kubelet asks for, and how things stand.
struct Work {
    devices: &'static [&'static str],
    before: Before,
    call: Call,
    sights: &'static [Sight],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing is known of the claim.
    Unknown,
    /// Nothing is known of it, but a spec of it is there.
    Stray,
    Prepared,
    SpecLost,
    RecordLost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
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
    interrupted(&Work { devices: ONE, before: Before::Unknown, call: Call::Prepare, sights }).await;
}

#[tokio::test]
async fn a_prepare_of_two_devices() {
    let sights = &[Sight::RecordWritten, Sight::SpecWritten];
    interrupted(&Work { devices: TWO, before: Before::Unknown, call: Call::Prepare, sights }).await;
}

#[tokio::test]
async fn a_repeated_prepare_changes_nothing() {
    let mut ground = Ground::new().await;
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
    interrupted(&Work { devices: ONE, before: Before::SpecLost, call: Call::Prepare, sights }).await;
}

#[tokio::test]
async fn a_repeated_prepare_that_mends_the_record() {
    let sights = &[Sight::RecordWritten];
    interrupted(&Work { devices: ONE, before: Before::RecordLost, call: Call::Prepare, sights }).await;
}

#[tokio::test]
async fn an_unprepare() {
    let sights = &[Sight::SpecRemoved, Sight::RecordRemoved];
    interrupted(&Work { devices: TWO, before: Before::Prepared, call: Call::Unprepare, sights }).await;
}

#[tokio::test]
async fn an_unprepare_of_an_unknown_claim() {
    interrupted(&Work { devices: ONE, before: Before::Unknown, call: Call::Unprepare, sights: &[] }).await;
}

#[tokio::test]
async fn an_unprepare_of_an_unknown_claim_with_a_stray() {
    let sights = &[Sight::SpecRemoved];
    interrupted(&Work { devices: ONE, before: Before::Stray, call: Call::Unprepare, sights }).await;
}

async fn interrupted(work: &Work) {
    let mut case = Case::new(work).await;
    // What the kubelet does afterwards: it repeats the call, or the pod is gone and it never does, or comes again.
    for next in [Call::Prepare, Call::Unprepare] {
        let mut at = 0;
        let all = loop {
            match case.killed(Interruption::Kill { at }, next).await {
                seen if seen.interrupted.is_none() => break seen,
                _ => at += 1,
            }
        };
        let sights: Vec<_> = work.sights.iter().map(|sight| (*sight, &case.prepared.claim)).collect();
        assert_seen(&sights, &all, &case.ground.node);
        for at in writes(&all) {
            case.killed(Interruption::Tear { at }, next).await;
        }
        case.ground.assert_nothing_left_but_bystander_and(&[]);
    }
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
    // What could not be removed while everything failed goes now.
    case.ground.node.kill().await;
    case.ground.plugin = case.ground.node.start().await;
    case.ground.assert_nothing_left_but_bystander_and(&[]);
}

struct Case<'a> {
    work: &'a Work,
    ground: Ground,
    prepared: Prepared,
}

impl<'a> Case<'a> {
    async fn new(work: &'a Work) -> Self {
        let ground = Ground::new().await;
        let claim = work.devices.iter().fold(Claim::new("claim"), |claim, device| claim.device("gpu", device));
        let prepared = Prepared::new(&ground.node, &ground.plugin, ground.node.known(claim)).await;
        ground.plugin.unprepare(&prepared.claim).await.unwrap();
        Self { work, ground, prepared }
    }

    /// The work, during which the agent is killed, and all that must be so afterwards.
    async fn killed(&mut self, interruption: Interruption, next: Call) -> Seen {
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
    async fn refused(&mut self, interruption: Interruption, reason: &str, next: Call) -> bool {
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
                let directory = [node.cdi_dir(), node.state_dir()].map(|path| path.to_string_lossy().into_owned());
                let named = directory.iter().any(|directory| text.contains(directory));
                assert!(named && text.contains(reason) && text.len() < 256, "{text}");
                if once && self.work.before == Before::Unknown {
                    self.ground.assert_nothing_left_but_bystander_and(&earlier);
                }
            }
        }
        self.goes_on(next).await;
        true
    }

    /// Sets up, and does the work under watch.
    async fn carry_out(&mut self, interruption: Interruption) -> (Outcome, Seen) {
        let (node, claim) = (&self.ground.node, &self.prepared.claim);
        if !matches!(self.work.before, Before::Unknown | Before::Stray) {
            assert_eq!(self.ground.plugin.prepare(claim).await.as_ref(), Ok(&self.prepared.answer));
            self.prepared.assert_untouched(node);
        }
        match self.work.before {
            Before::Unknown | Before::Prepared => {}
            Before::Stray => fs::write(node.spec_path(claim), "{}").unwrap(),
            Before::SpecLost => fs::remove_file(node.spec_path(claim)).unwrap(),
            Before::RecordLost => fs::remove_file(node.record_path(claim)).unwrap(),
        }
        let watch = self.ground.watch(interruption);
        let (plugin, claim) = (&self.ground.plugin, &self.prepared.claim);
        let outcome = match self.work.call {
            Call::Prepare => plugin.prepare_all(&[claim]).await.map(|mut answers| {
                let answer = answers.remove(&claim.uid).unwrap();
                answer.map(|devices| assert_eq!(devices, self.prepared.answer))
            }),
            Call::Unprepare => {
                plugin.unprepare_all(&[claim]).await.map(|mut answers| answers.remove(&claim.uid).unwrap())
            }
        };
        (outcome, watch.end().unwrap())
    }

    /// The kubelet calls again, and nothing is as if there had been an interruption.
    async fn goes_on(&self, next: Call) {
        let (plugin, claim) = (&self.ground.plugin, &self.prepared.claim);
        if next == Call::Prepare {
            assert_eq!(plugin.prepare(claim).await.as_ref(), Ok(&self.prepared.answer));
            self.prepared.assert_untouched(&self.ground.node);
        }
        plugin.unprepare(claim).await.unwrap();
        self.ground.assert_nothing_left_but_bystander_and(&unfinished(&self.ground.node));
        self.ground.assert_all_in_order(self.work.devices).await;
    }
}
