use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::review::Subject;

/// What the webhook counts and times; clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Judged, Counter>,
    duration: Family<About, Histogram, fn() -> Histogram>,
    expiry: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Judged {
    kind: Kind,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct About {
    kind: Kind,
}

/// The kind of the object, as it is written in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    ResourceClaim,
    ResourceClaimTemplate,
    DeviceClass,
    PartitionPolicy,
    Other,
}

impl From<Subject> for Kind {
    fn from(subject: Subject) -> Self {
        match subject {
            Subject::Claim => Self::ResourceClaim,
            Subject::Template => Self::ResourceClaimTemplate,
            Subject::Class => Self::DeviceClass,
            Subject::Policy => Self::PartitionPolicy,
            Subject::Other => Self::Other,
        }
    }
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Allowed,
    Warned,
    Refused,
    /// It was no review.
    Unreadable,
}

impl Default for Metrics {
    fn default() -> Self {
        // Some 20 µs to 80 ms.
        let duration: fn() -> Histogram = || Histogram::new(exponential_buckets(0.00002, 4.0, 7));
        Self { requests: Family::default(), duration: Family::new_with_constructor(duration), expiry: Gauge::default() }
    }
}

impl Metrics {
    /// Adds them to a registry, which has the prefix.
    pub fn register(&self, registry: &mut Registry) {
        let requests = "What the admission webhook was asked, by the kind of the object and what came of it";
        registry.register("admission_requests", requests, self.requests.clone());
        let duration = "How long it took to judge an object";
        registry.register_with_unit("admission_duration", duration, Unit::Seconds, self.duration.clone());
        let expiry =
            "When the certificate expires that the admission webhook serves, as a Unix time; 0 before there is one";
        registry.register_with_unit("admission_certificate_expiry", expiry, Unit::Seconds, self.expiry.clone());
    }

    pub(crate) fn judged(&self, subject: Subject, result: Outcome, took: Duration) {
        let kind = subject.into();
        self.requests.get_or_create(&Judged { kind, result }).inc();
        self.duration.get_or_create(&About { kind }).observe(took.as_secs_f64());
    }

    pub(crate) fn expires(&self, at: SystemTime) {
        self.expiry.set(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
    }
}
