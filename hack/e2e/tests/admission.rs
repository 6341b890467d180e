//! The admission webhook and the policies of the chart, asked by a real API server. The webhook runs in this process, in the
//! cluster's network and as the controller's service account; `--kubernetes 1.34` and the like choose another server.

// Also in what the tests share, which clippy.toml does not reach.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;

use cluster::{Cluster, Identity, Options};
use e2e::eventually;
use serde_json::{Value, json};
use simulated_node::{NAMESPACE, render};
use tessera_admission::{Drivers, FieldError, Flags, serve};
use tokio_util::sync::CancellationToken;

/// Of the node, which is where the API server is too.
const ADDRESS: &str = "10.210.0.1";

/// How the chart says where the webhook is. Behind the service there are pods; this process is none.
const SERVICE: &str = "service:\n        name: tessera-admission\n        namespace: tessera-system\n        path: /validate\n        port: 443\n";

/// Nobody asks the webhook while it is broken on purpose.
static WHOLE: RwLock<()> = RwLock::new(());

/// A cluster with the chart's admission and two replicas of the webhook. It is told where to find the first.
struct Ground {
    cluster: Cluster,
    replicas: [tessera_admission::Options; 2],
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(Ground::up)
}

impl Ground {
    fn up() -> Self {
        let name = format!("admission-{}", std::process::id()).parse().unwrap();
        let old_versions = "--runtime-config=resource.k8s.io/v1beta1=true,resource.k8s.io/v1beta2=true";
        let options = Options {
            version: e2e::kubernetes(),
            apiserver_arguments: vec![old_versions.to_owned()],
            ..Options::new(name)
        };
        let cluster = Cluster::up(&options, &mut |step| eprintln!("{step}")).unwrap();
        cluster.kubectl_output(&["create", "namespace", NAMESPACE]).unwrap();
        let rendered = render(&["admission.webhook.enabled=true", "admission.webhook.failurePolicy=Fail"]).unwrap();
        let ours = |document: &&str| {
            ["/admission-webhook.yaml", "/admission-privileged.yaml", "/device-classes.yaml"]
                .iter()
                .any(|template| document.lines().any(|line| line.starts_with("# Source: ") && line.ends_with(template)))
        };
        let manifests: Vec<_> = rendered.split("\n---\n").filter(ours).collect();
        let manifests = manifests.join("\n---\n");
        assert_eq!(manifests.matches(SERVICE).count(), 2, "{manifests}");
        cluster.apply(&manifests.replace(SERVICE, &format!("url: https://{ADDRESS}:9443/validate\n"))).unwrap();
        let controller = Identity::service_account(NAMESPACE, "tessera-controller");
        cluster.kubeconfig_for("controller", &controller).unwrap();
        let replicas = [9443, 9444].map(|port| start(&cluster, port));
        let ground = Self { cluster, replicas };
        for replica in &ground.replicas {
            eventually("the replica is ready", || replica.readiness.is_ready().then_some(()));
        }
        // The API server reads its configuration again some moments later.
        eventually("the webhook answers", || ground.ask("default", &claim(json!([vfio(json!({}))]))).ok());
        ground
    }

    /// What the API server says of an object that it is not to keep: nothing, or why not.
    fn ask(&self, namespace: &str, object: &Value) -> Result<String, String> {
        self.create(namespace, object, &["--dry-run=server"])
    }

    fn create(&self, namespace: &str, object: &Value, more: &[&str]) -> Result<String, String> {
        // Tests run side by side, in threads.
        let file = format!("{namespace}-{:?}.json", thread::current().id()).replace(['(', ')'], "");
        fs::write(self.cluster.run_directory().join(&file), object.to_string()).unwrap();
        let path = format!("/run/cluster/{file}");
        self.kubectl(&[&["create", "--namespace", namespace, "-f", &path], more].concat())
    }

