//! From HTTP to the stored objects.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use axum::routing::any;
use serde_json::{Value, json};

use super::objects::Key;
use super::selector::Selector;
use super::{Fault, Resource, Shared, answer, watch};
use crate::kubelet::api::USER_AGENT;

/// The content type of a patch that is to be applied.
const APPLY: &str = "application/apply-patch+yaml";

/// Query parameters, the few that matter.
type Parameters = Query<std::collections::HashMap<String, String>>;

pub(crate) fn router(shared: Shared) -> Router {
    let group = "/apis/resource.k8s.io/v1";
    Router::new()
        .route("/api/v1/nodes", collection(Resource::Nodes))
        .route("/api/v1/nodes/{name}", named(Resource::Nodes))
        .route(&format!("{group}/resourceslices"), collection(Resource::Slices))
        .route(&format!("{group}/resourceslices/{{name}}"), named(Resource::Slices))
        .route(&format!("{group}/namespaces/{{namespace}}/resourceclaims"), collection(Resource::Claims))
        .route(&format!("{group}/namespaces/{{namespace}}/resourceclaims/{{name}}"), named(Resource::Claims))
        .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events", collection(Resource::Events))
        .route("/apis/events.k8s.io/v1/namespaces/{namespace}/events/{name}", named(Resource::Events))
        .route(
            "/apis/nfd.k8s-sigs.io/v1alpha1/namespaces/{namespace}/nodefeatures/{name}",
            named(Resource::NodeFeatures),
        )
        .route("/apis/tessera.dev/v1alpha1/nodelayouts", collection(Resource::NodeLayouts))
        .route("/apis/tessera.dev/v1alpha1/nodelayouts/{name}", named(Resource::NodeLayouts))
        .route("/apis/tessera.dev/v1alpha1/nodelayouts/{name}/{subresource}", named(Resource::NodeLayouts))
        .route(&format!("{group}/deviceclasses"), collection(Resource::Classes))
        .route(&format!("{group}/deviceclasses/{{name}}"), named(Resource::Classes))
        .route("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", collection(Resource::Leases))
        .route("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}", named(Resource::Leases))
        .route("/apis/tessera.dev/v1alpha1/partitionpolicies", collection(Resource::Policies))
        .route("/apis/tessera.dev/v1alpha1/partitionpolicies/{name}", named(Resource::Policies))
        .route("/apis/tessera.dev/v1alpha1/partitionpolicies/{name}/status", named(Resource::Policies))
        .with_state(shared)
}

fn named(resource: Resource) -> axum::routing::MethodRouter<Shared> {
    any(
        move |State(shared): State<Shared>,
              Path(path): Path<Vec<(String, String)>>,
              Query(query): Parameters,
              request: Request<Body>| async move {
            let part =
                |wanted: &str| path.iter().find(|(part, _)| part == wanted).map_or("", |(_, value)| value.as_str());
            let is_status = part("subresource") == "status";
            one(shared, Key::new(resource, part("namespace"), part("name")), is_status, query, request).await
        },
    )
}

fn collection(resource: Resource) -> axum::routing::MethodRouter<Shared> {
    any(
        move |State(shared): State<Shared>,
              Path(path): Path<Vec<(String, String)>>,
              Query(query): Parameters,
              request: Request<Body>| async move {
            let namespace = path.into_iter().find(|(part, _)| part == "namespace").map(|(_, value)| value);
            all(shared, resource, namespace, query, request).await
        },
    )
}

/// A request about one object.
async fn one(
    shared: Shared,
    key: Key,
    is_status: bool,
    query: std::collections::HashMap<String, String>,
    request: Request<Body>,
) -> Response<Body> {
    let verb = match *request.method() {
        Method::GET => "get",
        Method::PUT => "update",
        Method::DELETE => "delete",
        Method::PATCH => "patch",
        _ => return answer::failure(405, "MethodNotAllowed", "not served here"),
    };
    if let Some(answer) = admit(&shared, request.headers(), verb, key.resource).await {
        return answer;
    }
    let only_metadata = wants_metadata(request.headers());
    let applies = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == APPLY);
    let body = body(request).await;
    if shared.state().faults.refuses(&body) {
        return answer::failure(422, "Invalid", "ordered by the test");
    }
    let result = match verb {
        "get" => {
            let found = shared.state().objects.get(&key).cloned();
            found
                .map(|object| if only_metadata { answer::metadata(&object) } else { object })
                .ok_or(super::objects::Refused::NotFound)
        }
        "update" => shared.write(|state| state.objects.replace(key.clone(), body)),
        "patch" if applies => {
            let parameter = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
            let (manager, force) = (parameter("fieldManager"), parameter("force") == "true");
            shared.write(|state| state.objects.apply(key.clone(), body, manager, force))
        }
        "patch" if is_status => shared.write(|state| state.objects.patch_status(key.clone(), &body)),
        "patch" if key.resource != Resource::Events => shared.write(|state| state.objects.merge(key.clone(), &body)),
        // These are patched with whole objects.
        "patch" => Ok(shared.write(|state| state.objects.put(key.resource, body))),
        _ => match shared.write(|state| state.objects.delete_if(&key, &body["preconditions"])) {
            Ok(()) => return answer::success(),
            Err(refused) => Err(refused),
        },
    };
    match result {
        Ok(object) => answer::object(StatusCode::OK, &object),
        Err(refused) => answer::refused(&key, &refused),
    }
}

