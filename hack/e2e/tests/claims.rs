//! Claims on a real node: who gets which device, and who sees it.

use e2e::{
    Team, by_chart, claim, container, eventually, has_taints_and_more, kubernetes, one_gpu, pod, request, shared,
    template,
};
use serde_json::json;

#[test]
fn one_pod_gets_one_gpu() {
    let team = Team::new(shared(), "one-pod");
    team.run_with_one_gpu("training", &["devices", "env"]);
    let gpus = team.gpus_seen("training", "main");
    assert_eq!(gpus.len(), 1, "{gpus:?}");
    let log = team.log("training", "main", "NVIDIA_VISIBLE_DEVICES=void");
    assert!(log.contains("/dev/nvidiactl ") && log.contains("/dev/nvidia-uvm "), "{log}");
    // That it can be opened is more than that it can be seen.
    let node = gpus.iter().next().unwrap();
    let opened = team.kubectl(&["exec", "training", "--", "/probe", "open", node]);
    assert!(opened.contains("ok"), "{opened}");
}

#[test]
fn two_pods_share_a_claim() {
    let team = Team::new(shared(), "two-pods");
    let uses = [json!({"name": "gpu", "resourceClaimName": "shared"})];
    let worker = |name| pod(name, &uses, &[container("main", &["gpu"], &["devices"])]);
    team.apply(&[claim("shared", &one_gpu()), worker("first"), worker("second")]);
    team.wait_running("first");
    team.wait_running("second");
    assert_eq!(team.gpus_seen("first", "main"), team.gpus_seen("second", "main"));

    // It stays as long as one of them needs it.
    let uid = team.uid_of("shared");
    team.delete_pod("first");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    assert_eq!(team.gpus_seen("second", "main").len(), 1);
}

