//! The admission webhook: opaque configs and PartitionPolicies are judged before they are stored, by the very code that
//! judges them later, so that who wrote them is told, and not a pod's events days after.
//!
//! [`Reviewer`] is the judge: a review in, an answer out, no I/O. Around it are a server ([`serve`]) and a keeper of
//! certificates: a CA and a leaf of our own in a Secret that all replicas share, and the CA's certificate in the
//! ValidatingWebhookConfiguration. Whichever replica sees first that something is due does it; the API server lets one win.
//!
//! What is wrong with the certificates, the clock or the API server may make the webhook unreachable, and then its
//! `failurePolicy` holds; it never makes it wrong.

mod bundle;
mod certificates;
mod configs;
mod drivers;
mod keeper;
mod metrics;
mod options;
mod policies;
mod readiness;
mod review;
mod serve;
mod server;
#[cfg(test)]
mod stand_in;
mod tls;
mod verdict;

pub use drivers::{Drivers, Family};
pub use metrics::Metrics;
pub use options::{Flags, Options};
pub use policies::CheckPolicy;
pub use readiness::Readiness;
pub use review::{Answer, Reviewer, Subject, Unreadable};
pub use serve::{ServeError, serve};
pub use verdict::{FieldError, Verdict};
