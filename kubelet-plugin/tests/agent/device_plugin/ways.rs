//! How a container gets what was allocated to it, as the flags, the environment and the config file say.

use std::fs;

use super::{GPU, healthy, node_with};

#[tokio::test]
async fn a_flag_stands_above_the_file_and_nothing_is_looked_up_in_a_spec_that_nobody_needs() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config = "{version: v1, flags: {failOnInitError: false, plugin: {deviceListStrategy: cdi-annotations, \
                  passDeviceSpecs: true}}}";
    fs::write(file.path(), config).unwrap();
    let flags = ["--api", "device-plugin", "--config-file", file.path().to_str().unwrap()];

    let (node, manager) = node_with(&flags).await;
    healthy(&node, &manager, GPU, 8).await;
    let allocated = manager.admit(GPU, 2).await.unwrap();
    let names = &allocated.answer.annotations["cdi.k8s.io/nvidia.com_gpu"];
    let ends: Vec<_> =
        names.split(',').map(|name| name.strip_prefix("tessera.gpu.nvidia.com/device=").unwrap()).collect();
    assert_eq!(ends, [&["shared"][..], &allocated.ids.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    assert_eq!((allocated.answer.cdi_devices.len(), allocated.answer.devices.len()), (0, 0));
    let log = node.log();
    assert!(log.contains("flags.failOnInitError") && log.contains("CDI names the nodes itself"), "{log}");

    let (node, manager) = node_with(&[&flags[..], &["--device-list-strategy", "envvar,volume-mounts"]].concat()).await;
    healthy(&node, &manager, GPU, 8).await;
    let answer = manager.admit(GPU, 1).await.unwrap();
    let (id, answer) = (&answer.ids[0], answer.answer);
    assert_eq!(answer.envs["NVIDIA_VISIBLE_DEVICES"], "/var/run/nvidia-container-devices");
    assert_eq!(answer.mounts[0].container_path, format!("/var/run/nvidia-container-devices/{id}"));
    assert_eq!(answer.mounts[0].host_path, "/dev/null");
    assert!(answer.annotations.is_empty() && answer.cdi_devices.is_empty());
    let nodes: Vec<_> = answer.devices.iter().map(|node| (&*node.container_path, &*node.permissions)).collect();
    assert!(nodes.contains(&("/dev/nvidiactl", "rw")) && nodes.contains(&("/dev/nvidia0", "rw")), "{nodes:?}");
    assert!(answer.devices.iter().all(|device| device.host_path.ends_with(&device.container_path)));
    assert_eq!(fs::read_dir(node.cdi_dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_followed_says_where_it_stands_and_nothing_is_offered_by_count() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (config, reason) in [
        (
            "{version: v1, sharing: {mps: {resources: [{name: nvidia.com/gpu, replicas: 2}]}}}",
            "sharing.mps: is not served yet",
        ),
        ("{version: v2}", "version: must be v1, and is v2"),
        ("version: [", "it is no YAML"),
    ] {
        fs::write(file.path(), config).unwrap();
        let mut node = testkit::Node::new(crate::AGENT, "dgx-h100");
        node.start_kubelet(testkit::kubelet::Answer::Confirm);
        node.start_agent(&["--api", "device-plugin", "--config-file", path]);
        let told = format!("config {path} is not followed, and nothing is offered by count: ");
        let said = |node: &testkit::Node| node.log().contains(reason).then_some(());
        node.wait(reason, said).await;
        assert!(node.log().contains(&told), "{}", node.log());
    }
}
