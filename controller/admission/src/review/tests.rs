use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::{FieldError, Verdict};

fn reviewer() -> Reviewer {
    Reviewer { drivers: Drivers::default(), check_policy: |_| Vec::new() }
}

fn group_of(object: &Value) -> &str {
    object["apiVersion"].as_str().unwrap().split_once('/').map_or("", |(group, _)| group)
}

fn review_of(operation: &str, object: &Value, old: Option<&Value>) -> String {
    let version = object["apiVersion"].as_str().unwrap().rsplit('/').next().unwrap();
    let request = json!({
        "uid": "705ab4f5", "name": object["metadata"]["name"], "operation": operation,
        "kind": {"group": group_of(object), "version": version, "kind": object["kind"]},
        "resource": {"group": group_of(object), "version": version, "resource": "things"},
        "userInfo": {"username": "alice"}, "object": object, "oldObject": old, "dryRun": false, "options": null,
    });
    json!({"apiVersion": API_VERSION, "kind": KIND, "request": request}).to_string()
}

fn asked(operation: &str, object: &Value, old: Option<&Value>) -> Verdict {
    reviewer().review(review_of(operation, object, old).as_bytes()).unwrap().verdict
}

fn created(object: &Value) -> Verdict {
    asked("CREATE", object, None)
}

/// A template with these configs, for requests `a` and `b`.
fn template(configs: Value) -> Value {
    let request = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "any"}});
    let devices = json!({"requests": [request("a"), request("b")], "config": configs});
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": "t"},
           "spec": {"spec": {"devices": devices}}})
}

fn claim(configs: Value) -> Value {
    let mut claim = template(configs);
    claim["kind"] = json!("ResourceClaim");
    claim["spec"] = claim["spec"]["spec"].take();
    claim
}

fn class(configs: Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "c"}, "spec": {"config": configs}})
}

fn config(driver: &str, requests: &[&str], parameters: Value) -> Value {
    json!({"requests": requests, "opaque": {"driver": driver, "parameters": parameters}})
}

fn vfio(iommu: Value) -> Value {
    let parameters = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "VfioDeviceConfig", "iommu": iommu});
    config("gpu.nvidia.com", &[], parameters)
}

fn sharing(strategy: &str) -> Value {
    let parameters =
        json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": {"strategy": strategy}});
    config("gpu.nvidia.com", &["a"], parameters)
}

fn tpu(driver: &str, requests: &[&str], level: Value) -> Value {
    let parameters =
        json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": {"level": level}});
    config(driver, requests, parameters)
}

fn told(verdict: &Verdict) -> Vec<String> {
    let errors = verdict.errors.iter().map(|FieldError { field, message }| format!("{field}: {message}"));
    errors.chain(verdict.warnings.iter().map(|text| format!("warning: {text}"))).collect()
}

/// Every object of a manifest.
fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let documents = text.split("\n---").filter(|text| text.lines().any(|line| line.starts_with("kind:")));
    documents.map(|text| serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

fn manifests(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    let below = entries.flat_map(|path| if path.is_dir() { manifests(&path) } else { vec![path] });
    let yaml = |path: &PathBuf| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("values.yaml");
    let mut found: Vec<_> = below.filter(yaml).collect();
    found.sort_unstable();
    found
}

#[test]
fn every_manifest_that_is_known_to_work_is_let_in() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (mut judged, mut warned) = (0, Vec::new());
    for directory in ["deploy/examples", "deploy/manifests", "hack/e2e/tests/manifests"] {
        for path in manifests(&root.join(directory)) {
            for object in objects(&path) {
                let answer = reviewer().review(review_of("CREATE", &object, None).as_bytes()).unwrap();
                assert_eq!(answer.verdict.errors, [], "{}: {object}", path.display());
                judged += usize::from(answer.subject != Subject::Other);
                warned.extend(answer.verdict.warnings);
            }
        }
    }
    assert!(judged > 20, "{judged} objects were judged");
    // The launcher of a virtual machine, whose class has to give it the node's API device.
    assert_eq!(warned.len(), 1, "{warned:#?}");
}

