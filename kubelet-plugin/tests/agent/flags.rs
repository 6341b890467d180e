//! Flags that cannot be used: the error names the flag, the value and what is allowed.

use testkit::Node;

use crate::AGENT;

#[tokio::test]
async fn a_bad_flag_is_told() {
    let node = Node::new(AGENT, "dgx-h100");
    let texts: Vec<_> = [
        &["run", "--rescan", "0"][..],
        &["run", "--rescan", "soon"],
        &["run", "--http", "9464"],
        &["run", "--log-format", "xml"],
        &["run", "--nvidia-driver-name", "GPU_"],
        &["run", "--drivers", "amd"],
        &["run", "--tpu-topology", "4by4"],
        &["inspect", "--tpu-driver-name", "gpu.nvidia.com"],
        &["run", "--api", "csi"],
        &["run", "--device-api", "gpu-0000-1b-00-0"],
        &["run", "--mig-strategy", "both"],
        &["run", "--device-list-strategy", "envvar,cdi"],
        &["run", "--pass-device-specs=maybe"],
        &["run", "--no-such-flag"],
        &["inspect", "--output", "yaml"],
        &[],
    ]
    .into_iter()
    .map(|arguments| {
        let output = node.run(arguments);
        assert!(!output.success && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        output.stderr.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
    })
    .collect();
    insta::assert_json_snapshot!(texts);
}

#[tokio::test]
async fn what_running_needs_is_asked_for() {
    let node = Node::new(AGENT, "dgx-h100");
    let kubelet = node.kubelet_dir().to_string_lossy().into_owned();
    let run = |arguments: &[&str]| {
        let output = node.run(&[&["run", "--kubelet-dir", &kubelet], arguments].concat());
        assert!(!output.success, "{output:?}");
        let error = output.stderr.lines().find(|line| line.starts_with("tessera-agent: ")).unwrap_or_default();
        node.anonymous(error)
    };
    let texts = [run(&[]), run(&["--node-name", "node-1", "--log", "loud=very"]), run(&["--node-name", "node-1"])];
    insta::assert_json_snapshot!(texts);
}

#[tokio::test]
async fn the_driver_can_have_another_name() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    node.start_agent(&["--nvidia-driver-name", "gpu.example.com"]);
    let registered = node.kubelet().registration(1, testkit::PATIENCE).await;
    assert_eq!(registered.info.name, "gpu.example.com");
    assert!(registered.info.endpoint.ends_with("/plugins/gpu.example.com/dra@kubelet.sock"));
    node.wait_for_devices("eight devices", |devices| devices.len() == 8).await;
    let slice = &node.api.slices()[0];
    assert_eq!(
        (&slice["spec"]["driver"], &slice["spec"]["pool"]["name"]),
        (&"gpu.example.com".into(), &"node-1/gpu.example.com".into())
    );
    let claim = testkit::Claim::new("training").result(serde_json::json!({
        "request": "gpu", "driver": "gpu.example.com", "pool": "node-1/gpu.example.com", "device": testkit::GPUS[0],
    }));
    let devices = node.kubelet().plugin().await.prepare(&node.known(claim)).await.unwrap();
    assert!(devices[0].cdi_device_ids[0].starts_with("tessera.gpu.example.com/claim="), "{devices:?}");
}
