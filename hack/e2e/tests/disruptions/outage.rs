//! The API server is away.

use std::time::{Duration, Instant};

use cluster::Signal;
use e2e::{Calls, PATIENCE, Team, one_gpu, own, within};
use simulated_node::SimulatedNode;

use crate::restarts;

/// How long the API server is away, in seconds: `TESSERA_OUTAGE_SECONDS`, else this many.
const AWAY: u64 = 40;
/// For so much of it, it takes connections and answers nothing.
const HANGS: Duration = Duration::from_secs(15);

/// Whether the scheduler may give a device away: not when it is tainted, nor when it is withheld because the server
/// drops taints.
fn is_offered(node: &SimulatedNode, device: &str) -> bool {
    let slices = node.slices().unwrap();
    let mut devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
    devices.any(|found| found["name"] == device && found["taints"].is_null())
}

#[test]
fn an_api_server_that_is_away_stops_nothing_and_is_told_what_changed() {
    let away = std::env::var("TESSERA_OUTAGE_SECONDS").map_or(AWAY, |seconds| seconds.parse().unwrap());
    let away = Duration::from_secs(away).max(HANGS + Duration::from_secs(5));
    let node = own("outage", "dgx-h100");
    let team = Team::new(&node, "outage");
    team.run_with_one_gpu("training", &["devices"]);
    let devices = node.slices().unwrap()[0]["spec"]["devices"].clone();
    let device = |number: usize| devices[number]["name"].as_str().unwrap();
    let (known, new) = (team.named("training"), team.allocate("new", device(6)));
    let calls = Calls::to(&node, node.agent().instance().as_deref());
    let answer = calls.prepare(&known).unwrap();
    let pod_before = restarts(&team, "training");

    let since = Instant::now();
    let (mut repeated, mut refused, mut longest) = (0, 0, [Duration::ZERO; 2]);
    // Calls go on until the outage has lasted this long. Each ends with an answer and before the kubelet would give up.
    let mut go_on_until = |end: Duration, reasons: &[&str]| {
        while since.elapsed() < end {
            let (repeat, took) = calls.prepare_timed(&known);
            assert_eq!(repeat.as_ref(), Ok(&answer));
            (repeated, longest[0]) = (repeated + 1, longest[0].max(took));
            let (refusal, took) = calls.prepare_timed(&new);
            let refusal = refusal.unwrap_err();
            assert!(reasons.iter().any(|reason| refusal.contains(reason)), "{refusal}");
            assert!(refusal.contains("outage/new") && refusal.len() < 256, "{refusal}");
            (refused, longest[1]) = (refused + 1, longest[1].max(took));
            std::thread::sleep(Duration::from_millis(500));
        }
    };
    node.cluster().signal_service("kube-apiserver", Signal::STOP).unwrap();
    node.machine().run(&["set", "7", "lost=true"]).unwrap();
    // Over the connection that was there before, and over a new one.
    go_on_until(HANGS, &["the API server did not answer for claim", "cannot be read from the API server"]);
    node.cluster().stop_api_server().unwrap();
    go_on_until(away, &["cannot be read from the API server"]);
    println!(
        "away for {} s: {repeated} repeated prepares answered, the slowest in {:?}; {refused} new ones refused, the \
         slowest in {:?}",
        since.elapsed().as_secs(),
        longest[0],
        longest[1]
    );

    node.cluster().start_api_server().unwrap();
    let started = Instant::now();
    let ready = || node.cluster().kubectl_output(&["get", "--raw=/readyz", "--request-timeout=2s"]).ok();
    within(PATIENCE, "the API server", ready);
    let returned = Instant::now();
    within(PATIENCE, "the lost device is not offered", || (!is_offered(&node, device(7))).then_some(()));
    let right = returned.elapsed();
    println!(
        "the API server answered {:?} after its start, and {right:?} later the slices were right",
        returned - started
    );

    calls.prepare(&new).unwrap();
    calls.unprepare(&new).unwrap();
    // Pods are made again, and those from before have not noticed anything. After a long outage the scheduler looks again
    // within a minute only (client-go's reflectors back off to 30 s, and up to as much again at random), and once more so
    // where the server then says that its watch has expired.
    team.start("after", &one_gpu(), &["devices"]);
    team.wait_running_within(2 * PATIENCE, "after");
    assert_eq!(restarts(&team, "training"), pod_before);
    node.machine().run(&["set", "7", "lost=false"]).unwrap();
    within(PATIENCE, "the device is offered again", || is_offered(&node, device(7)).then_some(()));
}
