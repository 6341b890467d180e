//! What each supported version of Kubernetes says of the objects that the chart renders, without a cluster: its own OpenAPI
//! document, read strictly, so that a field that a version does not know is an error. Whatever a test of the chart renders
//! by [`render`] is held against all versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, LazyLock, Mutex};

use cluster::KubernetesVersion;
use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::examples::{folders, manifests};

/// Every version, and what it says.
static VERSIONS: LazyLock<Vec<(KubernetesVersion, Schemas)>> =
    LazyLock::new(|| KubernetesVersion::ALL.map(|version| (version, Schemas::of(version))).into());

/// A version's definitions, and those of them that have been made validators of, by API version and kind.
struct Schemas {
    definitions: Map<String, Value>,
    validators: Mutex<BTreeMap<[String; 2], Option<Arc<Validator>>>>,
}

impl Schemas {
    fn of(version: KubernetesVersion) -> Self {
        let text = fs::read(cluster::openapi(version).unwrap()).unwrap();
        let mut document: Value = serde_json::from_slice(&text).unwrap();
        let mut definitions = document["definitions"].as_object_mut().map(std::mem::take).unwrap();
        for (name, definition) in &mut definitions {
            make_strict(name, definition);
        }
        Self { definitions, validators: Mutex::default() }
    }

    /// What is wrong with an object, in the words of the schema.
    fn complaints(&self, object: &Value) -> Vec<String> {
        let [version, kind] = ["apiVersion", "kind"].map(|field| object[field].as_str().unwrap_or_default());
        let key = [version.to_owned(), kind.to_owned()];
        let mut known = self.validators.lock().unwrap();
        let validator = known.entry(key).or_insert_with(|| self.validator(version, kind).map(Arc::new)).clone();
        drop(known);
        match validator {
            Some(validator) => {
                let told = |error: jsonschema::ValidationError<'_>| format!("{}: {error}", error.instance_path());
                validator.iter_errors(object).map(told).collect()
            }
            None => vec![format!("there is no kind {kind} of {version}")],
        }
    }

    fn validator(&self, version: &str, kind: &str) -> Option<Validator> {
        let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
        let wanted = json!({"group": group, "version": version, "kind": kind});
        let is_it = |definition: &Value| {
            definition["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
        };
        let (name, _) = self.definitions.iter().find(|(_, definition)| is_it(definition))?;
        // No more than it refers to: a validator reads all that it is given.
        let mut needed = BTreeSet::new();
        self.reach(name, &mut needed);
        let definitions: Map<_, _> = needed.iter().map(|name| (name.clone(), self.definitions[name].clone())).collect();
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "allOf": [{"$ref": format!("#/definitions/{name}")}],
            "definitions": definitions,
        });
        Some(jsonschema::validator_for(&schema).unwrap())
    }

    fn reach(&self, name: &str, reached: &mut BTreeSet<String>) {
        if reached.insert(name.to_owned()) {
            references(&self.definitions[name], &mut |name| self.reach(name, reached));
        }
    }
}

/// Calls for each definition that a schema refers to.
fn references(schema: &Value, found: &mut dyn FnMut(&str)) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                found(name.trim_start_matches("#/definitions/"));
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// OpenAPI 2 allows what is not named, and has no words for a field of two types.
fn make_strict(name: &str, definition: &mut Value) {
    match name.rsplit('.').next() {
        Some("IntOrString") => *definition = json!({"type": ["string", "integer"]}),
        Some("Quantity") => *definition = json!({"type": ["string", "number"]}),
        _ if definition["properties"].is_object() => definition["additionalProperties"] = json!(false),
        _ => {}
    }
}

/// The objects of a YAML file.
fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap());
    documents.filter(|object: &Value| !object.is_null()).collect()
}

/// Fails if a version of Kubernetes would not take all of some manifest as it is.
#[track_caller]
fn assert_known(what: &str, yaml: &str) {
    // Kubernetes knows no kinds of Tessera's; a server that has their definitions judges these (`server.rs`).
    let is_theirs =
        |object: &Value| !object["apiVersion"].as_str().is_some_and(|group| group.starts_with("tessera.dev/"));
    let objects: Vec<_> = objects(yaml).into_iter().filter(is_theirs).collect();
    for (object, (version, schemas)) in objects.iter().flat_map(|it| VERSIONS.iter().map(move |of| (it, of))) {
        let complaints = schemas.complaints(object);
        let name = &object["metadata"]["name"];
        assert!(complaints.is_empty(), "{what}, {} {name}, on {version}: {complaints:#?}", object["kind"]);
    }
}

/// What the chart renders with these values, which every version of Kubernetes takes.
#[track_caller]
pub(crate) fn render(settings: &[&str]) -> anyhow::Result<String> {
    let rendered = simulated_node::render(settings)?;
    assert_known(&format!("{settings:?}"), &rendered);
    Ok(rendered)
}

#[test]
fn each_version_knows_all_that_is_in_the_plain_manifests_and_the_examples() {
    for (directory, files) in simulated_node::plain_manifests().unwrap() {
        for (name, text) in files {
            assert_known(&directory.join(name).display().to_string(), &text);
        }
    }
    for path in folders().iter().flat_map(|folder| manifests(folder)) {
        assert_known(&path.display().to_string(), &fs::read_to_string(&path).unwrap());
    }
}

#[test]
fn what_a_version_would_not_take_is_found() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
    let container = |more: Value| {
        let mut container = json!({"name": "a", "image": "b"});
        container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        pod(json!({"containers": [container]}))
    };
    for (object, told) in [
        (container(json!({"resources": {"limits": {"cpu": "1", "memory": 5}}})), ""),
        (container(json!({"livenessProbe": {"httpGet": {"port": "http"}}})), ""),
        (container(json!({"livenessProbe": {"httpGet": {"port": 80}}})), ""),
        (
            container(json!({"livenessProbe": {"httpGet": {"port": [80]}}})),
            "/spec/containers/0/livenessProbe/httpGet/port",
        ),
        (container(json!({"imagePullPolicies": "Never"})), "imagePullPolicies"),
        (container(json!({"env": [{"name": "A", "value": 1}]})), "/spec/containers/0/env/0/value"),
        (container(json!({"env": [{"value": "1"}]})), "\"name\" is a required property"),
        (pod(json!({})), "\"containers\" is a required property"),
        (json!({"apiVersion": "policy/v1beta1", "kind": "PodSecurityPolicy"}), "no kind PodSecurityPolicy"),
        (json!({"apiVersion": "v1", "kind": "Nod", "metadata": {}}), "no kind Nod"),
    ] {
        for (version, schemas) in VERSIONS.iter() {
            let complaints = schemas.complaints(&object).join("; ");
            assert_eq!(complaints.is_empty(), told.is_empty(), "{version}: {complaints}: {object}");
            assert!(complaints.contains(told), "{version}: {complaints}");
        }
    }
    // And each version has a document of its own.
    let rule = |version: &str| {
        let taint = json!({"key": "a", "effect": "NoSchedule"});
        json!({"apiVersion": format!("resource.k8s.io/{version}"), "kind": "DeviceTaintRule", "spec": {"taint": taint}})
    };
    for (api, since) in [("v1beta2", KubernetesVersion::V1_36), ("v1", KubernetesVersion::V1_37)] {
        for (version, schemas) in VERSIONS.iter() {
            assert_eq!(schemas.complaints(&rule(api)).is_empty(), *version >= since, "{api} on {version}");
        }
    }
}