#[test]
fn what_is_refused_is_told_with_its_field_and_all_of_it() {
    let misspelt = || vfio(json!({"backendPolicy": "PreferIommuFd"}));
    let cases = [
        claim(json!([misspelt()])),
        template(json!([misspelt()])),
        class(json!([misspelt()])),
        claim(json!([
            vfio(json!({})),
            config("nic.example.com", &["a"], json!({"any": "thing"})),
            sharing("TimeSlicing")
        ])),
        template(json!([sharing("MPS"), misspelt(), tpu("tpu.google.com", &["b"], json!(7))])),
        claim(json!([config("gpu.nvidia.com", &[], json!({"apiVersion": "v1", "kind": "GpuConfig"}))])),
        claim(json!([config("gpu.nvidia.com", &[], Value::Null)])),
        claim(json!([config("tpu.google.com", &[], json!({"apiVersion": "tpu.resource.google.com/v1alpha1"}))])),
        class(json!([vfio(json!({"enableAPIDevice": "yes"})), vfio(json!({"enableApiDevice": true}))])),
        class(json!([vfio(json!("PreferIommuFD"))])),
    ];
    let texts: Vec<_> = cases.iter().flat_map(|object| told(&created(object))).collect();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn what_will_not_do_as_it_looks_is_let_in_with_a_warning() {
    let cases = [
        claim(json!([vfio(json!({"enableAPIDevice": true}))])),
        template(json!([vfio(json!({})), vfio(json!({"enableAPIDevice": true}))])),
        claim(json!([config("GPU.nvidia.com", &[], json!({"any": "thing"}))])),
        class(json!([tpu("gpu.nvidia.com", &[], json!(1))])),
        claim(json!([tpu("tpu.google.com", &["a"], json!(1)), tpu("tpu.google.com", &["b"], json!(2))])),
    ];
    let verdicts = cases.map(|object| created(&object));
    assert!(verdicts.iter().all(|verdict| verdict.errors.is_empty() && verdict.warnings.len() == 1), "{verdicts:#?}");
    assert!(verdicts.iter().all(|verdict| verdict.warnings[0].chars().count() < 256), "a longer one is cut off");
    insta::assert_snapshot!(verdicts.iter().flat_map(told).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_good_or_not_ours_passes_without_a_word() {
    let anything = || json!({"any": "thing"});
    let mut alternatives =
        claim(json!([tpu("tpu.google.com", &["a"], json!(1)), tpu("tpu.google.com", &["b"], json!(2))]));
    let one = json!({"name": "x", "deviceClassName": "any"});
    alternatives["spec"]["devices"]["requests"][1] = json!({"name": "b", "firstAvailable": [one]});
    for object in [
        claim(json!([])),
        claim(Value::Null),
        class(Value::Null),
        claim(json!([{"requests": ["a"]}])),
        claim(json!([config("gpu.example.com", &[], anything())])),
        // For an admin to say.
        class(json!([vfio(json!({"enableAPIDevice": true}))])),
        claim(json!([tpu("tpu.google.com", &["a"], json!(1)), tpu("tpu.google.com", &["b"], json!(1))])),
        claim(json!([tpu("tpu.google.com", &["a"], json!(1)), tpu("tpu.google.com", &["a"], json!(2))])),
        // Nobody knows yet what is chosen for the second.
        alternatives,
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"config": [vfio(json!([]))]}}),
        json!({"apiVersion": "example.com/v1", "kind": "ResourceClaim", "metadata": {}, "spec": {"devices": 1}}),
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "c"}, "spec": {}}),
    ] {
        assert_eq!(created(&object), Verdict::good(), "{object}");
    }
}

#[test]
fn a_vendors_own_driver_is_not_judged_where_the_family_is_not_served() {
    let drivers = Drivers::new([(crate::Family::Nvidia, "gpu.example.com".parse().unwrap())]);
    let reviewer = Reviewer { drivers, ..reviewer() };
    let refused = |object: &Value| {
        let answer = reviewer.review(review_of("CREATE", object, None).as_bytes()).unwrap();
        !answer.verdict.errors.is_empty()
    };
    let mut object = claim(json!([sharing("MPS"), tpu("tpu.google.com", &["a"], json!(9))]));
    assert!(!refused(&object));
    object["spec"]["devices"]["config"][0]["opaque"]["driver"] = json!("gpu.example.com");
    assert!(refused(&object));
}

