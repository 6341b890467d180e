use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use simulated_node::SimulatedNode;
use testkit::{Claim, cdi_specs};

use crate::{PATIENCE, claim, container, eventually, one_gpu, pod, within};

/// A namespace for one test, on one node: its pods run there, and that is whose files it looks at. Everything in it is removed when it goes, so that the devices are free again.
pub struct Team<'a> {
    node: &'a SimulatedNode,
    namespace: String,
}

impl<'a> Team<'a> {
    /// Makes the namespace.
    pub fn new(node: &'a SimulatedNode, namespace: &str) -> Self {
        let team = Self { node, namespace: namespace.to_owned() };
        node.cluster().kubectl_output(&["create", "namespace", namespace]).unwrap();
        // Pods are refused before it is there.
        eventually("the default service account", || team.try_kubectl(&["get", "serviceaccount", "default"]).ok());
        team
    }

    /// Creates objects.
    #[track_caller]
    pub fn apply(&self, objects: &[Value]) {
        self.try_apply(objects).unwrap();
    }

    /// Creates objects, unless one is refused: what was said then.
    pub fn try_apply(&self, objects: &[Value]) -> Result<(), String> {
        let objects: Vec<_> = objects.iter().map(|object| self.placed(object)).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.node.cluster().apply(&list).map(drop).map_err(|error| format!("{error:#}"))
    }

    /// Creates what a YAML manifest says, unchanged, in this namespace.
    #[track_caller]
    pub fn apply_yaml(&self, manifest: &str) {
        // kubectl itself puts objects without a namespace into this one.
        let path = self.node.cluster().run_directory().join(format!("{}.yaml", self.namespace));
        std::fs::write(&path, manifest).unwrap();
        self.kubectl(&["apply", "-f", &format!("/run/cluster/{}.yaml", self.namespace)]);
    }

