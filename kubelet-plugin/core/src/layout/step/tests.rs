use tessera_driver::{Facts, Made, Partition, Placement};
use tessera_policy::{Layout as Said, ReportedDevice};

use super::*;
use crate::testing::{CLIQUE, domain_record, gpu, h100, inventory_of, ledger, loan, member, record as claim_of};
use crate::{Layouts, Offering};

/// When all of these tests happen, in seconds since the boot.
const NOW: u64 = 10_000;

fn wanted(layout: Option<Said>) -> DesiredDevice {
    let id = DeviceId { driver: "gpu.nvidia.com".to_owned(), name: gpu(1).name().to_string() };
    DesiredDevice { id, policy: "research".to_owned(), layout, drain: Drain::default(), attempt: 1 }
}

fn seven() -> DesiredDevice {
    wanted(Some(Said::partitions([("1g.10gb", 7)])))
}

fn two() -> DesiredDevice {
    wanted(Some(Said::partitions([("3g.40gb", 1), ("4g.40gb", 1)])))
}

/// All that can differ.
struct Case {
    accelerator: Accelerator,
    told: Offering,
    ledger: Ledger,
    record: LayoutRecord,
    desired: Option<DesiredDevice>,
    now: u64,
    is_closed: bool,
    is_lost: bool,
    features: Features,
    trouble: Option<(&'static str, u64)>,
}

impl Case {
    fn new(desired: DesiredDevice) -> Self {
        Self {
            accelerator: h100(1),
            told: Offering::NOTHING,
            ledger: Ledger::default(),
            record: LayoutRecord::new("boot", &h100(1)),
            desired: Some(desired),
            now: NOW,
            is_closed: true,
            is_lost: false,
            features: Features::default(),
            trouble: None,
        }
    }

    /// The device has this layout, and it lies there.
    fn laid(mut self, desired: &DesiredDevice) -> Self {
        self.record.layout = resolved(desired, &self.accelerator).unwrap();
        self.record.policy.clone_from(&desired.policy);
        let slots = self.record.layout.slots().to_vec();
        self.there(&slots)
    }

    fn there(mut self, slots: &[Slot]) -> Self {
        let made = |slot: &Slot| Partition {
            shape: slot.shape,
            placement: slot.placement,
            made: Some(Made { gpu_instance: 1, compute_instance: 0, uuid: "MIG-1".to_owned() }),
        };
        let partitioning = self.accelerator.partitioning.as_mut().unwrap();
        partitioning.partitions = slots.iter().map(made).collect();
        partitioning.cut = !slots.is_empty();
        self
    }

    /// It is on its way to what is desired, since a while.
    fn closed_for(mut self, seconds: u64, stage: Stage) -> Self {
        let desired = self.desired.clone().unwrap();
        let layout = resolved(&desired, &self.accelerator).unwrap();
        let touched = layout.slots().to_vec();
        self.record.change = Some(Change { desired, layout, since: NOW - seconds, stage, failed: None, touched });
        self
    }

    fn held(self) -> Self {
        Self { ledger: ledger([claim_of("uid-1", 1)]), ..self }
    }

    fn step(&self) -> Step {
        self.seen(next_step)
    }