    /// What kubectl said, warnings among it, or complained of.
    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.cluster.kubectl(arguments).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &complaints)
        } else {
            Err(complaints)
        }
    }

    fn get(&self, what: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[&["get", "-o", "json"], what].concat()).unwrap()).unwrap()
    }

    /// Whom each webhook is to trust, as base64.
    fn bundles(&self) -> Vec<Value> {
        let configuration = self.get(&["validatingwebhookconfiguration", "tessera-admission"]);
        let hooks = configuration["webhooks"].as_array().unwrap();
        hooks.iter().map(|hook| hook["clientConfig"]["caBundle"].clone()).collect()
    }

    fn secret(&self) -> Value {
        self.get(&["secret", "tessera-admission", "--namespace", NAMESPACE])["data"].clone()
    }

    fn patch_secret(&self, patch: &Value) {
        let patch = json!({"data": patch}).to_string();
        self.kubectl(&["patch", "secret", "tessera-admission", "--namespace", NAMESPACE, "--type=merge", "-p", &patch])
            .unwrap();
    }

    /// How often the webhook was asked.
    fn asked(&self) -> u64 {
        let mut registry = prometheus_client::registry::Registry::default();
        self.replicas[0].metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counts = text.lines().filter(|line| line.starts_with("admission_requests_total"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}

fn all_are(bundles: &[Value], authorities: &Value) -> bool {
    !bundles.is_empty() && bundles.iter().all(|bundle| bundle == authorities)
}

/// Starts a replica on a thread that is in the cluster's network, where it stays until this process ends.
fn start(cluster: &Cluster, port: u16) -> tessera_admission::Options {
    let flags = Flags {
        admission_address: Some(format!("{ADDRESS}:{port}").parse().unwrap()),
        admission_namespace: NAMESPACE.to_owned(),
        admission_service: "tessera-admission".to_owned(),
        admission_secret: "tessera-admission".to_owned(),
        admission_configuration: "tessera-admission".to_owned(),
    };
    let mut options = flags.options(Drivers::default(), |_| Vec::<FieldError>::new()).unwrap();
    options.names.push(ADDRESS.to_owned());
    let network = File::open(cluster.node_root().with_file_name("ns/net")).unwrap();
    let kubeconfig = cluster.run_directory().join("config/controller.kubeconfig");
    thread::spawn({
        let options = options.clone();
        move || {
            let kind = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(network.as_fd(), Some(kind)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
                let client = kube::Client::try_from(config).unwrap();
                serve(options, client, CancellationToken::new()).await.unwrap();
            });
        }
    });
    options
}

fn claim(configs: Value) -> Value {
    let request = json!({"name": "a", "exactly": {"deviceClassName": "vfio.gpu.nvidia.com"}});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"generateName": "c-"},
           "spec": {"devices": {"requests": [request], "config": configs}}})
}

fn template(configs: Value) -> Value {
    let mut template = claim(configs);
    template["kind"] = json!("ResourceClaimTemplate");
    template["spec"] = json!({"spec": template["spec"]});
    template
}

fn class(name: &str, configs: Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": name}, "spec": {"config": configs}})
}

fn vfio(iommu: Value) -> Value {
    let parameters = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "VfioDeviceConfig", "iommu": iommu});
    json!({"opaque": {"driver": "gpu.nvidia.com", "parameters": parameters}})
}

fn privileged() -> Value {
    json!([vfio(json!({"enableAPIDevice": true}))])
}

/// The same in an earlier version, whose requests are flat.
fn earlier(mut object: Value, version: &str) -> Value {
    object["apiVersion"] = json!(format!("resource.k8s.io/{version}"));
    if version == "v1beta1" {
        for at in ["/spec/devices/requests/0", "/spec/spec/devices/requests/0"] {
            if let Some(request) = object.pointer_mut(at) {
                *request = json!({"name": "a", "deviceClassName": "vfio.gpu.nvidia.com"});
            }
        }
    }
    object
}

