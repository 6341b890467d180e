//! Answers: objects, and the Status that stands for a failure.

use axum::body::Body;
use axum::http::{Response, StatusCode, header};
use serde_json::{Value, json};

use super::objects::{Key, Refused};

pub(crate) fn object(code: StatusCode, object: &Value) -> Response<Body> {
    let response = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    response.body(Body::from(object.to_string())).unwrap()
}

/// Only the metadata, for a client that asked for no more.
pub(crate) fn metadata(full: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": full["metadata"]})
}

pub(crate) fn success() -> Response<Body> {
    object(StatusCode::OK, &json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}))
}

pub(crate) fn refused(key: &Key, refused: &Refused) -> Response<Body> {
    let named = format!("{} {:?}", key.resource.plural(), key.name);
    match refused {
        Refused::NotFound => failure(404, "NotFound", &format!("{named} not found")),
        Refused::AlreadyExists => failure(409, "AlreadyExists", &format!("{named} already exists")),
        Refused::Conflict(problem) => {
            failure(409, "Conflict", &format!("Operation cannot be fulfilled on {named}: {problem}"))
        }
        Refused::Nameless => {
            failure(400, "BadRequest", "the name of the object was undeterminable: name must be provided")
        }
        Refused::Kept(problem) => failure(409, "Conflict", problem),
    }
}

/// An answer that a fault orders.
pub(crate) fn fault(code: u16) -> Response<Body> {
    let reason = match code {
        403 => "Forbidden",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    };
    failure(code, reason, "ordered by the test")
}

pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Response<Body> {
    object(StatusCode::from_u16(code).unwrap(), &status(code, reason, message))
}

pub(crate) fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
           "code": code, "reason": reason, "message": message})
}
