//! A review in, an answer out: the webhook's side of `admission.k8s.io/v1`, which k8s-openapi does not have.

use k8s_openapi::api::resource::v1::{DeviceClassSpec, ResourceClaimSpec, ResourceClaimTemplateSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tessera_policy::PartitionPolicySpec;

use crate::configs;
use crate::drivers::Drivers;
use crate::policies::{self, CheckPolicy};
use crate::verdict::Verdict;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// Judges what the API server asks about.
#[derive(Clone, Debug)]
pub struct Reviewer {
    /// Whose configs are ours to judge.
    pub drivers: Drivers,
    /// What else is to be said of policies.
    pub check_policy: CheckPolicy,
}

/// What is to be answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it was about.
    pub subject: Subject,
    /// What was made of it.
    pub verdict: Verdict,
    /// An AdmissionReview, as JSON.
    pub body: Vec<u8>,
}

/// What a review is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A ResourceClaim.
    Claim,
    /// A ResourceClaimTemplate.
    Template,
    /// A DeviceClass.
    Class,
    /// A PartitionPolicy.
    Policy,
    /// Nothing that is judged here.
    Other,
}

impl Subject {
    /// In whichever version: `config` is the same in all of them, and the API server converts to the version that the
    /// webhook's rules have.
    fn of(kind: &Kind) -> Self {
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("resource.k8s.io", "ResourceClaim") => Self::Claim,
            ("resource.k8s.io", "ResourceClaimTemplate") => Self::Template,
            ("resource.k8s.io", "DeviceClass") => Self::Class,
            (tessera_policy::GROUP, "PartitionPolicy") => Self::Policy,
            _ => Self::Other,
        }
    }
}

/// Why there is no answer to give: it is no review that we know, so not even its UID is known.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not a review in JSON.
    #[error("the body is not an AdmissionReview")]
    Json(#[source] serde_json::Error),
    /// It is a review of a version that did not exist when this was written, or no review.
    #[error("kind {kind:?} of {api_version:?} is not known; {KIND} of {API_VERSION} is")]
    Version {
        /// As the body has it.
        api_version: String,
        /// As the body has it.
        kind: String,
    },
    /// It asks for nothing.
    #[error("the AdmissionReview has no request")]
    NoRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// Objects are kept as text: what cannot be read of one can still be answered.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: String,
    kind: Kind,
    name: Option<String>,
    operation: String,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow)]
    old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    kind: String,
}

#[derive(Deserialize)]
struct Object<S> {
    #[serde(default)]
    metadata: Metadata,
    spec: S,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

impl Reviewer {
    /// Answers a review.
    ///
    /// # Errors
    /// What is no review of `admission.k8s.io/v1`.
    pub fn review(&self, body: &[u8]) -> Result<Answer, Unreadable> {
        let Review { api_version, kind, request } = serde_json::from_slice(body).map_err(Unreadable::Json)?;
        if api_version != API_VERSION || kind != KIND {
            return Err(Unreadable::Version { api_version, kind });
        }
        let request = request.ok_or(Unreadable::NoRequest)?;
        let subject = Subject::of(&request.kind);
        let verdict = self.judge(subject, &request);
        let body = answer(&request, &verdict).to_string().into_bytes();
        Ok(Answer { subject, verdict, body })
    }

    fn judge(&self, subject: Subject, request: &Request<'_>) -> Verdict {
        let drivers = &self.drivers;
        match subject {
            Subject::Claim => request.changed(|spec: &ResourceClaimSpec, _| {
                let devices = spec.devices.as_ref();
                devices.map_or_else(Verdict::good, |devices| configs::of_claim(drivers, "spec.devices", devices))
            }),
            Subject::Template => request.changed(|spec: &ResourceClaimTemplateSpec, _| {
                let devices = spec.spec.as_ref().and_then(|spec| spec.devices.as_ref());
                devices.map_or_else(Verdict::good, |devices| configs::of_claim(drivers, "spec.spec.devices", devices))
            }),
            Subject::Class => request.changed(|spec: &DeviceClassSpec, old| configs::of_class(drivers, spec, old)),
            Subject::Policy => {
                request.changed(|spec: &PartitionPolicySpec, _| policies::of_policy(spec, self.check_policy))
            }
            Subject::Other => Verdict::good(),
        }
    }
}

impl Request<'_> {
    /// Judges what an object says now and did not say before. What is being deleted, or was stored as it is, is let pass:
    /// whatever it says, nobody could take the finalizers off it else.
    fn changed<S: DeserializeOwned + PartialEq>(&self, judge: impl Fn(&S, Option<&S>) -> Verdict) -> Verdict {
        let (Some(object), "CREATE" | "UPDATE") = (self.object, self.operation.as_str()) else {
            return Verdict::good();
        };
        let new: Object<S> = match serde_json::from_str(object.get()) {
            Ok(new) => new,
            // It is deeper than is read here, or the API has changed. What is stored already must not be stuck.
            Err(_) if self.operation == "UPDATE" => return Verdict::good(),
            Err(error) => {
                let mut verdict = Verdict::good();
                verdict.refuse("spec", format_args!("cannot be read: {error}"));
                return verdict;
            }
        };
        let old = self.old_object.and_then(|old| serde_json::from_str::<Object<S>>(old.get()).ok());
        if new.metadata.deletion_timestamp.is_some() || old.as_ref().is_some_and(|old| old.spec == new.spec) {
            return Verdict::good();
        }
        judge(&new.spec, old.as_ref().map(|old| &old.spec))
    }
}

fn answer(request: &Request<'_>, verdict: &Verdict) -> Value {
    let mut response = json!({"uid": request.uid, "allowed": verdict.errors.is_empty()});
    if !verdict.warnings.is_empty() {
        response["warnings"] = json!(verdict.warnings);
    }
    if !verdict.errors.is_empty() {
        let lines: Vec<_> = verdict.errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
        let cause = |error: &crate::FieldError| json!({"reason": "FieldValueInvalid", "field": error.field, "message": error.message});
        response["status"] = json!({
            "status": "Failure",
            "reason": "Invalid",
            "code": 422,
            "message": lines.join("; "),
            // kubectl shows these instead, a line for each.
            "details": {
                "name": request.name,
                "group": request.kind.group,
                "kind": request.kind.kind,
                "causes": verdict.errors.iter().map(cause).collect::<Vec<_>>(),
            },
        });
    }
    json!({"apiVersion": API_VERSION, "kind": KIND, "response": response})
}

#[cfg(test)]
mod tests;
