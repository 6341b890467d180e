//! As much of an API server as the webhook needs: one Secret, one ValidatingWebhookConfiguration, and who was first.

use std::sync::{Arc, Mutex};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use k8s_openapi::ByteString;
use kube::Client;
use serde_json::{Value, json};

use crate::certificates::Data;
use crate::{Drivers, Flags, Options};

/// Clones share it.
#[derive(Clone)]
pub(crate) struct StandIn(Arc<Mutex<Stored>>);

struct Stored {
    secret: Option<Value>,
    configuration: Option<Value>,
    writes: u64,
    /// Called before a Secret is written: what another replica does in between.
    between: Option<Between>,
}

impl StandIn {
    /// As the chart leaves it.
    pub(crate) fn new() -> Self {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"}});
        let hook = |name: &str| json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "clientConfig": {}});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "c", "resourceVersion": "1"}, "webhooks": [hook("a.tessera.dev"), hook("b.tessera.dev")],
        });
        let stored = Stored { secret: Some(secret), configuration: Some(configuration), writes: 1, between: None };
        Self(Arc::new(Mutex::new(stored)))
    }

    pub(crate) fn client(&self) -> Client {
        let router = Router::new().fallback(answer).with_state(self.clone());
        Client::new(router, "default")
    }

    pub(crate) fn options() -> Options {
        let flags = Flags {
            admission_address: Some(([127, 0, 0, 1], 0).into()),
            admission_namespace: "n".to_owned(),
            admission_service: "webhook".to_owned(),
            admission_secret: "s".to_owned(),
            admission_configuration: "c".to_owned(),
        };
        flags.options(Drivers::default(), |_| Vec::new()).unwrap()
    }

    pub(crate) fn data(&self) -> Data {
        let stored = self.0.lock().unwrap();
        serde_json::from_value(stored.secret.as_ref().unwrap()["data"].clone()).unwrap_or_default()
    }

    pub(crate) fn set_data(&self, data: &Data) {
        let mut stored = self.0.lock().unwrap();
        stored.writes += 1;
        let writes = stored.writes.to_string();
        let secret = stored.secret.as_mut().unwrap();
        secret["data"] = json!(data);
        secret["metadata"]["resourceVersion"] = json!(writes);
    }

    pub(crate) fn remove_secret(&self) {
        self.0.lock().unwrap().secret = None;
    }

    pub(crate) fn remove_configuration(&self) {
        self.0.lock().unwrap().configuration = None;
    }

    /// Whom each webhook is told to trust.
    pub(crate) fn bundles(&self) -> Vec<String> {
        let stored = self.0.lock().unwrap();
        let hooks = stored.configuration.as_ref().unwrap()["webhooks"].as_array().unwrap().clone();
        let bundle = |hook: &Value| {
            let bytes = serde_json::from_value::<ByteString>(hook["clientConfig"]["caBundle"].clone());
            bytes.map(|bytes| String::from_utf8(bytes.0).unwrap()).unwrap_or_default()
        };
        hooks.iter().map(bundle).collect()
    }

    pub(crate) fn forget_bundle(&self, hook: usize) {
        self.0.lock().unwrap().configuration.as_mut().unwrap()["webhooks"][hook]["clientConfig"] = json!({});
    }

    pub(crate) fn writes(&self) -> u64 {
        self.0.lock().unwrap().writes
    }

    pub(crate) fn before_the_next_write(&self, what: impl FnOnce(&StandIn) + Send + 'static) {
        self.0.lock().unwrap().between = Some(Box::new(what));
    }
}

type Between = Box<dyn FnOnce(&StandIn) + Send>;

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code.as_u16(), "message": reason});
    (code, Json(body)).into_response()
}

async fn answer(State(stand_in): State<StandIn>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let sent: Value = serde_json::from_slice(&body).unwrap_or_default();
    let between = match parts.method {
        Method::PUT => stand_in.0.lock().unwrap().between.take(),
        _ => None,
    };
    if let Some(between) = between {
        between(&stand_in);
    }
    let mut stored = stand_in.0.lock().unwrap();
    let Stored { secret, configuration, writes, .. } = &mut *stored;
    let kept = match parts.uri.path() {
        "/api/v1/namespaces/n/secrets/s" => secret,
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/c" => configuration,
        // Nobody is told of changes: there is a look every minute all the same.
        _ => return status(StatusCode::FORBIDDEN, "Forbidden"),
    };
    let Some(kept) = kept else { return status(StatusCode::NOT_FOUND, "NotFound") };
    let same = sent["metadata"]["resourceVersion"] == kept["metadata"]["resourceVersion"];
    match parts.method {
        Method::GET => return Json(kept.clone()).into_response(),
        _ if !same => return status(StatusCode::CONFLICT, "Conflict"),
        Method::PUT => *kept = sent,
        _ => {
            for hook in sent["webhooks"].as_array().unwrap() {
                let hooks = kept["webhooks"].as_array_mut().unwrap();
                let known = hooks.iter_mut().find(|known| known["name"] == hook["name"]).unwrap();
                known["clientConfig"]["caBundle"] = hook["clientConfig"]["caBundle"].clone();
            }
        }
    }
    *writes += 1;
    kept["metadata"]["resourceVersion"] = json!(writes.to_string());
    Json(kept.clone()).into_response()
}
