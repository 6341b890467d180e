use serde_json::{Value, json};

/// A request for one device of the class `gpu.nvidia.com`, with these CEL expressions.
pub fn request(name: &str, cel: &[&str]) -> Value {
    request_of("gpu.nvidia.com", name, cel)
}

/// A request for one device of a class, with these CEL expressions.
pub fn request_of(class: &str, name: &str, cel: &[&str]) -> Value {
    let selectors: Vec<_> = cel.iter().map(|expression| json!({"cel": {"expression": expression}})).collect();
    json!({"name": name, "exactly": {"deviceClassName": class, "selectors": selectors}})
}

/// The spec of a claim for one GPU.
pub fn one_gpu() -> Value {
    json!({"devices": {"requests": [request("gpu", &[])]}})
}

/// A ResourceClaim.
pub fn claim(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}, "spec": spec})
}

/// A ResourceClaimTemplate.
pub fn template(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate", "metadata": {"name": name}, "spec": {"spec": spec}})
}

/// A container that runs the steps of the probe, which are joined by `--then`, and then sleeps. `claims` are those of
/// the pod's entries that it uses.
pub fn container(name: &str, claims: &[&str], steps: &[&str]) -> Value {
    let mut arguments: Vec<&str> = steps.iter().flat_map(|step| step.split(' ').chain(["--then"])).collect();
    arguments.push("sleep");
    let claims: Vec<_> = claims.iter().map(|claim| json!({"name": claim})).collect();
    json!({"name": name, "image": cluster::IMAGE, "imagePullPolicy": "Never", "args": arguments, "resources": {"claims": claims}})
}

/// A pod. `claims` are entries of `spec.resourceClaims`: a name, and `resourceClaimName` or `resourceClaimTemplateName`.
pub fn pod(name: &str, claims: &[Value], containers: &[Value]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "resourceClaims": claims, "containers": containers},
    })
}
