//! GPUs for user space, by VFIO, on a real node whose simulated kernel binds and unbinds.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use e2e::{Team, eventually, has_taints_and_more, kubernetes, request_of, start_agent, without_agent};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

const MIG: &str = "mig.nvidia.com";
const VFIO: &str = "vfio.gpu.nvidia.com";

/// The node of these tests, which use a GPU each; none where the server drops the counters that tell the two uses of a GPU
/// apart.
fn node() -> Option<&'static SimulatedNode> {
    static NODE: OnceLock<SimulatedNode> = OnceLock::new();
    if !has_taints_and_more() {
        eprintln!("Kubernetes {} drops counters, so nothing is published for user space", kubernetes());
        return None;
    }
    Some(NODE.get_or_init(|| passing("passthrough")))
}

/// A node of one's own like that.
fn passing(name: &str) -> SimulatedNode {
    let node = without_agent(name, "dgx-h100");
    node.boot_kernel(&[]).unwrap();
    start_agent(&node, &["--offer", "partitions,passthrough"]);
    node
}

/// The spec of a claim for a device of a class on the GPU at this PCI address.
fn on(address: &str, class: &str) -> Value {
    let this = format!("device.attributes['resource.kubernetes.io'].pciBusID == '{address}'");
    json!({"devices": {"requests": [request_of(class, "gpu", &[&this])]}})
}

/// The same with a VfioDeviceConfig.
fn configured(address: &str, class: &str, iommu: &Value) -> Value {
    let mut spec = on(address, class);
    spec["devices"]["config"] = json!([vfio_config(iommu)]);
    spec
}

fn vfio_config(iommu: &Value) -> Value {
    let parameters = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "VfioDeviceConfig", "iommu": iommu});
    json!({"opaque": {"driver": "gpu.nvidia.com", "parameters": parameters}})
}

/// The chart's policy keeps the API device from namespaces without this.
fn may_be_privileged(team: &Team<'_>, namespace: &str) {
    team.kubectl(&["label", "namespace", namespace, "tessera.dev/privileged-configs=true"]);
}

/// What a link below a PCI function's directory in sysfs leads to: `driver`, `iommu_group`.
fn linked(node: &SimulatedNode, address: &str, link: &str) -> Option<String> {
    let target = fs::read_link(node.sysfs().join("bus/pci/devices").join(address).join(link)).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// The nodes of VFIO and NVIDIA that a pod's container printed.
fn nodes_seen(team: &Team<'_>, pod: &str) -> BTreeSet<String> {
    nodes_seen_by(team, pod, "main")
}

fn nodes_seen_by(team: &Team<'_>, pod: &str, container: &str) -> BTreeSet<String> {
    let ours = |path: &String| ["/dev/nvidia", "/dev/vfio", "/dev/iommu"].iter().any(|known| path.starts_with(known));
    team.nodes_seen(pod, container).into_iter().filter(ours).collect()
}

#[test]
fn a_gpu_is_with_user_space_while_its_pod_runs() {
    let Some(node) = node() else { return };
    let address = "0000:1b:00.0";
    let team = Team::new(node, "user-space");
    assert_eq!(linked(node, address, "driver").as_deref(), Some("nvidia"));
    team.start("vm", &on(address, VFIO), &["devices"]);
    team.wait_running("vm");
    assert_eq!(linked(node, address, "driver").as_deref(), Some("vfio-pci"));
    let group = format!("/dev/vfio/{}", linked(node, address, "iommu_group").unwrap());
    assert_eq!(nodes_seen(&team, "vm"), BTreeSet::from([group.clone()]));
    let opened = team.kubectl(&["exec", "vm", "--", "/probe", "open", &group]);
    assert!(opened.contains("ok"), "{opened}");

    // NVML does not see it meanwhile, which is not to be taken for a loss.
    eventually("the kubelet says Healthy", || {
        let status = team.get("pod", "vm")["status"]["containerStatuses"][0]["allocatedResourcesStatus"].clone();
        (status[0]["resources"][0]["health"] == "Healthy").then_some(())
    });
    let slices = node.slices().unwrap();
    let devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
    let of_this = |device: &&Value| device["attributes"]["resource.kubernetes.io/pciBusID"]["string"] == address;
    let of_this: Vec<_> = devices.filter(of_this).collect();
    assert!(of_this.len() > 2 && of_this.iter().all(|device| device["taints"].is_null()), "{of_this:#?}");

    let uid = team.uid_of("vm");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    team.delete_pod("vm");
    eventually("nothing is left", || team.files_of(&uid).is_empty().then_some(()));
    assert_eq!(linked(node, address, "driver").as_deref(), Some("nvidia"));
    team.start("training", &on(address, "gpu.nvidia.com"), &["devices"]);
    team.wait_running("training");
    assert_eq!(team.gpus_seen("training", "main").len(), 1);
}

#[test]
fn a_gpu_is_given_as_a_whole_or_to_user_space() {
    let Some(node) = node() else { return };
    let address = "0000:43:00.0";
    let team = Team::new(node, "one-of-two");
    for (first, second) in [("gpu.nvidia.com", VFIO), (VFIO, "gpu.nvidia.com")] {
        let name = |class: &str, place: &str| format!("{}-{place}", class.split('.').next().unwrap());
        let (holder, waiting) = (name(first, "holds"), name(second, "waits"));
        team.start(&holder, &on(address, first), &["devices"]);
        team.wait_running(&holder);
        team.start(&waiting, &on(address, second), &["devices"]);
        team.wait_event(&waiting, &["cannot allocate all claims"]);
        assert_eq!(team.get("pod", &waiting)["status"]["phase"], "Pending");
        team.delete_pod(&holder);
        team.wait_running(&waiting);
        let expected = if second == VFIO { "vfio-pci" } else { "nvidia" };
        assert_eq!(linked(node, address, "driver").as_deref(), Some(expected), "{waiting}");
        team.delete_pod(&waiting);
    }
}

#[test]
fn a_claim_chooses_the_interface_and_its_class_gives_the_api_device() {
    let Some(node) = node() else { return };
    let address = "0000:52:00.0";
    let team = Team::new(node, "interfaces");
    may_be_privileged(&team, "interfaces");
    let of_vfio = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'vfio'";
    let launchers = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "launcher.example.com"},
        "spec": {"selectors": [{"cel": {"expression": of_vfio}}], "config": [vfio_config(&json!({"enableAPIDevice": true}))]},
    });
    node.cluster().apply(&launchers.to_string()).unwrap();

    let device = || {
        let directory = node.sysfs().join("bus/pci/devices").join(address).join("vfio-dev");
        let entry = fs::read_dir(directory).unwrap().next().unwrap().unwrap();
        format!("/dev/vfio/devices/{}", entry.file_name().to_string_lossy())
    };
    let prefers = json!({"backendPolicy": "PreferIommuFD"});
    team.start("device", &configured(address, VFIO, &prefers), &["devices"]);
    team.wait_running("device");
    assert_eq!(nodes_seen(&team, "device"), BTreeSet::from([device()]));
    team.delete_pod("device");

    team.start("launcher", &configured(address, "launcher.example.com", &prefers), &["devices"]);
    team.wait_running("launcher");
    assert_eq!(nodes_seen(&team, "launcher"), BTreeSet::from(["/dev/iommu".to_owned(), device()]));
    team.delete_pod("launcher");

    team.start("greedy", &configured(address, VFIO, &json!({"enableAPIDevice": true})), &["devices"]);
    team.wait_event("greedy", &["VfioDeviceConfig in the claim", "enableAPIDevice"]);
    assert_eq!(linked(node, address, "driver").as_deref(), Some("nvidia"));
}