    fn placed(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(self.namespace);
        let cluster = self.node.cluster();
        if object["kind"] == "Pod" && cluster.node_names().len() > 1 {
            object["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": cluster.node_name()});
        }
        object
    }

    /// Creates a claim for one GPU and a pod of the same name that uses it and does these steps.
    #[track_caller]
    pub fn run_with_one_gpu(&self, name: &str, steps: &[&str]) {
        self.start(name, &one_gpu(), steps);
        self.wait_running(name);
    }

    /// Creates a claim of this spec and a pod of the same name that uses it and does these steps, and waits for nothing.
    #[track_caller]
    pub fn start(&self, name: &str, spec: &Value, steps: &[&str]) {
        let uses = json!({"name": "claim", "resourceClaimName": name});
        self.apply(&[claim(name, spec), pod(name, &[uses], &[container("main", &["claim"], steps)])]);
    }

    /// What kubectl prints, in this namespace.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap()
    }

    fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let arguments: Vec<_> = ["--namespace", &self.namespace].into_iter().chain(arguments.iter().copied()).collect();
        self.node.cluster().kubectl_output(&arguments).map_err(|error| format!("{error:#}"))
    }

    /// What a command in a container printed, whether it succeeded or not.
    #[track_caller]
    pub fn try_exec(&self, pod: &str, container: &str, command: &[&str]) -> String {
        let arguments = ["--namespace", &self.namespace, "exec", pod, "-c", container, "--"];
        let arguments: Vec<_> = arguments.iter().chain(command).copied().collect();
        let output = self.node.cluster().kubectl(&arguments).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// An object as it is.
    #[track_caller]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])).unwrap()
    }

    /// Waits until a pod's containers run, and keeps the CDI specs of that moment for the judges.
    #[track_caller]
    pub fn wait_running(&self, pod: &str) {
        self.wait_running_within(PATIENCE, pod);
    }

    /// The same with a patience of its own.
    #[track_caller]
    pub fn wait_running_within(&self, patience: Duration, pod: &str) {
        let mut last = String::new();
        within(patience, &format!("pod {}/{pod} Running", self.namespace), || {
            last = self.get("pod", pod)["status"]["phase"].as_str().unwrap_or_default().to_owned();
            assert!(last != "Failed", "pod {pod} failed: {}", self.kubectl(&["describe", "pod", pod]));
            (last == "Running").then_some(())
        });
        cdi_specs::collect(&self.node.cluster().node_root().join("run/cdi"));
    }

    /// Waits until an event of the pod holds all of these words, and returns its message.
    #[track_caller]
    pub fn wait_event(&self, pod: &str, words: &[&str]) -> String {
        eventually(&format!("an event of pod {pod} with {words:?}"), || {
            let field = format!("involvedObject.name={pod}");
            let events: Value =
                serde_json::from_str(&self.kubectl(&["get", "events", "--field-selector", &field, "-o", "json"]))
                    .unwrap();
            let mut messages = events["items"].as_array().unwrap().iter().filter_map(|event| event["message"].as_str());
            messages.rfind(|message| words.iter().all(|word| message.contains(word))).map(str::to_owned)
        })
    }

    /// What a container printed, once it holds `until`.
    #[track_caller]
    pub fn log(&self, pod: &str, container: &str, until: &str) -> String {
        eventually(&format!("{until:?} in the log of {pod}/{container}"), || {
            self.try_kubectl(&["logs", pod, "-c", container]).ok().filter(|log| log.contains(until))
        })
    }

    /// The device nodes that a container printed with the step `devices`.
    #[track_caller]
    pub fn nodes_seen(&self, pod: &str, container: &str) -> BTreeSet<String> {
        // The last one that is always there.
        let log = self.log(pod, container, "/dev/zero");
        log.lines().filter_map(|line| line.split_once(' ')).map(|(path, _)| path.to_owned()).collect()
    }

    /// The GPU nodes that a container printed with the step `devices`.
    #[track_caller]
    pub fn gpus_seen(&self, pod: &str, container: &str) -> BTreeSet<String> {
        let gpu = |path: &String| path.strip_prefix("/dev/nvidia").is_some_and(|rest| rest.parse::<u32>().is_ok());
        self.nodes_seen(pod, container).into_iter().filter(gpu).collect()
    }

    /// The numbers of the IOMMU groups whose nodes a container printed with the step `devices`.
    #[track_caller]
    pub fn vfio_groups_seen(&self, pod: &str, container: &str) -> BTreeSet<u32> {
        let group = |path: String| path.strip_prefix("/dev/vfio/")?.parse().ok();
        self.nodes_seen(pod, container).into_iter().filter_map(group).collect()
    }

    /// The environment that a container printed with the steps `env` and `echo over`, by name.
    #[track_caller]
    pub fn environment_seen(&self, pod: &str, container: &str) -> BTreeMap<String, String> {
        let log = self.log(pod, container, "\nover\n");
        let variables = log.lines().filter_map(|line| line.split_once('='));
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The nodes of MIG capabilities that a container printed with the step `devices`.
    #[track_caller]
    pub fn capabilities_seen(&self, pod: &str, container: &str) -> BTreeSet<String> {
        self.nodes_seen(pod, container).into_iter().filter(|path| path.starts_with("/dev/nvidia-caps/")).collect()
    }

    /// The devices that a claim was given, by name.
    #[track_caller]
    pub fn devices_of(&self, claim: &str) -> Vec<String> {
        let claim = self.get("resourceclaim", claim);
        let results = claim["status"]["allocation"]["devices"]["results"].as_array().cloned().unwrap_or_default();
        results.iter().map(|result| result["device"].as_str().unwrap().to_owned()).collect()
    }

    /// The UID of a claim.
    #[track_caller]
    pub fn uid_of(&self, claim: &str) -> String {
        self.get("resourceclaim", claim)["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// A claim, as the kubelet names it to the agent.
    #[track_caller]
    pub fn named(&self, claim: &str) -> Claim {
        Claim::new(claim).namespace(&self.namespace).uid(&self.uid_of(claim))
    }

    /// Creates a claim and gives it a device of the node as the scheduler would, but without a pod.
    #[track_caller]
    pub fn allocate(&self, name: &str, device: &str) -> Claim {
        self.apply(&[claim(name, &one_gpu())]);
        let pool = format!("{}/{}", self.node.cluster().node_name(), Claim::DRIVER);
        let result = json!({"request": "gpu", "driver": Claim::DRIVER, "pool": pool, "device": device});
        let status = json!({"status": {"allocation": {"devices": {"results": [result]}}}}).to_string();
        self.kubectl(&["patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-p", &status]);
        self.named(name)
    }

    /// Deletes a pod and waits until it is gone.
    #[track_caller]
    pub fn delete_pod(&self, pod: &str) {
        self.kubectl(&["delete", "pod", pod, "--timeout=90s"]);
    }

    /// Deletes all pods and claims and waits until they are gone.
    #[track_caller]
    pub fn clear(&self) {
        self.kubectl(&["delete", "pods", "--all", "--timeout=90s"]);
        self.kubectl(&["delete", "resourceclaims", "--all", "--timeout=90s"]);
    }

    /// The CDI spec and the record of a claim on the node, those that are there.
    pub fn files_of(&self, uid: &str) -> Vec<PathBuf> {
        Self::files_on(self.node, uid)
    }

    /// The same on any node.
    pub fn files_on(node: &SimulatedNode, uid: &str) -> Vec<PathBuf> {
        let root = node.cluster().node_root();
        let directories =
            ["run/cdi", "run/tessera/gpu.nvidia.com", "run/tessera/tpu.google.com"].map(|path| root.join(path));
        let entries = directories.iter().flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten());
        entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(uid)).collect()
    }
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What a person needs to see why.
            eprintln!(
                "{}",
                self.try_kubectl(&["get", "pods,resourceclaims", "-o", "wide"]).unwrap_or_else(|error| error)
            );
            eprintln!("{}", self.try_kubectl(&["get", "events"]).unwrap_or_else(|error| error));
            eprintln!("{}", self.node.agent().log_end());
        }
        for arguments in [
            &["delete", "pods", "--all", "--timeout=60s"][..],
            &["delete", "namespace", &self.namespace, "--wait=false"],
        ] {
            if let Err(error) = self.try_kubectl(arguments) {
                eprintln!("cleaning up {}: {error}", self.namespace);
            }
        }
    }
}