/// A request about a collection.
async fn all(
    shared: Shared,
    resource: Resource,
    namespace: Option<String>,
    query: std::collections::HashMap<String, String>,
    request: Request<Body>,
) -> Response<Body> {
    let parameter = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let verb = match *request.method() {
        Method::GET if parameter("watch") == "true" => "watch",
        Method::GET => "list",
        Method::POST => "create",
        Method::DELETE => "deletecollection",
        _ => return answer::failure(405, "MethodNotAllowed", "not served here"),
    };
    if let Some(answer) = admit(&shared, request.headers(), verb, resource).await {
        return answer;
    }
    let Some(selector) = Selector::parse(parameter("fieldSelector")) else {
        return answer::failure(400, "BadRequest", "a field selector that is not known");
    };
    match verb {
        "create" => {
            let mut object = body(request).await;
            // A namespace that only the URL names.
            if let Some(namespace) = namespace.filter(|_| object["metadata"]["namespace"].is_null()) {
                object["metadata"]["namespace"] = json!(namespace);
            }
            if shared.state().faults.refuses(&object) {
                return answer::failure(422, "Invalid", "ordered by the test");
            }
            let key = Key::of(resource, &object);
            let answer = match parameter("dryRun") {
                "All" => shared.state().objects.would_create(resource, object),
                _ => shared.write(|state| state.objects.create(resource, object)),
            };
            match answer {
                Ok(object) => answer::object(StatusCode::CREATED, &object),
                Err(refused) => answer::refused(&key, &refused),
            }
        }
        "deletecollection" => {
            shared.write(|state| {
                let selected = state.objects.list(resource).into_iter().filter(|object| selector.matches(object));
                for object in selected {
                    state.objects.delete(&Key::of(resource, &object));
                }
            });
            answer::success()
        }
        "list" => {
            let state = shared.state();
            let (api_version, kind) = resource.list_kind();
            let items: Vec<Value> =
                state.objects.list(resource).into_iter().filter(|object| selector.matches(object)).collect();
            let metadata = json!({"resourceVersion": state.objects.revision().to_string()});
            answer::object(
                StatusCode::OK,
                &json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}),
            )
        }
        _ => {
            let timeout = Duration::from_secs(parameter("timeoutSeconds").parse().unwrap_or(300));
            let from = parameter("resourceVersion").parse().unwrap_or(0);
            watch::response(shared, watch::Watch { resource, selector, from, timeout })
        }
    }
}

/// Counts a request and does to it what the test ordered.
async fn admit(shared: &Shared, headers: &HeaderMap, verb: &str, resource: Resource) -> Option<Response<Body>> {
    if headers.get(header::USER_AGENT).is_some_and(|agent| agent == USER_AGENT) {
        // The stand-in kubelet's: faults and counts are about the agent.
        return None;
    }
    let (fault, mut released) = {
        let mut state = shared.state();
        state.requests.count(verb, resource);
        // From now on, since the test may end the faults right after this one was taken.
        (state.faults.next(verb, resource), shared.released.subscribe())
    };
    match fault? {
        Fault::Status(code) => Some(answer::fault(code)),
        Fault::Held => {
            // Fails only when the server ends, and this with it.
            let _ = released.changed().await;
            None
        }
        Fault::Silent => std::future::pending().await,
    }
}

fn wants_metadata(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("as=PartialObjectMetadata;"))
}

async fn body(request: Request<Body>) -> Value {
    let bytes = to_bytes(request.into_body(), 8 << 20).await.unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
