//! What the tests of whole clusters share: names, pods, and looking for what a cluster may have left behind.
#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy only knows it of functions marked as tests"
)]
#![allow(unreachable_pub, reason = "a module of a test program has nobody to be public to")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cluster::{Cluster, ClusterName, Options};

/// A name that no other run of the tests uses.
pub fn unique_name(purpose: &str) -> ClusterName {
    format!("{purpose}-{}", std::process::id()).parse().unwrap()
}

pub fn up(name: &ClusterName) -> Cluster {
    Cluster::up(&Options::new(name.clone()), &mut |progress| eprintln!("{name}: {progress}")).unwrap()
}

/// A pod of the test image that does `steps`.
pub fn pod(name: &str, steps: &[&str]) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [{ "name": "main", "image": cluster::IMAGE, "args": steps }],
        },
    })
    .to_string()
}

/// Runs a pod until it is Ready.
pub fn run_pod(cluster: &Cluster, name: &str, steps: &[&str]) {
    cluster.apply(&pod(name, steps)).unwrap();
    let pod = format!("pod/{name}");
    cluster.kubectl_output(&["wait", "--for=condition=Ready", &pod, "--timeout=60s"]).unwrap();
}

/// Waits until something holds.
pub fn eventually(what: &str, patience: Duration, mut question: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !question() {
        assert!(Instant::now() < deadline, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(50));
    }
}

/// Everything by which a cluster's remains can be told, taken while it is alive.
pub struct Traces {
    name: ClusterName,
    pids: PathBuf,
    /// Held open, so that the kernel does not give the namespace's number to another cluster's.
    _namespace: fs::File,
}

impl Traces {
    pub fn of(cluster: &Cluster) -> Self {
        let namespace = format!("/proc/{}/ns/pid", recorded_init(cluster.name()).unwrap());
        let pids = fs::read_link(&namespace).unwrap();
        let traces = Self { name: cluster.name().clone(), pids, _namespace: fs::File::open(namespace).unwrap() };
        assert!(!traces.processes().is_empty(), "a living cluster must show, or this looks in the wrong place");
        assert!(!traces.cgroups().is_empty());
        assert!(traces.run_directory().is_dir());
        traces
    }

    pub fn run_directory(&self) -> PathBuf {
        Path::new("/run/tessera-clusters").join(self.name.as_str())
    }

    /// Every process of the cluster, its pods included.
    pub fn processes(&self) -> Vec<String> {
        let is_ours = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|its| its == self.pids);
        entries(Path::new("/proc")).into_iter().filter(|pid| pid.parse::<i32>().is_ok() && is_ours(pid)).collect()
    }

    pub fn cgroups(&self) -> Vec<PathBuf> {
        let wanted = format!("tessera-cluster-{}", self.name);
        let mut places = vec![PathBuf::from("/sys/fs/cgroup")];
        places.extend(entries(&places[0]).into_iter().map(|name| Path::new("/sys/fs/cgroup").join(name)));
        places.into_iter().map(|place| place.join(&wanted)).filter(|path| path.exists()).collect()
    }

    /// Nothing of the cluster is left, or will be soon.
    pub fn assert_gone_within(&self, patience: Duration) {
        eventually("the last process of the cluster ends", patience, || self.processes().is_empty());
        eventually("the cgroups go", patience, || self.cgroups().is_empty());
        eventually("the run directory goes", patience, || !self.run_directory().exists());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("/run/tessera-clusters"), "the node's mounts must never reach the host: {mounts}");
    }
}

/// The supervisor's process id, out of the record in the run directory.
pub fn recorded_supervisor(name: &ClusterName) -> Option<i32> {
    pid_of(&record(name)?["supervisor"])
}

/// That of the first node's PID 1.
pub fn recorded_init(name: &ClusterName) -> Option<i32> {
    recorded_init_of(name, cluster::NODE)
}

/// That of the PID 1 of a node.
pub fn recorded_init_of(name: &ClusterName, node: &str) -> Option<i32> {
    pid_of(&record(name)?["inits"][node])
}

fn record(name: &ClusterName) -> Option<serde_json::Value> {
    let text = fs::read(format!("/run/tessera-clusters/{name}/cluster.json")).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

fn pid_of(process: &serde_json::Value) -> Option<i32> {
    process["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