#[test]
fn a_misspelt_config_is_refused_with_a_text_that_names_it() {
    let ground = ground();
    let _whole = WHOLE.read().unwrap_or_else(PoisonError::into_inner);
    let misspelt = || json!([vfio(json!({})), vfio(json!({"backendPolicy": "PreferIommuFd"}))]);
    for version in ["v1", "v1beta2", "v1beta1"] {
        for (object, devices) in [
            (claim(misspelt()), "spec.devices"),
            (template(misspelt()), "spec.spec.devices"),
            (class("c", misspelt()), "spec"),
        ] {
            let refused = ground.ask("default", &earlier(object, version)).unwrap_err();
            let field = format!("{devices}.config[1].opaque.parameters.iommu.backendPolicy: ");
            for text in [&field, "VfioDeviceConfig in the ", "\"PreferIommuFd\"; allowed: LegacyOnly, PreferIommuFD"] {
                assert!(refused.contains(text), "{version}: {text}: {refused}");
            }
        }
    }
    println!("{}", ground.ask("default", &claim(misspelt())).unwrap_err());
    // By whom, in an answer that kubectl does not shorten.
    let raw = ground.ask("default", &claim(json!([{"opaque": {"driver": "tpu.google.com", "parameters": {}}}])));
    assert!(raw.unwrap_err().contains("apiVersion is missing"));
}

#[test]
fn who_has_nothing_of_ours_to_say_is_not_held_up() {
    let ground = ground();
    let _whole = WHOLE.read().unwrap_or_else(PoisonError::into_inner);
    let anything = json!([{"opaque": {"driver": "nic.example.com", "parameters": {"any": "thing"}}}]);
    let before = ground.asked();
    ground.ask("default", &claim(anything)).unwrap();
    ground.ask("default", &claim(json!([]))).unwrap();
    ground.ask("kube-system", &claim(json!([vfio(json!({"backendPolicy": "PreferIommuFd"}))]))).unwrap();
    // Other tests ask meanwhile, so what is counted here is asked of an object that is kept.
    let mut kept = class("kept", json!([vfio(json!({"backendPolicy": "LegacyOnly"}))]));
    ground.create("default", &kept, &[]).unwrap();
    assert!(ground.asked() > before);
    kept["spec"]["config"][0]["opaque"]["parameters"]["iommu"] = json!({"backendPolicy": "Other"});
    let patch = kept["spec"].to_string();
    let change = |patch: &str| ground.kubectl(&["patch", "deviceclass", "kept", "--type=merge", "-p", patch]);
    change(r#"{"metadata": {"labels": {"a": "b"}}}"#).unwrap();
    assert!(change(&format!("{{\"spec\": {patch}}}")).unwrap_err().contains("backendPolicy is \"Other\""));
    ground.kubectl(&["delete", "deviceclass", "kept"]).unwrap();
    // The driver's name in capitals is taken by the API, and by no driver.
    let mut shouted = claim(json!([vfio(json!({}))]));
    shouted["spec"]["devices"]["config"][0]["opaque"]["driver"] = json!("GPU.nvidia.com");
    let said = ground.ask("default", &shouted).unwrap();
    assert!(said.contains("Warning: ") && said.contains("GPU.nvidia.com is not gpu.nvidia.com"), "{said}");
}

/// What a leaf, or a CA, that is due becomes: by what is then missing, since nobody waits for months here.
#[test]
fn rotations_go_unnoticed_and_what_is_edited_is_healed() {
    let ground = ground();
    let whole = WHOLE.read().unwrap_or_else(PoisonError::into_inner);
    let over = AtomicBool::new(false);
    let bad = claim(json!([vfio(json!({"backendPolicy": "PreferIommuFd"}))]));
    let asked = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                let refused = ground.ask("default", &bad).unwrap_err();
                assert!(refused.contains("backendPolicy is \"PreferIommuFd\""), "after {asked} calls: {refused}");
                asked += 1;
            }
            asked
        });
        let changes = scope.spawn(|| {
            let (secret, bundles) = (ground.secret(), ground.bundles());
            assert!(all_are(&bundles, &secret["ca.crt"]), "{bundles:?}");
            ground.patch_secret(&json!({"tls.crt": null}));
            let renewed = eventually("another leaf", || Some(ground.secret()).filter(|it| it["tls.crt"].is_string()));
            assert_ne!(renewed["tls.crt"], secret["tls.crt"]);
            assert_eq!(renewed["ca.crt"], secret["ca.crt"]);

            ground.patch_secret(&json!({"ca.key": null}));
            let both = eventually("another CA beside it", || {
                Some(ground.secret()).filter(|it| it["ca.key"].is_string() && all_are(&ground.bundles(), &it["ca.crt"]))
            });
            assert_ne!(both["ca.crt"], secret["ca.crt"]);
            assert_eq!(both["tls.crt"], renewed["tls.crt"], "the leaf stays until the CA is known");
            // Long enough for API servers and replicas alike.
            thread::sleep(std::time::Duration::from_secs(3));
        });
        let changed = changes.join();
        over.store(true, Ordering::Relaxed);
        let asked = traffic.join().unwrap();
        changed.unwrap();
        asked
    });
    println!("{asked} calls meanwhile");
    assert!(asked > 5, "{asked}");

    drop(whole);

    let _broken = WHOLE.write().unwrap_or_else(PoisonError::into_inner);
    // As an installer that knows nothing of it would.
    let forget = r#"[{"op": "remove", "path": "/webhooks/0/clientConfig/caBundle"}]"#;
    let configuration = ["patch", "validatingwebhookconfiguration", "tessera-admission", "--type=json", "-p", forget];
    ground.kubectl(&configuration).unwrap();
    eventually("the webhook is trusted again", || (ground.bundles()[0] == ground.secret()["ca.crt"]).then_some(()));
    // And somebody who empties the Secret.
    ground.patch_secret(&json!({"ca.crt": null, "ca.key": null, "tls.crt": null, "tls.key": "YQ=="}));
    eventually("all is made anew", || {
        let authority = ground.secret()["ca.crt"].clone();
        (authority.is_string() && all_are(&ground.bundles(), &authority)).then_some(())
    });
    eventually("the webhook answers", || {
        ground.ask("default", &bad).unwrap_err().contains("backendPolicy is").then_some(())
    });
}

