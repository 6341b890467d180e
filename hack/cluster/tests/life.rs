//! What a cluster does while it lives. Needs root.

mod support;

use std::fs;
use std::time::Duration;

use cluster::{Bind, Cluster, Identity, Options, Signal};
use support::{Traces, eventually, pod, run_pod, unique_name, up};

/// What a test waits for that takes a second when the machine is idle.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_pod_runs_survives_the_kubelet_and_leaves_nothing() {
    let cluster = up(&unique_name("pod"));
    let traces = Traces::of(&cluster);

    run_pod(&cluster, "one", &["echo", "hello", "--then", "mknod", "/dev/forbidden", "4", "40", "--then", "sleep"]);
    let log = cluster.kubectl_output(&["logs", "one"]).unwrap();
    assert_eq!(log, "hello\nmknod /dev/forbidden: ok\nopen /dev/forbidden: EPERM\n", "the device cgroup must refuse");
    let executed = cluster.kubectl_output(&["exec", "one", "--", "/probe", "echo", "from inside"]).unwrap();
    assert_eq!(executed, "from inside\n");

    cluster.apply(&pod("failing", &["open", "/dev/nothing", "--then", "exit", "3"])).unwrap();
    let failed = "--for=jsonpath={.status.containerStatuses[0].state.terminated.exitCode}=3";
    cluster.kubectl_output(&["wait", failed, "pod/failing", "--timeout=60s"]).unwrap();

    let container = ["get", "pod", "one", "-o=jsonpath={.status.containerStatuses[0].containerID}"];
    let before = cluster.kubectl_output(&container).unwrap();
    let kubelet = cluster.service_pid("kubelet").unwrap();
    cluster.kill_kubelet().unwrap();
    assert!(!cluster.service_running("kubelet").unwrap());
    cluster.restart_kubelet().unwrap();
    assert_ne!(cluster.service_pid("kubelet").unwrap(), kubelet);
    // A pod that is made after the restart shows that the new kubelet has taken over.
    run_pod(&cluster, "two", &["sleep"]);
    assert_eq!(cluster.kubectl_output(&container).unwrap(), before);
    cluster.kubectl_output(&["exec", "one", "--", "/probe", "env"]).unwrap();

    let status = cluster.status().unwrap();
    assert!(status.node_ready);
    let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    let wanted = ["containerd", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
    assert_eq!(names, wanted);
    assert!(status.services.iter().all(|service| service.pid.is_some() && service.ended.is_none()));

    cluster.down().unwrap();
    traces.assert_gone_within(Duration::ZERO);
}