#[test]
fn a_slice_of_one_gpu_and_another_for_user_space_are_on_one_node() {
    let Some(node) = node() else { return };
    let (cut, passed) = ("0000:61:00.0", "0000:9d:00.0");
    let team = Team::new(node, "side-by-side");
    team.start("slice", &on(cut, MIG), &["devices"]);
    team.start("vm", &on(passed, VFIO), &["devices"]);
    for pod in ["slice", "vm"] {
        team.wait_running(pod);
    }
    assert_eq!(team.gpus_seen("slice", "main").len(), 1);
    assert!(!team.capabilities_seen("slice", "main").is_empty());
    let group = format!("/dev/vfio/{}", linked(node, passed, "iommu_group").unwrap());
    assert_eq!(nodes_seen(&team, "vm"), BTreeSet::from([group]));
    let drivers = [cut, passed].map(|address| linked(node, address, "driver").unwrap_or_default());
    assert_eq!(drivers, ["nvidia", "vfio-pci"]);

    // A slice keeps its GPU from user space, and user space its own from slices.
    team.start("cut-for-a-vm", &on(cut, VFIO), &["devices"]);
    team.start("passed-for-a-slice", &on(passed, MIG), &["devices"]);
    for pod in ["cut-for-a-vm", "passed-for-a-slice"] {
        team.wait_event(pod, &["cannot allocate all claims"]);
    }
    for pod in ["slice", "vm"] {
        team.delete_pod(pod);
    }
    for pod in ["cut-for-a-vm", "passed-for-a-slice"] {
        team.wait_running(pod);
    }
    let drivers = [cut, passed].map(|address| linked(node, address, "driver").unwrap_or_default());
    assert_eq!(drivers, ["vfio-pci", "nvidia"]);
}

#[test]
fn manifests_written_for_nvidias_driver_work_unchanged() {
    if node().is_none() {
        return;
    }
    let node = passing("nvidias-vfio");
    let team = Team::new(&node, "nvidias-vfio");
    may_be_privileged(&team, "nvidias-vfio");
    team.apply_yaml(include_str!("manifests/nvidia-style-vfio.yaml"));
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    for (pod, directory) in [("plain", "/dev/vfio/"), ("by-iommufd", "/dev/vfio/devices/vfio")] {
        team.wait_running(pod);
        let seen = nodes_seen_by(&team, pod, "ctr");
        let of_gpu = |path: &String| path.strip_prefix(directory).is_some_and(is_number);
        assert!(seen.len() == 1 && seen.iter().all(of_gpu), "{pod}: {seen:?}");
    }

    // The node's own device is the admin's to give, once for all who use the class.
    let launcher = include_str!("manifests/nvidia-style-vfio-launcher.yaml");
    team.apply_yaml(launcher);
    team.wait_event("launcher", &["VfioDeviceConfig in the claim", "for the cluster's admin to say"]);
    team.delete_pod("launcher");
    let given = json!({"spec": {"config": [vfio_config(&json!({"enableAPIDevice": true}))]}}).to_string();
    team.kubectl(&["patch", "deviceclass", VFIO, "--type=merge", "-p", &given]);
    team.apply_yaml(launcher);
    team.wait_running("launcher");
    let mut seen = nodes_seen_by(&team, "launcher", "ctr");
    assert!(seen.remove("/dev/vfio/vfio"), "{seen:?}");
    let of_gpu = |path: &String| path.strip_prefix("/dev/vfio/").is_some_and(is_number);
    assert!(seen.len() == 2 && seen.iter().all(of_gpu), "{seen:?}");
}