    fn seen<T>(&self, look: impl FnOnce(&Situation<'_>) -> T) -> T {
        let mut inventory = inventory_of(self.told, vec![self.accelerator.clone()]);
        inventory = inventory.laid_out(&Layouts::from([(gpu(1).name(), self.record.device_layout())]));
        if self.is_lost {
            inventory = inventory.unreachable("it fell off the bus");
        }
        look(&Situation {
            driver: "gpu.nvidia.com",
            boot_id: "boot",
            inventory: &inventory,
            device: &inventory.devices()[0],
            ledger: &self.ledger,
            record: (!self.record.says_nothing()).then_some(&self.record),
            wanted: self.desired.as_ref().map_or(Wanted::AsTold, Wanted::This),
            now: self.now,
            is_closed: self.is_closed,
            features: self.features,
            trouble: self.trouble,
        })
    }
}

/// What is done, how far it is, and what is said.
fn told(step: &Step) -> (String, DeviceState, String) {
    let record = |what: &str, record: &LayoutRecord| {
        let change = record.change.as_ref().map(|change| format!(" -> {} {:?}", change.layout, change.stage));
        format!("{what} {}{}", record.layout, change.unwrap_or_default())
    };
    let next = match &step.next {
        Next::Rest => "rest".to_owned(),
        Next::Keep(kept) => record("keep", kept),
        Next::Go(kept) => record("go", kept),
    };
    (next, step.state, step.message.clone())
}

#[test]
fn a_device_is_closed_then_waited_for_then_changed() {
    use DeviceState::{Changing, Draining, Failed, Ready};
    let pods = || {
        let mut lent = Ledger::default();
        lent.lend(loan(1));
        lent
    };
    let evicting = DesiredDevice { drain: Drain { deadline_seconds: 60, after_deadline: Deadline::Evict }, ..seven() };
    let as_told = "what the agent was told at its start";
    let nobody = "nobody has it; waiting until everybody knows that it is not to be had";
    let foreign = Slot { placement: Placement { start: 4, size: 4 }, shape: 9 };
    let reset = |mut accelerator: Accelerator| {
        accelerator.partitioning.as_mut().unwrap().switchable = false;
        accelerator
    };
    let whole = || wanted(Some(Said::whole()));
    let dynamic = || wanted(Some(Said::dynamic()));
    let four = || wanted(Some(Said::shares(4)));
    for (what, case, next, state, message) in [
        ("nothing is wanted", Case { desired: None, ..Case::new(seven()) }, "rest".to_owned(), Ready, ""),
        ("it is free", Case::new(seven()), format!("keep {as_told} -> 7x1g.10gb Draining"), Draining, nobody),
        (
            "it is closed, but not for long",
            Case { is_closed: false, ..Case::new(seven()).closed_for(1, Stage::Draining) },
            "rest".to_owned(),
            Draining,
            nobody,
        ),
        (
            "it is closed and free",
            Case::new(seven()).closed_for(9, Stage::Draining),
            format!("go {as_told} -> 7x1g.10gb Changing"),
            Changing,
            "",
        ),
        (
            "it is to be shared, is closed and free",
            Case::new(four()).closed_for(9, Stage::Draining),
            format!("go {as_told} -> 4 shares Changing"),
            Changing,
            "",
        ),
        (
            "it is shared, and is to be whole again while a claim has a share",
            Case { desired: Some(whole()), ..Case::new(four()).laid(&four()).held() },
            "keep 4 shares -> whole Draining".to_owned(),
            Draining,
            "waiting for claim team/training",
        ),
        (
            "a claim has it",
            Case::new(seven()).closed_for(9, Stage::Draining).held(),
            "rest".to_owned(),
            Draining,
            "waiting for claim team/training",
        ),
        (
            "pods and a hand have it",
            Case { ledger: pods(), ..Case::new(seven()).there(&[foreign]).closed_for(9, Stage::Draining) },
            "rest".to_owned(),
            Draining,
            "waiting for pods that asked for nvidia.com/gpu and 1 more",
        ),
        (
            "it was waited for long enough",
            Case::new(seven()).closed_for(3600, Stage::Draining).held(),
            format!("keep {as_told}"),
            Failed,
            "given up after 3600 s: waiting for claim team/training; end who has it",
        ),
        (
            "and its pods may be evicted",
            Case::new(evicting.clone()).closed_for(60, Stage::Draining).held(),
            format!("keep {as_told} -> 7x1g.10gb Evicting"),
            Draining,
            "waiting for claim team/training",
        ),
        (
            "but those of a device plugin are not",
            Case { ledger: pods(), ..Case::new(evicting.clone()).closed_for(90, Stage::Evicting) },
            "rest".to_owned(),
            Draining,
            "are not evicted, delete them",
        ),
        (
            "nor are any where taints are dropped",
            Case {
                features: Features { device_taints: false, ..Features::default() },
                ..Case::new(evicting).closed_for(90, Stage::Evicting).held()
            },
            "rest".to_owned(),
            Draining,
            "nobody evicts its pods",
        ),
        (
            "another layout is wanted meanwhile",
            Case { desired: Some(two()), ..Case::new(seven()).closed_for(9, Stage::Draining) },
            format!("keep {as_told} -> 3g.40gb, 4g.40gb Draining"),
            Draining,
            nobody,
        ),
        (
            "the old one is wanted again meanwhile",
            Case { desired: None, ..Case::new(seven()).closed_for(9, Stage::Draining).held() },
            format!("keep {as_told}"),
            Ready,
            "",
        ),
        ("it is so", Case::new(seven()).laid(&seven()), "rest".to_owned(), Ready, ""),
        (
            "it is withdrawn",
            Case { desired: None, ..Case::new(seven()).laid(&seven()) },
            format!("keep 7x1g.10gb -> {as_told} Draining"),
            Draining,
            nobody,
        ),
        (
            "a partition was destroyed",
            Case::new(two()).laid(&two()).there(&[foreign]),
            "go 3g.40gb, 4g.40gb".to_owned(),
            Changing,
            "a partition is made again",
        ),
        (
            "and cannot be made again",
            Case { trouble: Some(("no room", NOW + 1)), ..Case::new(two()).laid(&two()).there(&[]) },
            "rest".to_owned(),
            Failed,
            "is not there; this is tried again: no room",
        ),
        (
            "an agent died in the midst",
            Case::new(two()).closed_for(9, Stage::Changing),
            format!("go {as_told} -> 3g.40gb, 4g.40gb Changing"),
            Changing,
            "",
        ),
        ("whole, as it is offered already", Case::new(whole()).held(), "keep whole".to_owned(), Ready, ""),
        ("dynamic, while a claim has the whole", Case::new(dynamic()).held(), "keep dynamic".to_owned(), Ready, ""),
        (
            "whole, after dynamic",
            Case::new(whole()).laid(&dynamic()),
            "keep dynamic -> whole Draining".to_owned(),
            Draining,
            nobody,
        ),
        (
            "whole, after dynamic, while a claim has the whole",
            Case::new(whole()).laid(&dynamic()).closed_for(9, Stage::Draining).held(),
            "keep whole".to_owned(),
            Ready,
            "",
        ),
        (
            "whole, and there are partitions",
            Case::new(whole()).there(&[foreign]).closed_for(9, Stage::Draining),
            "rest".to_owned(),
            Draining,
            "waiting for a partition at 4:4 that was made by hand (remove it)",
        ),
        (
            "just what is wanted was made by hand",
            Case::new(two()).there(&[Slot { placement: Placement { start: 0, size: 4 }, shape: 5 }, foreign]).held(),
            "keep 3g.40gb, 4g.40gb".to_owned(),
            Ready,
            "",
        ),
        (
            "a reset is needed",
            Case { accelerator: reset(h100(1)), ..Case::new(seven()) },
            "rest".to_owned(),
            Failed,
            "before its mode is switched by a reset; do that while nobody uses it",
        ),
        (
            "it cannot be cut",
            Case { accelerator: gpu(1), ..Case::new(dynamic()) },
            "rest".to_owned(),
            Failed,
            "policy research cannot have its layout: it cannot be cut into partitions",
        ),
        (
            "too much is wanted",
            Case::new(wanted(Some(Said::partitions([("3g.40gb", 3)])))),
            "rest".to_owned(),
            Failed,
            "3x3g.40gb do not fit on it at once; 2x3g.40gb would",
        ),
        (
            "it is lost",
            Case { is_lost: true, ..Case::new(seven()) },
            "rest".to_owned(),
            Failed,
            "it is lost: it fell off the bus",
        ),
        (
            "it is lost while it waits",
            Case { is_lost: true, ..Case::new(seven()).closed_for(9, Stage::Draining) },
            "rest".to_owned(),
            Failed,
            "goes on by itself once the device answers",
        ),
    ] {
        let step = case.step();
        let (found, found_state, text) = told(&step);
        assert_eq!((found, found_state), (next, state), "{what}: {text}");
        assert!(text.contains(message) && (message.is_empty() == text.is_empty()), "{what}: {text}");
        assert!(text.len() < 256, "{what}: {text}");
    }
}

#[test]
fn a_device_is_offered_with_the_domain_that_its_fabric_tells() {
    use DeviceState::{Changing, Draining, Failed, Ready};
    let domain = || wanted(Some(Said::domain()));
    let whole = || wanted(Some(Said::whole()));
    let in_clique = |clique: Option<&str>| {
        let mut gpu = member(1);
        if let Facts::NvidiaGpu(facts) = &mut gpu.facts {
            facts.clique = clique.map(str::to_owned);
        }
        gpu
    };
    let of = |desired| Case { accelerator: member(1), ..Case::new(desired) };
    let laid = || of(domain()).laid(&domain());
    let uncut = |mut accelerator: Accelerator| {
        let partitioning = accelerator.partitioning.as_mut().unwrap();
        (partitioning.cut, partitioning.switchable) = (true, false);
        accelerator
    };
    let as_told = "what the agent was told at its start";
    let nobody = "nobody has it; waiting until everybody knows that it is not to be had";
    let claim = "waiting for claim team/training";
    for (what, case, next, state, message) in [
        (
            "its fabric ends with the node",
            Case::new(domain()),
            "rest".to_owned(),
            Failed,
            "it lies in no fabric domain",
        ),
        ("it is free", of(domain()), format!("keep {as_told} -> domain Draining"), Draining, nobody),
        (
            "a claim has the whole",
            of(domain()).closed_for(9, Stage::Draining).held(),
            "rest".to_owned(),
            Draining,
            claim,
        ),
        (
            "it is closed and free",
            of(domain()).closed_for(9, Stage::Draining),
            format!("go {as_told} -> domain Changing"),
            Changing,
            "",
        ),
        (
            "only a reset makes it one piece",
            Case { accelerator: uncut(member(1)), ..of(domain()) },
            "rest".to_owned(),
            Failed,
            "a reset",
        ),
        (
            "a claim has it with the domain already",
            Case { ledger: ledger([domain_record("uid-1")]), ..of(domain()) },
            "keep domain".to_owned(),
            Ready,
            "",
        ),
        (
            "and pods have it too",
            Case {
                ledger: {
                    let mut ledger = ledger([domain_record("uid-1")]);
                    ledger.lend(loan(1));
                    ledger
                },
                ..of(domain())
            },
            format!("keep {as_told} -> domain Draining"),
            Draining,
            "waiting for claim team/training and 1 more",
        ),
        ("it is so", laid(), "rest".to_owned(), Ready, ""),
        ("and is lost", Case { is_lost: true, ..laid() }, "rest".to_owned(), Failed, "it is lost"),
        (
            "its fabric is made anew",
            Case { accelerator: in_clique(None), ..laid() },
            "rest".to_owned(),
            Failed,
            "it is no member of fabric domain c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.32766 any more",
        ),
        (
            "it was carried to another rack",
            Case { accelerator: in_clique(Some("b.2")), ..laid() },
            "keep domain -> domain Draining".to_owned(),
            Draining,
            nobody,
        ),
        (
            "it is withdrawn",
            Case { desired: None, ..laid() },
            format!("keep domain -> {as_told} Draining"),
            Draining,
            nobody,
        ),
        (
            "it is to be whole again while a claim has the domain",
            Case { desired: Some(whole()), ..laid() }.closed_for(9, Stage::Draining).held(),
            "rest".to_owned(),
            Draining,
            claim,
        ),
        (
            "and nobody has it",
            Case { desired: Some(whole()), ..laid() }.closed_for(9, Stage::Draining),
            "go domain -> whole Changing".to_owned(),
            Changing,
            "",
        ),
        (
            "shares are withdrawn while a claim has one",
            Case { desired: Some(whole()), ..Case::new(domain()).laid(&wanted(Some(Said::shares(4)))) }
                .closed_for(9, Stage::Draining)
                .held(),
            "rest".to_owned(),
            Draining,
            claim,
        ),
    ] {
        let (found, found_state, text) = told(&case.step());
        assert_eq!((found, found_state), (next, state), "{what}: {text}");
        assert!(text.contains(message) && (message.is_empty() == text.is_empty()), "{what}: {text}");
        assert!(text.len() < 256, "{what}: {text}");
    }
}

/// What is reported of a device that has this layout, to a server that keeps these features, while nobody knows what is wanted.
fn reported(accelerator: Accelerator, layout: Layout, features: Features) -> ReportedDevice {
    let record = LayoutRecord { layout, ..LayoutRecord::new("boot", &accelerator) };
    let inventory = inventory_of(Offering::NOTHING, vec![accelerator]);
    let situation = Situation {
        driver: "gpu.nvidia.com",
        boot_id: "boot",
        inventory: &inventory,
        device: &inventory.devices()[0],
        ledger: &Ledger::default(),
        record: (!record.says_nothing()).then_some(&record),
        wanted: Wanted::Unknown,
        now: NOW,
        is_closed: false,
        features,
        trouble: None,
    };
    crate::report(&situation, &next_step(&situation))
}

#[test]
fn a_domain_is_told_of_whatever_the_layout_is() {
    let told = |accelerator: Accelerator, layout: Layout| {
        let report = reported(accelerator, layout, Features::default());
        (report.domain.map(|domain| domain.name), report.layout.map(|layout| layout.to_string()))
    };
    let with = |name: &str| Layout::Domain { name: name.to_owned() };
    let clique = || Some(CLIQUE.to_owned());
    let domain = || Some("domain".to_owned());
    assert_eq!(told(gpu(1), Layout::AsTold), (None, None));
    assert_eq!(told(member(1), Layout::AsTold), (clique(), None));
    assert_eq!(told(member(1), Layout::Whole), (clique(), Some("whole".to_owned())));
    assert_eq!(told(member(1), with(CLIQUE)), (clique(), domain()));
    assert_eq!(told(member(1), with("before.1")), (Some("before.1".to_owned()), domain()), "it is offered there still");
    assert_eq!(told(gpu(1), with("before.1")), (Some("before.1".to_owned()), domain()), "its fabric is made anew");
}

#[test]
fn a_controller_is_told_when_pods_are_to_be_evicted() {
    for (stage, expected) in [(Stage::Draining, false), (Stage::Evicting, true), (Stage::Changing, false)] {
        let case = Case::new(seven()).closed_for(90, stage).held();
        let report = case.seen(|situation| crate::report(situation, &next_step(situation)));
        assert_eq!(report.evicting, expected, "{stage:?}");
    }
}

#[test]
fn what_failed_is_tried_again_only_for_another_word() {
    let mut case = Case::new(seven());
    case.record.failure = Some(Failure { desired: seven(), message: "the driver refuses".to_owned() });
    assert_eq!(told(&case.step()), ("rest".to_owned(), DeviceState::Failed, "the driver refuses".to_owned()));
    let again = DesiredDevice { attempt: 2, ..seven() };
    for desired in [again, two(), DesiredDevice { policy: "other".to_owned(), ..seven() }] {
        case.desired = Some(desired);
        let step = case.step();
        assert!(matches!(&step.next, Next::Keep(record) if record.failure.is_none()), "{step:?}");
        assert_eq!(step.state, DeviceState::Draining);
    }
    case.desired = None;
    let step = case.step();
    assert!(matches!(&step.next, Next::Keep(record) if record.says_nothing()), "nobody wants it any more: {step:?}");
}

#[test]
fn what_cannot_even_be_restored_is_tried_again_and_does_not_keep_others_from_being_tried() {
    let mut case = Case::new(seven()).closed_for(9, Stage::Changing);
    case.record.change.as_mut().unwrap().failed = Some("no room".to_owned());
    assert!(matches!(case.step().next, Next::Go(record) if *record.goal() == Layout::AsTold));
    case.trouble = Some(("the driver hangs", NOW + 30));
    let step = case.step();
    assert_eq!((step.next, step.state, step.again_at), (Next::Rest, DeviceState::Failed, Some(NOW + 30)));
    assert!(step.message.contains("no room") && step.message.contains("the driver hangs"), "{}", step.message);
    case.desired = Some(two());
    let Next::Go(record) = case.step().next else { panic!("not tried") };
    assert_eq!((record.goal().to_string(), record.owned().len()), ("3g.40gb, 4g.40gb".to_owned(), 9));
}

#[test]
fn a_deadline_counts_from_when_the_device_was_closed() {
    let case = Case::new(seven()).closed_for(100, Stage::Draining).held();
    assert_eq!(case.step().again_at, Some(NOW + 3500));
    let patient = DesiredDevice { drain: Drain { deadline_seconds: 7200, ..Drain::default() }, ..seven() };
    let case = Case { desired: Some(patient), ..case };
    let Next::Keep(record) = case.step().next else { panic!("not kept") };
    assert_eq!(record.change.unwrap().since, NOW - 100);
}

#[test]
fn while_nobody_knows_what_is_wanted_what_was_begun_goes_on_and_nothing_else() {
    let unknown = |case: &Case| {
        let inventory = inventory_of(case.told, vec![case.accelerator.clone()]);
        let record = (!case.record.says_nothing()).then_some(&case.record);
        next_step(&Situation {
            driver: "gpu.nvidia.com",
            boot_id: "boot",
            inventory: &inventory,
            device: &inventory.devices()[0],
            ledger: &case.ledger,
            record,
            wanted: Wanted::Unknown,
            now: NOW,
            is_closed: true,
            features: case.features,
            trouble: None,
        })
    };
    assert_eq!(unknown(&Case::new(seven())).next, Next::Rest);
    assert_eq!(unknown(&Case::new(two()).laid(&two())).next, Next::Rest);
    assert!(matches!(unknown(&Case::new(seven()).closed_for(9, Stage::Draining)).next, Next::Go(_)));
}

#[test]
fn what_a_server_keeps_nothing_of_is_told_of_who_is_ready() {
    let none = Features { device_taints: false, shared_counters: false, shares: false };
    let told = |layout: Layout, features: Features| {
        let report = reported(h100(1), layout, features);
        assert_eq!(report.state, DeviceState::Ready);
        report.message
    };
    assert!(told(Layout::Dynamic, none).contains("DRAPartitionableDevices"));
    assert!(told(Layout::Shares { count: 2 }, none).contains("DRAConsumableCapacity"));
    for (layout, features) in [
        (Layout::Dynamic, Features::default()),
        (Layout::Shares { count: 2 }, Features::default()),
        (Layout::Whole, none),
    ] {
        assert_eq!(told(layout, features), "");
    }
}
