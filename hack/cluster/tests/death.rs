//! However a cluster ends, nothing of it is left. Needs root.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy only knows it of functions marked as tests"
)]

mod support;

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cluster::{Cluster, ClusterName, Mode, Options, Signal};
use rustix::process::{Pid, kill_process};
use support::{Traces, eventually, recorded_init, recorded_supervisor, unique_name, up};

/// From the death of a process to the end of the last trace.
/// A second or two, but the machine may be busy with other clusters.
const SECONDS: Duration = Duration::from_secs(60);

/// Tells the helper below which cluster to bring up.
const NAME: &str = "CLUSTER_TEST_NAME";

/// Not a test: the process that the tests below start, to kill it.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn owner_that_waits_to_be_killed() {
    let Ok(name) = env::var(NAME) else { return };
    let _cluster = up(&name.parse().unwrap());
    std::thread::sleep(Duration::from_secs(600));
}

/// Killed with the test, if the test did not get to it: it would hold the test's output open.
struct OwnerProcess(Child);

impl Drop for OwnerProcess {
    fn drop(&mut self) {
        let _it_has_ended = self.0.kill();
        let _it_was_waited_for = self.0.wait();
    }
}

fn start_owner(name: &ClusterName) -> OwnerProcess {
    // A shell that starts the tests in the background has them ignore interruptions, and what they start inherits that.
    let child = Command::new("env")
        .arg("--default-signal=INT")
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "owner_that_waits_to_be_killed"])
        .env(NAME, name.as_str())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    OwnerProcess(child.unwrap())
}

/// Waits until the cluster that `owner` brings up is ready.
fn wait_until_ready(name: &ClusterName) -> Cluster {
    let patience = Duration::from_secs(1200);
    eventually("the owner's cluster appears", patience, || Cluster::open(name).is_ok());
    let cluster = Cluster::open(name).unwrap();
    eventually("the owner's cluster is ready", patience, || cluster.status().is_ok_and(|status| status.node_ready));
    cluster
}

fn signal(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn the_owner_is_killed() {
    let name = unique_name("orphan");
    let mut owner = start_owner(&name);
    let cluster = wait_until_ready(&name);
    let traces = Traces::of(&cluster);
    owner.0.kill().unwrap();
    traces.assert_gone_within(SECONDS);
}

#[test]
fn the_owner_is_interrupted_while_the_cluster_comes_up() {
    let name = unique_name("early");
    let owner = start_owner(&name);
    eventually("the node begins", Duration::from_secs(1200), || recorded_init(&name).is_some());
    let cluster = Cluster::open(&name).unwrap();
    eventually("the components begin", SECONDS, || cluster.service_running("kube-apiserver").unwrap_or(false));
    let traces = Traces::of(&cluster);
    signal(i32::try_from(owner.0.id()).unwrap(), Signal::INT);
    traces.assert_gone_within(SECONDS);
}

#[test]
fn the_supervisor_is_killed_and_the_next_up_sweeps() {
    let name = unique_name("stale");
    let mut options = Options::new(name.clone());
    options.mode = Mode::Detached;
    let first = Cluster::up(&options, &mut |_| {}).unwrap();
    let traces = Traces::of(&first);
    signal(recorded_supervisor(&name).unwrap(), Signal::KILL);
    eventually("every process dies with the supervisor", SECONDS, || traces.processes().is_empty());
    // Its directory and cgroups are left, unless a test beside this one has swept them already: any `up` does.

    let second = Cluster::up(&options, &mut |_| {}).unwrap();
    assert!(second.status().unwrap().node_ready);
    let traces = Traces::of(&second);
    signal(recorded_supervisor(&name).unwrap(), Signal::KILL);
    eventually("every process dies with the supervisor", SECONDS, || traces.processes().is_empty());
    assert!(!Cluster::list().unwrap().contains(&name));
    traces.assert_gone_within(Duration::ZERO);
}

#[test]
fn a_detached_cluster_outlives_its_value_and_a_component_that_fails_is_named() {
    let name = unique_name("free");
    let mut options = Options::new(name.clone());
    options.mode = Mode::Detached;
    drop(Cluster::up(&options, &mut |_| {}).unwrap());
    let cluster = Cluster::open(&name).unwrap();
    let traces = Traces::of(&cluster);
    cluster.down().unwrap();
    traces.assert_gone_within(Duration::ZERO);
    let absent = Cluster::open(&name).unwrap_err().to_string();
    assert!(absent.starts_with(&format!("there is no cluster {:?}", name.as_str())), "{absent}");

    options.mode = Mode::Owned;
    options.apiserver_arguments = vec!["--no-such-flag".to_owned()];
    let failure = format!("{:#}", Cluster::up(&options, &mut |_| {}).unwrap_err());
    assert!(failure.contains("kube-apiserver ended with exit status 1"), "{failure}");
    assert!(failure.contains("unknown flag: --no-such-flag"), "{failure}");
    assert!(failure.contains("kube-apiserver.log"), "{failure}");
    traces.assert_gone_within(Duration::ZERO);
}
