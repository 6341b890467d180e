use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::api_server::Resource;
use testkit::{ApiServer, CutNodes};

const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster without anything real: an API server, nodes, and controllers as processes.
pub(crate) struct Ground {
    pub(crate) server: ApiServer,
    pub(crate) nodes: CutNodes,
    directory: TempDir,
    /// The most nodes that were seen to have been told something and not to have answered.
    pub(crate) most_at_once: usize,
}

/// A replica. It is killed when dropped.
pub(crate) struct Replica {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Ground {
    /// So many nodes, each with two GPUs.
    pub(crate) fn new(nodes: usize) -> Self {
        let ground = Self {
            server: ApiServer::start(),
            nodes: CutNodes::new(2),
            directory: tempfile::tempdir().unwrap(),
            most_at_once: 0,
        };
        ground.server.write_kubeconfig(&ground.directory.path().join("kubeconfig"));
        for index in 0..nodes {
            ground.server.put_node(&format!("n{index}"), &format!("uid-{index}"));
        }
        ground
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn start(&self, name: &str, more: &[&str]) -> Replica {
        let log = self.directory.path().join(format!("{name}.log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tessera-controller"));
        command.arg("--kubeconfig").arg(self.directory.path().join("kubeconfig"));
        command.args(["--identity", name, "--http", "off"]).args(more);
        if !more.contains(&"--lease-seconds") {
            command.args(["--lease-seconds", "2"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Replica { child: command.spawn().unwrap(), log }
    }

    /// Stores a policy that has all GPUs be shared.
    pub(crate) fn put_policy(&self, rollout: Value) {
        let rules = json!([{"layout": {"shares": {"count": 2}}}]);
        let policy = json!({
            "apiVersion": "tessera.dev/v1alpha1", "kind": "PartitionPolicy", "metadata": {"name": "p"},
            "spec": {"rules": rules, "rollout": rollout},
        });
        self.server.put(Resource::Policies, policy);
    }

    /// The nodes, by how far they are, and the reason of the condition Ready.
    pub(crate) fn policy(&self) -> Option<(Value, String)> {
        let policy = self.server.get(Resource::Policies, "", "p")?;
        let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready").unwrap_or_default();
        Some((policy["status"]["nodes"].clone(), ready["reason"].as_str().unwrap_or_default().to_owned()))
    }

    /// Lets the agents answer until something holds.
    pub(crate) fn until(&mut self, what: &str, replicas: &[&Replica], mut holds: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            if begun.elapsed() > PATIENCE {
                let logs = replicas.iter().map(|replica| fs::read_to_string(&replica.log).unwrap_or_default());
                let policy = self.server.get(Resource::Policies, "", "p").unwrap_or_default();
                panic!("{what}: not within {PATIENCE:?}\n{policy:#}\n{}", logs.collect::<Vec<_>>().join("\n---\n"));
            }
            std::thread::sleep(Duration::from_millis(5));
            // Told to be what it is not: that an entry leaves the spec changes nothing.
            let told = |layout: &&Value| {
                let reported = layout["status"]["devices"].as_array().cloned().unwrap_or_default();
                let is = |name: &Value| reported.iter().find(|device| device["name"] == *name).map(|is| &is["layout"]);
                let desired = layout["spec"]["devices"].as_array().into_iter().flatten();
                desired.into_iter().any(|device| is(&device["name"]) != Some(&device["layout"]))
            };
            let at_once = self.server.list(Resource::NodeLayouts).iter().filter(told).count();
            self.most_at_once = self.most_at_once.max(at_once);
            self.nodes.answer(&self.server);
        }
    }

    /// Who leads, without what is random.
    pub(crate) fn leader(&self) -> Option<String> {
        let lease = self.server.get(Resource::Leases, "tessera-system", "tessera-controller")?;
        let holder = lease["spec"]["holderIdentity"].as_str()?;
        Some(holder.split('_').next().unwrap_or_default().to_owned())
    }
}

impl Replica {
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as Kubernetes does.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