#[test]
fn services_users_and_host_directories() {
    let shared = tempfile::tempdir().unwrap();
    fs::write(shared.path().join("file"), "from the host").unwrap();
    let name = unique_name("room");
    let mut options = Options::new(name.clone());
    options.binds = vec![
        Bind { source: shared.path().into(), target: "/run/given/directory".into() },
        Bind { source: shared.path().join("file"), target: "/var/lib/given-file".into() },
    ];
    // Off by default, and known to every component: one that did not get it, or did not know it, would show.
    options.feature_gates.insert("DRAResourcePoolStatus".to_owned(), true);
    options.apiserver_arguments.push("--runtime-config=resource.k8s.io/v1alpha3=true".to_owned());
    let cluster = Cluster::up(&options, &mut |_| {}).unwrap();
    let node = cluster.node_root();

    assert_eq!(fs::read_to_string(node.join("var/lib/given-file")).unwrap(), "from the host");
    fs::write(node.join("run/given/directory/answer"), "from the node").unwrap();
    assert_eq!(fs::read_to_string(shared.path().join("answer")).unwrap(), "from the node");
    for own in ["dev", "etc/cdi", "run/cdi", "var/lib", "var/log"] {
        let file = format!("{own}/of-{name}");
        fs::write(node.join(&file), "").unwrap();
        assert!(!fs::exists(format!("/{file}")).unwrap(), "/{file} appeared on the host");
    }
    assert!(fs::write(node.join("usr/of-a-node"), "").is_err(), "the rest of the host must be read-only");

    let features = cluster.kubectl_output(&["get", "--raw=/metrics"]).unwrap();
    let on = |line: &str| {
        line.contains("kubernetes_feature_enabled") && line.contains("DRAResourcePoolStatus") && line.ends_with(" 1")
    };
    assert!(features.lines().any(on));
    let groups = cluster.kubectl_output(&["api-versions"]).unwrap();
    assert!(groups.lines().any(|group| group == "resource.k8s.io/v1alpha3"), "{groups}");

    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let environment = [("GREETING".to_owned(), "good day".to_owned())];
    let script = "echo $GREETING; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done";
    cluster.start_service("greeter", &owned(&["/bin/sh", "-c", script]), &environment).unwrap();
    let log = || fs::read_to_string(cluster.service_log("greeter")).unwrap();
    eventually("the service speaks", PATIENCE, || log() == "good day\n");
    let again = cluster.start_service("greeter", &owned(&["/bin/true"]), &[]).unwrap_err();
    assert!(again.to_string().contains("running already"), "{again}");
    assert_eq!(cluster.stop_service("greeter", Signal::TERM, PATIENCE).unwrap(), "exit status 7");
    assert_eq!(log(), "good day\nbye\n");

    cluster
        .start_service("deaf", &owned(&["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"]), &[])
        .unwrap();
    let log = || fs::read_to_string(cluster.service_log("deaf")).unwrap();
    eventually("the shell has become deaf", PATIENCE, || log() == "deaf\n");
    let ended = cluster.stop_service("deaf", Signal::TERM, Duration::from_millis(300)).unwrap();
    assert_eq!(ended, "signal 9");
    assert!(cluster.start_service("absent", &owned(&["/no/such/program"]), &[]).is_err());

    let who = |kubeconfig: &str| {
        let argument = format!("--kubeconfig={kubeconfig}");
        cluster.kubectl_output(&["auth", "whoami", "-o=json", &argument]).unwrap()
    };
    assert!(who(Cluster::AGENT_KUBECONFIG).contains(cluster::AGENT_USER));
    let identity = Identity::service_account("default", "somebody").on_node(cluster.node_name());
    let somebody = who(cluster.kubeconfig_for("somebody", &identity).unwrap().to_str().unwrap());
    assert!(somebody.contains("system:serviceaccount:default:somebody"), "{somebody}");
    assert!(somebody.contains("authentication.kubernetes.io/node-name"), "{somebody}");

    let refused = cluster.kubectl_output(&["get", "nonsense"]).unwrap_err().to_string();
    assert!(refused.contains("nonsense"), "{refused}");
    cluster.down().unwrap();
}

#[test]
fn two_clusters_side_by_side_know_nothing_of_each_other() {
    let (one, two) = (up(&unique_name("left")), up(&unique_name("right")));
    let (traces_of_one, traces_of_two) = (Traces::of(&one), Traces::of(&two));
    let names = Cluster::list().unwrap();
    assert!(names.contains(one.name()) && names.contains(two.name()), "{names:?}");

    run_pod(&one, "only-left", &["sleep"]);
    run_pod(&two, "only-right", &["sleep"]);
    assert_eq!(two.kubectl_output(&["get", "pods", "-o=name"]).unwrap(), "pod/only-right\n");
    one.down().unwrap();
    traces_of_one.assert_gone_within(Duration::ZERO);
    two.kubectl_output(&["exec", "only-right", "--", "/probe", "env"]).unwrap();

    let twin = Cluster::up(&Options::new(two.name().clone()), &mut |_| {}).unwrap_err();
    assert!(format!("{twin:#}").contains("is already up"), "{twin:#}");
    assert!(two.status().unwrap().node_ready, "the refused twin must not harm the first");
    drop(two);
    traces_of_two.assert_gone_within(Duration::ZERO);
}
