//! Every call of the driver fails that work on the hardware makes, once and for every reason. Which calls there are is
//! what the simulated driver was asked while nothing failed.

use std::collections::BTreeMap;

use simulated_hardware::{Call as NvmlCall, NvmlError};

use super::calls::{Call, Case, Work};
use super::works::{PREPARE_GROUP, PREPARE_PARTITION, UNPREPARE_PARTITION, next};
use crate::hardware::kernel_tells;

/// What a call that changes something is refused for.
const REASONS: [NvmlError; 7] = [
    NvmlError::IN_USE,
    NvmlError::UNKNOWN,
    NvmlError::NOT_SUPPORTED,
    NvmlError::NO_PERMISSION,
    NvmlError::TIMEOUT,
    NvmlError::GPU_IS_LOST,
    NvmlError::INSUFFICIENT_RESOURCES,
];

#[tokio::test]
async fn of_a_prepare_of_a_partition() {
    let changing = each_call_fails(&PREPARE_PARTITION).await;
    assert_eq!(changing.len(), 3, "the mode, a GPU instance, a compute instance: {changing:?}");
}

#[tokio::test]
async fn of_an_unprepare_of_a_partition() {
    let changing = each_call_fails(&UNPREPARE_PARTITION).await;
    assert_eq!(changing.len(), 3, "a compute instance, a GPU instance, the mode: {changing:?}");
}

#[tokio::test]
async fn of_a_prepare_of_a_group() {
    let changing = each_call_fails(&PREPARE_GROUP).await;
    assert_eq!(changing.len(), 2, "the mode of each: {changing:?}");
}

/// Says which calls changed something.
async fn each_call_fails(work: &Work) -> Vec<NvmlCall> {
    // Nobody but the work asks the driver.
    let quiet = kernel_tells();
    quiet.lock_shared().unwrap();
    let case = Case::new(work, &["--rescan", "3600"]).await;
    case.set_up().await;
    case.ground.node.hardware("record on");
    assert!(matches!(case.call().await, Ok(Ok(()))));
    case.ground.node.hardware("record off");
    let calls = case.ground.node.machine().calls().unwrap();
    println!("every call: {calls:#?}");
    case.goes_on(Call::Unprepare).await;

    let mut seen: BTreeMap<_, u64> = BTreeMap::new();
    for (at, call) in calls.iter().enumerate() {
        let number = seen.entry((&call.function, call.gpu)).or_default();
        *number += 1;
        // What asks only is refused for one reason, and when it is asked first.
        let reasons = match (call.changed, *number) {
            (true, _) => &REASONS[..],
            (false, 1) => &[NvmlError::UNKNOWN],
            (false, _) => &[],
        };
        for (turn, reason) in reasons.iter().enumerate() {
            let next = next(at + turn);
            println!("{reason} of {call}, the {number}., then {next:?}");
            fails(&case, call, *number, *reason, next).await;
        }
    }
    calls.into_iter().filter(|call| call.changed).collect()
}

async fn fails(case: &Case<'_>, call: &NvmlCall, number: u64, reason: NvmlError, next: Call) {
    let node = &case.ground.node;
    case.set_up().await;
    let gpu = call.gpu.map(|gpu| format!("{gpu} ")).unwrap_or_default();
    node.hardware(&format!("set {gpu}fail={}:{reason} from={number} times=1", call.function));
    let outcome = case.call().await.unwrap();
    node.hardware("set fail=none");
    case.ground.assert_bystander_untouched();
    match outcome {
        Ok(()) if case.work.call == Call::Prepare => case.prepared.assert_untouched(node),
        Ok(()) => {
            case.ground.assert_nothing_left_but_bystander_and(&[]);
            case.ground.assert_nothing_done();
        }
        Err(text) => {
            assert!(text.len() < 256 && text.contains(&call.function), "{text}");
            // Undone in the call. What could not be undone still has an owner.
            match case.work.call {
                Call::Prepare => {
                    case.ground.assert_nothing_left_but_bystander_and(&[]);
                    case.ground.assert_nothing_done();
                }
                Call::Unprepare => assert!(node.record_path(&case.prepared.claim).exists()),
            }
        }
    }
    case.goes_on(next).await;
}