#[test]
fn what_is_stored_already_is_never_stuck() {
    let bad = || vfio(json!({"backendPolicy": "Best"}));
    let with = |mut object: Value, at: &str, value: Value| {
        *object.pointer_mut(at).unwrap() = value;
        object
    };
    let labelled = |object: Value| with(object, "/metadata", json!({"name": "x", "labels": {"a": "b"}}));
    let gone =
        |object: Value| with(object, "/metadata", json!({"name": "x", "deletionTimestamp": "2026-11-21T00:00:00Z"}));
    let deep = (0..200).fold(Value::Null, |inside, _| json!([inside]));
    let passes = [
        ("UPDATE", labelled(claim(json!([bad()]))), Some(claim(json!([bad()])))),
        ("UPDATE", labelled(template(json!([bad()]))), Some(template(json!([bad()])))),
        ("UPDATE", gone(class(json!([bad()]))), Some(class(json!([])))),
        // Something else is changed in a class whose config was taken by an earlier version.
        ("UPDATE", class(json!([vfio(json!({})), bad()])), Some(class(json!([bad()])))),
        ("UPDATE", claim(json!([config("gpu.nvidia.com", &[], deep.clone())])), Some(claim(json!([])))),
        ("DELETE", claim(json!([bad()])), Some(claim(json!([bad()])))),
        ("CONNECT", claim(json!([bad()])), None),
    ];
    for (operation, object, old) in passes {
        assert_eq!(asked(operation, &object, old.as_ref()), Verdict::good(), "{operation} {object}");
    }
    let refused = [
        ("UPDATE", class(json!([bad()])), Some(class(json!([])))),
        ("UPDATE", class(json!([bad(), vfio(json!({"backendPolicy": "Other"}))])), Some(class(json!([bad()])))),
        ("UPDATE", class(json!([bad()])), None),
        ("CREATE", claim(json!([config("gpu.nvidia.com", &[], deep)])), None),
    ];
    for (operation, object, old) in refused {
        assert_eq!(asked(operation, &object, old.as_ref()).errors.len(), 1, "{operation} {object}");
    }
}

#[test]
fn policies_are_judged_by_what_else_is_to_be_said_of_them() {
    let policy = |rules: Value| {
        json!({"apiVersion": "tessera.dev/v1alpha1", "kind": "PartitionPolicy", "metadata": {"name": "p"},
               "spec": {"rules": rules}})
    };
    let strict = Reviewer {
        check_policy: |spec| {
            let number = spec.rules.len();
            (number > 1)
                .then(|| FieldError { field: "spec.rules".into(), message: format!("{number}") })
                .into_iter()
                .collect()
        },
        ..reviewer()
    };
    let rule = |vendor: &str| json!({"devices": {"vendor": vendor}, "layout": {"whole": {}}});
    for (operation, object, old, wanted) in [
        ("CREATE", policy(json!([rule("a")])), None, vec![]),
        ("CREATE", policy(json!([rule("a"), rule("b")])), None, vec!["spec.rules: 2"]),
        ("UPDATE", policy(json!([rule("a"), rule("b")])), Some(policy(json!([rule("a"), rule("b")]))), vec![]),
        ("UPDATE", policy(json!([rule("a"), rule("b")])), Some(policy(json!([rule("a")]))), vec!["spec.rules: 2"]),
        (
            "CREATE",
            policy(json!([{"layout": {}}])),
            None,
            vec![
                "spec.rules[0].layout: 0 of whole, dynamic, partitions, shares and domain are set; exactly one must be",
            ],
        ),
    ] {
        let answer = strict.review(review_of(operation, &object, old.as_ref()).as_bytes()).unwrap();
        assert_eq!(
            (told(&answer.verdict), answer.subject),
            (wanted.iter().map(ToString::to_string).collect(), Subject::Policy)
        );
    }
}

#[test]
fn an_answer_is_what_api_servers_and_kubectl_read() {
    let bad =
        claim(json!([sharing("MPS"), tpu("tpu.google.com", &[], json!(9)), vfio(json!({"enableAPIDevice": true}))]));
    let body = |object: &Value| -> Value {
        serde_json::from_slice(&reviewer().review(review_of("CREATE", object, None).as_bytes()).unwrap().body).unwrap()
    };
    insta::assert_json_snapshot!(body(&bad));
    let good = json!({"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": "705ab4f5", "allowed": true}});
    assert_eq!(body(&claim(json!([]))), good);
}

#[test]
fn what_is_no_review_gets_no_answer() {
    let cases = [
        (&b""[..], "the body is not an AdmissionReview"),
        (b"{\"request\": {\"uid\": 1}}", "the body is not an AdmissionReview"),
        (b"\xff", "the body is not an AdmissionReview"),
        (b"{}", "kind \"\" of \"\" is not known; AdmissionReview of admission.k8s.io/v1 is"),
        (
            br#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}"#,
            "kind \"AdmissionReview\" of \"admission.k8s.io/v1beta1\" is not known; AdmissionReview of admission.k8s.io/v1 is",
        ),
        (br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#, "the AdmissionReview has no request"),
        (
            br#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": null}"#,
            "the AdmissionReview has no request",
        ),
    ];
    for (body, wanted) in cases {
        assert_eq!(reviewer().review(body).unwrap_err().to_string(), wanted);
    }
}