#[test]
fn what_gives_away_the_node_is_for_namespaces_with_the_label() {
    let ground = ground();
    let _whole = WHOLE.read().unwrap_or_else(PoisonError::into_inner);
    for namespace in ["tenant", "machines", "almost"] {
        ground.kubectl(&["create", "namespace", namespace]).unwrap();
    }
    ground.kubectl(&["label", "namespace", "machines", "tessera.dev/privileged-configs=true"]).unwrap();
    ground.kubectl(&["label", "namespace", "almost", "tessera.dev/privileged-configs=yes"]).unwrap();
    eventually("the policy is enforced", || ground.ask("tenant", &claim(privileged())).err());
    for version in ["v1", "v1beta2", "v1beta1"] {
        for object in [claim(privileged()), template(privileged())] {
            let object = earlier(object, version);
            for namespace in ["tenant", "almost"] {
                let refused = ground.ask(namespace, &object).unwrap_err();
                let label = "only a namespace with the label tessera.dev/privileged-configs=true may use one";
                assert!(refused.contains(label) && refused.contains(namespace), "{refused}");
            }
            let said = ground.ask("machines", &object).unwrap();
            assert!(said.contains("Warning: ") && said.contains("iommu.enableAPIDevice is true"), "{said}");
        }
    }
    for harmless in [json!({"enableAPIDevice": false}), json!({"backendPolicy": "PreferIommuFD"}), Value::Null] {
        ground.ask("tenant", &claim(json!([vfio(harmless)]))).unwrap();
    }
    // What is no such config at all is for the webhook to name.
    let refused = ground.ask("tenant", &claim(json!([vfio(json!("enableAPIDevice"))]))).unwrap_err();
    assert!(refused.contains("iommu is \"enableAPIDevice\"; allowed: an object"), "{refused}");

    // A class is the admin's, and who names it gets what it gives.
    ground.create("default", &class("launcher", privileged()), &[]).unwrap();
    let naming = |request: Value| {
        let mut object = claim(json!([]));
        object["spec"]["devices"]["requests"] =
            json!([{"name": "b", "exactly": {"deviceClassName": "vfio.gpu.nvidia.com"}}, request]);
        object
    };
    let plain = naming(json!({"name": "a", "exactly": {"deviceClassName": "launcher"}}));
    let one_of =
        naming(json!({"name": "a", "firstAvailable": [{"name": "x", "deviceClassName": "vfio.gpu.nvidia.com"},
                               {"name": "y", "deviceClassName": "launcher"}]}));
    eventually("the policy knows the class", || ground.ask("tenant", &plain).err());
    for object in [plain, one_of] {
        let refused = ground.ask("tenant", &object).unwrap_err();
        assert!(refused.contains("DeviceClass launcher gives away the node's IOMMU"), "{refused}");
        ground.ask("machines", &object).unwrap();
    }
    ground.ask("tenant", &claim(json!([]))).unwrap();
    ground.kubectl(&["delete", "deviceclass", "launcher"]).unwrap();

    // An expression that refers to what is not there is no error to the server when it is stored, but is told then.
    for policy in ["tessera-privileged-configs", "tessera-privileged-classes", "tessera-admission"] {
        eventually("the server's opinion of the policy", || {
            let policy = ground.get(&["validatingadmissionpolicy", policy]);
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            assert!(warnings.is_null(), "{warnings:#}");
            (policy["status"]["observedGeneration"] == policy["metadata"]["generation"]).then_some(())
        });
    }
}

