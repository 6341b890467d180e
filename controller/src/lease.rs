//! Who leads, by a Lease of coordination.k8s.io.
//!
//! The object's resourceVersion is the lock: of two that take it at once, one is refused. Clocks of several machines are never
//! compared: a holder is gone when its lease has not changed for as long as it is good, by this replica's own clock.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use crate::client::{CallError, brief, call};

/// What tells apart who wants the same lease.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// How long a holder may be silent. It writes three times as often, and ends itself after two thirds.
    good_for: Duration,
}

/// The lease as this replica holds it.
#[derive(Debug)]
pub(crate) struct Held {
    candidate: Candidate,
    lease: Lease,
    /// When the write began that renewed it last.
    renewed: Instant,
}

/// A lease of somebody else, as it was seen last.
#[derive(Debug)]
struct Seen {
    resource_version: Option<String>,
    since: Instant,
}

/// Why this replica does not lead any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the lease could not be renewed for {} s: {last}", .silent.as_secs())]
    Silent { silent: Duration, last: String },
    #[error("{0} leads now")]
    Taken(String),
}

impl Candidate {
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: String, good_for: Duration) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity, good_for }
    }

    /// Waits until the lease is this replica's. `read` is called when it was read, whoever has it.
    pub(crate) async fn win(self, read: impl Fn()) -> Held {
        let mut seen = None;
        let mut leader = String::new();
        loop {
            let begun = Instant::now();
            match self.try_once(&mut seen).await {
                Ok(Ok(lease)) => {
                    read();
                    info!(identity = self.identity, "leading");
                    return Held { candidate: self, lease, renewed: begun };
                }
                Ok(Err(holder)) => {
                    read();
                    if holder != leader {
                        info!(holder, "another replica leads");
                        leader = holder;
                    }
                }
                Err(error) => debug!(%error, "the lease cannot be had"),
            }
            sleep(self.good_for / 6).await;
        }
    }

    /// Takes the lease if it is free. Else says who has it.
    async fn try_once(&self, seen: &mut Option<Seen>) -> Result<Result<Lease, String>, CallError> {
        let Some(lease) = call(self.api.get_opt(&self.name)).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = self.taken(Lease { metadata, spec: None });
            return call(self.api.create(&PostParams::default(), &lease)).await.map(Ok);
        };
        let holder = holder(&lease).to_owned();
        let version = &lease.metadata.resource_version;
        let since = match seen {
            Some(seen) if seen.resource_version == *version => seen.since,
            _ => seen.insert(Seen { resource_version: version.clone(), since: Instant::now() }).since,
        };
        let spec = lease.spec.as_ref();
        let good_for =
            spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
        let good_for = good_for.map_or(self.good_for, Duration::from_secs);
        if !holder.is_empty() && since.elapsed() < good_for {
            return Ok(Err(holder));
        }
        call(self.api.replace(&self.name, &PostParams::default(), &self.taken(lease))).await.map(Ok)
    }

    /// The lease once this replica has it. With the version that it was read with, if it was.
    fn taken(&self, mut lease: Lease) -> Lease {
        let before = lease.spec.take().unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let again = before.holder_identity.as_ref() == Some(&self.identity);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.good_for.as_secs()).ok(),
            acquire_time: before.acquire_time.filter(|_| again).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!again)),
            ..before
        });
        lease
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

impl Held {
    /// Renews the lease for as long as that succeeds. Who waits for this must end when it does.
    pub(crate) async fn keep(&mut self) -> Lost {
        let good_for = self.candidate.good_for;
        loop {
            sleep(good_for / 3).await;
            let last_moment = self.renewed + good_for * 2 / 3;
            let mut last = "the API server does not answer".to_owned();
            loop {
                match timeout_at(last_moment, self.renew()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(Some(lost))) => return lost,
                    Ok(Err(None)) => sleep(good_for / 30).await,
                    Err(_) => return Lost::Silent { silent: self.renewed.elapsed(), last },
                }
                if Instant::now() >= last_moment {
                    "it was refused again and again".clone_into(&mut last);
                    return Lost::Silent { silent: self.renewed.elapsed(), last };
                }
            }
        }
    }

    /// One try. The error is that it is lost, or nothing if it may succeed yet.
    async fn renew(&mut self) -> Result<(), Option<Lost>> {
        let begun = Instant::now();
        let (api, name) = (&self.candidate.api, &self.candidate.name);
        let lease = self.candidate.taken(self.lease.clone());
        match api.replace(name, &PostParams::default(), &lease).await {
            Ok(stored) => {
                (self.lease, self.renewed) = (stored, begun);
                Ok(())
            }
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => match api.get_opt(name).await {
                // Somebody wrote something else into it, or an answer was lost.
                Ok(Some(lease)) if holder(&lease) == self.candidate.identity => {
                    self.lease = lease;
                    Err(None)
                }
                Ok(Some(lease)) => Err(Some(Lost::Taken(holder(&lease).to_owned()))),
                Ok(None) => Err(Some(Lost::Taken("nobody".to_owned()))),
                Err(_) => Err(None),
            },
            Err(error) => {
                debug!(error = brief(&error), "the lease cannot be renewed yet");
                Err(None)
            }
        }
    }

    /// Gives it up, so that nobody has to wait for its end. For when nothing is written any more.
    pub(crate) async fn release(self) {
        let mut lease = self.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let (api, name) = (&self.candidate.api, &self.candidate.name);
        match call(api.replace(name, &PostParams::default(), &lease)).await {
            Ok(_) => info!("the lease is given up"),
            Err(error) => debug!(%error, "the lease could not be given up; it ends by itself"),
        }
    }
}