#[test]
fn two_containers_of_a_pod_share_a_claim() {
    let team = Team::new(shared(), "two-containers");
    let uses = [json!({"name": "gpu", "resourceClaimTemplateName": "one"})];
    let containers = ["first", "second"].map(|name| container(name, &["gpu"], &["devices"]));
    team.apply(&[template("one", &one_gpu()), pod("training", &uses, &containers)]);
    team.wait_running("training");
    let seen = ["first", "second"].map(|container| team.gpus_seen("training", container));
    assert_eq!(seen[0].len(), 1);
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn two_claims_get_two_gpus() {
    let team = Team::new(shared(), "two-claims");
    let uses = ["first", "second"].map(|name| json!({"name": name, "resourceClaimTemplateName": "one"}));
    let containers = [
        container("both", &["first", "second"], &["devices"]),
        container("only-first", &["first"], &["devices"]),
        container("only-second", &["second"], &["devices"]),
    ];
    team.apply(&[template("one", &one_gpu()), pod("training", &uses, &containers)]);
    team.wait_running("training");
    let [both, first, second] =
        ["both", "only-first", "only-second"].map(|container| team.gpus_seen("training", container));
    assert_eq!((both.len(), first.len(), second.len()), (2, 1, 1));
    assert_eq!(both, &first | &second, "each container sees what its claims were given, and nothing else");
}

#[test]
fn cel_chooses_by_name_memory_and_version() {
    let team = Team::new(shared(), "cel");
    let requests = [
        request("name", &["device.attributes['gpu.nvidia.com'].productName.lowerAscii().matches('^.*h100.*$')"]),
        request(
            "memory-and-version",
            &[
                "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('79Gi')) >= 0",
                "device.attributes['gpu.nvidia.com'].driverVersion.compareTo(semver('535.0.0')) >= 0",
                "device.attributes['gpu.nvidia.com'].cudaComputeCapability.isGreaterThan(semver('8.9.0'))",
            ],
        ),
        request(
            "portable",
            &[
                "device.attributes['tessera.dev'].vendor == 'nvidia' && device.capacity['tessera.dev'].memory.isGreaterThan(quantity('10Gi'))",
            ],
        ),
    ];
    let uses = [json!({"name": "gpus", "resourceClaimName": "chosen"})];
    team.apply(&[
        claim("chosen", &json!({"devices": {"requests": requests}})),
        pod("training", &uses, &[container("main", &["gpus"], &["devices"])]),
    ]);
    team.wait_running("training");
    assert_eq!(team.gpus_seen("training", "main").len(), 3);
}

#[test]
fn a_selector_that_matches_nothing_leaves_the_pod_pending_with_the_reason() {
    let team = Team::new(shared(), "no-match");
    let wanted = json!({"devices": {"requests": [request("gpu", &["device.attributes['gpu.nvidia.com'].productName == 'NVIDIA B300'"])]}});
    let uses = [json!({"name": "gpu", "resourceClaimName": "impossible"})];
    team.apply(&[claim("impossible", &wanted), pod("waiting", &uses, &[container("main", &["gpu"], &["devices"])])]);
    team.wait_event("waiting", &["cannot allocate all claims"]);
    assert_eq!(team.get("pod", "waiting")["status"]["phase"], "Pending");
}

#[test]
fn who_has_no_claim_sees_no_device_and_is_refused_by_the_kernel() {
    let team = Team::new(shared(), "isolation");
    let uses = [json!({"name": "gpu", "resourceClaimTemplateName": "one"})];
    let containers = [container("granted", &["gpu"], &["devices"]), container("sibling", &[], &["devices"])];
    team.apply(&[
        template("one", &one_gpu()),
        pod("training", &uses, &containers),
        pod("stranger", &[], &[container("main", &[], &["devices"])]),
    ]);
    team.wait_running("training");
    team.wait_running("stranger");
    assert_eq!(team.gpus_seen("training", "granted").len(), 1);

    let granted = team.log("training", "granted", "/dev/nvidia");
    let numbers: Vec<_> = granted
        .lines()
        .find(|line| line.starts_with("/dev/nvidia") && line.as_bytes()[11].is_ascii_digit())
        .unwrap()
        .split([' ', ':'])
        .collect();
    let [_, major, minor] = numbers[..] else { panic!("{numbers:?}") };
    for (pod, container) in [("training", "sibling"), ("stranger", "main")] {
        assert!(team.gpus_seen(pod, container).is_empty(), "{pod}/{container} sees a GPU");
        // The very node that the other container was granted.
        let refused = team.try_exec(pod, container, &["/probe", "mknod", "/dev/stolen", major, minor]);
        assert!(refused.contains("EPERM"), "{pod}/{container}: {refused}");
        assert!(!refused.contains("open /dev/stolen: ok"), "{pod}/{container}: {refused}");
    }
    // The granted one may use its node, but not make the next GPU's.
    let other = (minor.parse::<u32>().unwrap() + 1).to_string();
    let refused = team.try_exec("training", "granted", &["/probe", "mknod", "/dev/stolen", major, &other]);
    assert!(!refused.contains("open /dev/stolen: ok") && refused.contains("EPERM"), "{refused}");
}

#[test]
fn deleting_the_pod_frees_the_device_and_leaves_no_file() {
    let team = Team::new(shared(), "freed");
    team.run_with_one_gpu("training", &["devices"]);
    let uid = team.uid_of("training");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    team.delete_pod("training");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
    eventually("the claim is free", || team.devices_of("training").is_empty().then_some(()));
}

#[test]
fn first_available_takes_the_first_that_can_be_had() {
    let team = Team::new(shared(), "first-available");
    let choice = |name: &str, cel: &str| json!({"name": name, "deviceClassName": "gpu.nvidia.com", "selectors": [{"cel": {"expression": cel}}]});
    let wanted = json!({"devices": {"requests": [{"name": "gpu", "firstAvailable": [
        choice("dream", "device.attributes['gpu.nvidia.com'].architecture == 'Rubin'"),
        choice("real", "device.attributes['gpu.nvidia.com'].architecture == 'Hopper'"),
    ]}]}});
    // The container names the request, which the kubelet knows without the part that was chosen.
    let mut main = container("main", &["gpu"], &["devices"]);
    main["resources"]["claims"][0]["request"] = json!("gpu");
    team.apply(&[
        claim("choice", &wanted),
        pod("training", &[json!({"name": "gpu", "resourceClaimName": "choice"})], &[main]),
    ]);
    team.wait_running("training");
    assert_eq!(team.gpus_seen("training", "main").len(), 1);
    let results = team.get("resourceclaim", "choice")["status"]["allocation"]["devices"]["results"].clone();
    assert_eq!(results[0]["request"], "gpu/real");
}

#[test]
fn devices_of_different_roots_do_not_match() {
    let team = Team::new(shared(), "no-such-pair");
    // Each H100 of this node hangs below a root of its own.
    let wanted = json!({"devices": {
        "requests": [request("a", &[]), request("b", &[])],
        "constraints": [{"requests": ["a", "b"], "matchAttribute": "resource.kubernetes.io/pcieRoot"}],
    }});
    let uses = [json!({"name": "pair", "resourceClaimName": "pair"})];
    team.apply(&[claim("pair", &wanted), pod("waiting", &uses, &[container("main", &["pair"], &["devices"])])]);
    team.wait_event("waiting", &["cannot allocate all claims"]);
}

#[test]
fn a_pod_that_asks_for_the_extended_resource_gets_a_gpu() {
    if !has_taints_and_more() {
        return eprintln!("Kubernetes {} has no extended resources by DRA", kubernetes());
    }
    let team = Team::new(shared(), "extended");
    let mut main = container("main", &[], &["devices"]);
    main["resources"] = json!({"limits": {"nvidia.com/gpu": "1"}});
    team.apply(&[pod("classic", &[], &[main])]);
    team.wait_running("classic");
    assert_eq!(team.gpus_seen("classic", "main").len(), 1);
}

#[test]
fn a_config_that_asks_for_what_is_not_offered_is_refused_by_name() {
    let team = Team::new(shared(), "config");
    let mut wanted = one_gpu();
    wanted["devices"]["config"] = json!([{"opaque": {"driver": "gpu.nvidia.com", "parameters": {
        "apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": {"strategy": "TimeSlicing"},
    }}}]);
    let uses = [json!({"name": "gpu", "resourceClaimName": "configured"})];
    let words = ["GpuConfig in the claim", "sharing.strategy TimeSlicing is not offered yet"];
    let pod = pod("refused", &uses, &[container("main", &["gpu"], &["devices"])]);
    match team.try_apply(&[claim("configured", &wanted), pod]) {
        Ok(()) => drop(team.wait_event("refused", &words)),
        // The chart brings the webhook, by which it is not even stored.
        Err(refused) => {
            assert!(by_chart() && words.iter().all(|word| refused.contains(word)), "{refused}");
            return;
        }
    }
    assert!(team.files_of(&team.uid_of("configured")).is_empty());
}

#[test]
fn manifests_written_for_nvidias_driver_work_unchanged() {
    let team = Team::new(shared(), "nvidias");
    team.apply_yaml(include_str!("manifests/nvidia-style.yaml"));
    for pod in ["separate-a", "separate-b", "together", "global-a", "global-b"] {
        team.wait_running(pod);
    }
    assert_ne!(team.gpus_seen("separate-a", "ctr"), team.gpus_seen("separate-b", "ctr"));
    assert_eq!(team.gpus_seen("together", "ctr0"), team.gpus_seen("together", "ctr1"));
    assert_eq!(team.gpus_seen("global-a", "ctr"), team.gpus_seen("global-b", "ctr"));
}

#[test]
fn the_agent_may_do_what_it_needs_and_no_more() {
    let kubeconfig = format!("--kubeconfig={}", cluster::Cluster::AGENT_KUBECONFIG);
    let may = |verb: &str, resource: &str, namespace: &str| {
        let question = ["auth", "can-i", verb, resource, "--namespace", namespace, &kubeconfig];
        // It ends badly when the answer is no.
        let answer = shared().cluster().kubectl(&question).output().unwrap();
        String::from_utf8_lossy(&answer.stdout).trim() == "yes"
    };
    for (verb, resource, namespace, expected) in [
        ("get", "resourceclaims.resource.k8s.io", "default", true),
        ("list", "resourceclaims.resource.k8s.io", "default", false),
        ("watch", "resourceclaims.resource.k8s.io", "default", false),
        ("update", "resourceclaims.resource.k8s.io/status", "default", false),
        ("update", "resourceslices.resource.k8s.io", "", true),
        ("get", "nodes", "", true),
        ("patch", "nodes", "", false),
        ("create", "events.events.k8s.io", "default", true),
        ("patch", "events.events.k8s.io", "default", true),
        ("list", "events.events.k8s.io", "default", false),
        ("create", "events.events.k8s.io", "kube-system", false),
        ("create", "events", "default", false),
        ("get", "secrets", "default", false),
        ("get", "pods", "default", false),
    ] {
        assert_eq!(may(verb, resource, namespace), expected, "{verb} {resource} in {namespace:?}");
    }
}