#[test]
fn the_controller_writes_of_webhooks_whom_to_trust_and_nothing_else() {
    let ground = ground();
    let _whole = WHOLE.read().unwrap_or_else(PoisonError::into_inner);
    let as_controller = "--kubeconfig=/run/cluster/config/controller.kubeconfig";
    let patch = |name: &str, patch: &str| {
        let arguments =
            ["patch", "validatingwebhookconfiguration", name, "--type=json", "-p", patch, "--dry-run=server"];
        ground.kubectl(&[&arguments[..], &[as_controller]].concat())
    };
    let everything = r#"[{"op": "add", "path": "/webhooks/0/rules/0/resources/-", "value": "deviceclasses/status"}]"#;
    let elsewhere = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": "https://10.0.0.1/"}]"#;
    let trust = r#"[{"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]"#;
    eventually("the policy is enforced", || patch("tessera-admission", everything).err());
    for change in [everything, elsewhere] {
        let refused = patch("tessera-admission", change).unwrap_err();
        assert!(refused.contains("writes nothing of a webhook but whom to trust"), "{refused}");
    }
    patch("tessera-admission", trust).unwrap();
    for forbidden in [
        &["get", "validatingwebhookconfigurations"][..],
        &["get", "secrets", "--namespace", NAMESPACE],
        &["get", "secret", "another", "--namespace", NAMESPACE],
        &["delete", "secret", "tessera-admission", "--namespace", NAMESPACE],
        &["delete", "validatingwebhookconfiguration", "tessera-admission"],
        &["create", "secret", "generic", "mine", "--namespace", NAMESPACE],
    ] {
        let refused = ground.kubectl(&[forbidden, &[as_controller]].concat()).unwrap_err();
        assert!(refused.contains("orbidden"), "{forbidden:?}: {refused}");
    }
}
