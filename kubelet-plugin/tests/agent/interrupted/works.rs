//! Work on the hardware, interrupted: a partition, a passthrough and a group, prepared and undone.

use interruptions::Interruption;

use super::calls::{Before, Call, Case, Work};
use super::ground::Offered;
use super::{REASONS, Sight, assert_seen, is_hardware};

/// All three are of the first GPU.
const PARTITION: &[&str] = &["gpu-0000-1b-00-0-mig-2g20gb-14-2"];
const PASSTHROUGH: &[&str] = &["vfio-0000-1b-00-0"];
const GROUP: &[&str] = &["group-2-0000-1b-00-0-491e314c"];

pub(super) const PREPARE_PARTITION: Work = Work {
    offered: Offered::PartitionsAndGroups,
    devices: PARTITION,
    before: Before::Unknown,
    call: Call::Prepare,
    sights: &[Sight::RecordWritten, Sight::Nvml, Sight::SpecWritten],
};

pub(super) const UNPREPARE_PARTITION: Work = Work {
    before: Before::Prepared,
    call: Call::Unprepare,
    sights: &[Sight::SpecRemoved, Sight::RecordWritten, Sight::Nvml, Sight::RecordRemoved],
    ..PREPARE_PARTITION
};

const PREPARE_PASSTHROUGH: Work = Work {
    offered: Offered::Passthrough,
    devices: PASSTHROUGH,
    before: Before::Unknown,
    call: Call::Prepare,
    sights: &[Sight::RecordWritten, Sight::Drivers, Sight::SpecWritten],
};

const UNPREPARE_PASSTHROUGH: Work = Work {
    before: Before::Prepared,
    call: Call::Unprepare,
    sights: &[Sight::SpecRemoved, Sight::RecordWritten, Sight::Drivers, Sight::RecordRemoved],
    ..PREPARE_PASSTHROUGH
};

pub(super) const PREPARE_GROUP: Work = Work {
    offered: Offered::PartitionsAndGroups,
    devices: GROUP,
    before: Before::InMigMode,
    call: Call::Prepare,
    sights: &[Sight::RecordWritten, Sight::Nvml, Sight::SpecWritten],
};

const UNPREPARE_GROUP: Work = Work {
    before: Before::Prepared,
    call: Call::Unprepare,
    sights: &[Sight::SpecRemoved, Sight::RecordWritten, Sight::RecordRemoved],
    ..PREPARE_GROUP
};

#[tokio::test]
async fn a_prepare_of_a_partition_is_killed() {
    killed(&PREPARE_PARTITION).await;
}

#[tokio::test]
async fn a_prepare_of_a_partition_is_refused() {
    refused(&PREPARE_PARTITION).await;
}

#[tokio::test]
async fn an_unprepare_of_a_partition_is_killed() {
    killed(&UNPREPARE_PARTITION).await;
}

#[tokio::test]
async fn an_unprepare_of_a_partition_is_refused() {
    refused(&UNPREPARE_PARTITION).await;
}

#[tokio::test]
async fn a_prepare_of_a_passthrough_is_killed() {
    killed(&PREPARE_PASSTHROUGH).await;
}

#[tokio::test]
async fn a_prepare_of_a_passthrough_is_refused() {
    refused(&PREPARE_PASSTHROUGH).await;
}

#[tokio::test]
async fn an_unprepare_of_a_passthrough_is_killed() {
    killed(&UNPREPARE_PASSTHROUGH).await;
}

#[tokio::test]
async fn an_unprepare_of_a_passthrough_is_refused() {
    refused(&UNPREPARE_PASSTHROUGH).await;
}

#[tokio::test]
async fn a_prepare_of_a_group_is_killed() {
    killed(&PREPARE_GROUP).await;
}

#[tokio::test]
async fn a_prepare_of_a_group_is_refused() {
    refused(&PREPARE_GROUP).await;
}

#[tokio::test]
async fn an_unprepare_of_a_group_is_killed() {
    killed(&UNPREPARE_GROUP).await;
}

#[tokio::test]
async fn an_unprepare_of_a_group_is_refused() {
    refused(&UNPREPARE_GROUP).await;
}

/// At each point one kind of afterwards, in turn, and both around what is done to the hardware. Files that are written in
/// half are seen with whole GPUs.
async fn killed(work: &Work) {
    let mut case = Case::new(work, &[]).await;
    let mut at = 0;
    let all = loop {
        let seen = case.killed(Interruption::Kill { at }, next(at)).await;
        let Some(number) = seen.interrupted else { break seen };
        let around = &seen.points[number.saturating_sub(1)..=number];
        if around.iter().any(|point| is_hardware(point, &case.ground.node)) {
            case.killed(Interruption::Kill { at }, next(at + 1)).await;
        }
        at += 1;
    };
    let sights: Vec<_> = work.sights.iter().map(|sight| (*sight, &case.prepared.claim)).collect();
    assert_seen(&sights, &all, &case.ground.node);
}

/// Each point is refused for one of the reasons, in turn, and each kind of afterwards comes in turn too: what the files of
/// a claim make of each reason is seen with whole GPUs. A disk that is read-only stays so; what the kernel refuses for
/// other reasons is tried again for half a minute.
async fn refused(work: &Work) {
    let mut case = Case::new(work, &[]).await;
    for (and_all_after, step) in [(false, 1), (true, 2)] {
        let mut at = 0;
        loop {
            let (errno, reason) = if and_all_after { REASONS[1] } else { REASONS[at % REASONS.len()] };
            let interruption = Interruption::Fail { at, errno, and_all_after };
            if !case.refused(interruption, reason, next(at / step)).await {
                break;
            }
            at += step;
        }
        assert!(at > 0, "no call was refused");
    }
    case.end().await;
}

/// What the kubelet does after an interruption.
pub(super) fn next(turn: usize) -> Call {
    if turn.is_multiple_of(2) { Call::Prepare } else { Call::Unprepare }
}
