//! The publisher: keeps the API server's slices as they should be. Kubelets delete them when they start and when the
//! agent was away, people delete them by accident, and the hardware changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tessera_core::{
    Features, Layouts, NodeIdentity, Pool, Seen, Slices, Write, dropped_features, pool_name, reconcile,
};
use tessera_vocabulary::DriverName;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api;
use crate::bucket::Bucket;
use crate::cli::Apis;
use crate::hardware::Observed;
use crate::ledger::SharedLedger;
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::precedence::Precedence;

/// How long after a failure the next try comes; doubled with each further failure.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// A server that does not even answer is asked more often: after an outage the slices should be right within five
/// seconds, and a watch that comes back without news wakes nobody. The jitter at most doubles this.
const LAST_RECONNECT: Duration = Duration::from_secs(2);
/// A watch whose connection died silently is noticed after this many seconds and five more.
const WATCH_TIMEOUT: u32 = 60;
/// A call that takes longer is given up and made again: the client itself would wait for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// So many writes pass at once, and then one each interval.
const BURST: u32 = 20;
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// What was published is compared with what should be this often even if nothing was heard. Costs no call.
const CHECK: Duration = Duration::from_secs(5);

/// Publishes the slices of one driver on one node.
pub(crate) struct Publisher {
    pub(crate) driver: DriverName,
    pub(crate) node: String,
    pub(crate) client: Client,
    pub(crate) observed: Observed,
    pub(crate) ledger: Arc<SharedLedger>,
    pub(crate) precedence: Precedence,
    /// Of what another API offers nothing is published but what claims hold.
    pub(crate) apis: Apis,
    /// Whether it is known what devices are to be offered as: before, nothing is published that might not be meant.
    pub(crate) layouts_known: watch::Receiver<bool>,
    /// Told what was published of layouts, once it is.
    pub(crate) layouts: watch::Sender<Option<Published>>,
    pub(crate) metrics: Metrics,
    pub(crate) notices: Notices,
}

/// What is known of the API server.
struct Known {
    node: Option<NodeIdentity>,
    features: Features,
    /// The slices by name, as last seen; `None` until the first list.
    slices: Option<BTreeMap<String, Seen>>,
    /// A list that is being received.
    listing: BTreeMap<String, Seen>,
    /// Writes that may be made.
    writes: Bucket,
    /// Why the server refused the slices at the last try.
    refused: Option<String>,
}

/// Why nothing could be published. Tried again in any case.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("node {name} cannot be read: {}", api::brief(source))]
    Node { name: String, source: kube::Error },
    #[error("slice {name} cannot be written: {}", api::brief(source))]
    Write { name: String, source: kube::Error },
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
}

impl PublishError {
    /// Whether the server said no, rather than nothing.
    fn is_answer(&self) -> bool {
        matches!(self, Self::Node { source: kube::Error::Api(_), .. } | Self::Write { source: kube::Error::Api(_), .. })
    }

    /// What the server has against a slice: no conflict with another writer and no lack of time, but its content or its
    /// writer.
    fn refusal(&self) -> Option<String> {
        match self {
            Self::Write { source: source @ kube::Error::Api(status), .. }
                if (400..500).contains(&status.code) && ![404, 408, 409, 429].contains(&status.code) =>
            {
                Some(api::brief(source))
            }
            _ => None,
        }
    }
}

impl Publisher {
    /// Publishes until stopped; `published` tells whether the slices are as they should be.
    pub(crate) async fn run(self, published: watch::Sender<bool>, stop: CancellationToken) {
        let api: Api<ResourceSlice> = Api::all(self.client.clone());
        let mut known = Known {
            node: None,
            features: Features::default(),
            slices: None,
            listing: BTreeMap::new(),
            writes: Bucket::new(BURST, BETWEEN_WRITES),
            refused: None,
        };
        let ours = watcher::Config::default()
            .fields(&format!("spec.nodeName={},spec.driver={}", self.node, self.driver))
            .timeout(WATCH_TIMEOUT);
        let mut events =
            watcher(api.clone(), ours).backoff(watcher::ExponentialBackoff::from(pauses(LAST_RECONNECT))).boxed();
        let (mut observed, mut lent) = (self.observed.clone(), self.ledger.lent());
        let mut layouts_known = self.layouts_known.clone();
        let (mut retries, mut reconnects) = (pauses(LAST_RETRY).build(), pauses(LAST_RECONNECT).build());
        let mut stale_since: Option<Instant> = None;
        loop {
            // A call that hangs must not hold up the end.
            let result = tokio::select! {
                () = stop.cancelled() => return,
                result = self.publish(&api, &mut known) => result,
            };
            let pause = match result {
                Ok(Progress::Waiting) => CHECK,
                Ok(Progress::Yielded) => {
                    stale_since = None;
                    CHECK
                }
                Ok(Progress::Done(now)) => {
                    self.precedence.announce();
                    self.layouts.send_if_modified(|published| {
                        let changed = published.as_ref() != Some(&now);
                        *published = Some(now);
                        changed
                    });
                    known.refused = None;
                    if !published.send_replace(true) {
                        info!(driver = %self.driver, "the slices are published");
                    }
                    stale_since = None;
                    (retries, reconnects) = (pauses(LAST_RETRY).build(), pauses(LAST_RECONNECT).build());
                    CHECK
                }
                Err(error) => {
                    warn!(driver = %self.driver, %error, "not published; trying again");
                    published.send_replace(false);
                    self.tell_refusal(&error, &mut known);
                    stale_since.get_or_insert_with(Instant::now);
                    if error.is_answer() { retries.next() } else { reconnects.next() }.unwrap_or(LAST_RETRY)
                }
            };
            self.metrics.published_since(stale_since.map(|since| since.elapsed()).unwrap_or_default());
            tokio::select! {
                () = stop.cancelled() => return,
                event = events.try_next() => match event {
                    Ok(Some(event)) => known.take(event),
                    Ok(None) => return,
                    Err(error) => warn!(%error, "the watch over the slices broke; it is made anew"),
                },
                changed = observed.changed() => if changed.is_err() { return },
                Ok(()) = lent.changed() => {}
                Ok(()) = layouts_known.changed() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Said once for each reason, not at each try.
    fn tell_refusal(&self, error: &PublishError, known: &mut Known) {
        let refusal = error.refusal();
        if let Some(reason) = refusal.clone().filter(|_| refusal != known.refused) {
            self.notices.tell(Notice::SlicesRefused { pool: pool_name(&self.node, &self.driver), reason });
        }
        known.refused = refusal.or(known.refused.take());
    }

    /// Writes what is not as it should be. A conflict means that another writer was faster: its event comes, and with
    /// it the next try.
    async fn publish(&self, api: &Api<ResourceSlice>, known: &mut Known) -> Result<Progress, PublishError> {
        let Some(inventory) = self.observed.borrow().clone() else { return Ok(Progress::Waiting) };
        let inventory = inventory.withholding(|accelerator| !self.apis.of(accelerator).dra());
        if known.slices.is_none() || !*self.layouts_known.borrow() {
            return Ok(Progress::Waiting);
        }
        if self.precedence.yields() {
            return Ok(Progress::Yielded);
        }
        // More than one round when the server shows by its answer that it lacks a feature.
        loop {
            let pool = Pool { driver: self.driver.clone(), node: self.identity(known).await? };
            let (features, ledger) = (known.features, self.ledger.snapshot());
            let desired = Slices::new(&pool, &inventory, features, &ledger);
            let actual: Vec<_> = known.slices.iter().flat_map(BTreeMap::values).collect();
            for write in reconcile(&desired, &actual) {
                if matches!(write, Write::Create(_)) && known.node.take().is_some() {
                    // The slices went: perhaps with the node, which then has another UID by now.
                    let node = self.identity(known).await?;
                    if node != pool.node {
                        break;
                    }
                }
                self.write(api, write, known).await?;
                if known.features != features {
                    break;
                }
            }
            if known.features == features && known.node.as_ref() == Some(&pool.node) {
                return Ok(Progress::Done(Published { layouts: inventory.layouts().clone(), features }));
            }
        }
    }

    async fn write(&self, api: &Api<ResourceSlice>, write: Write, known: &mut Known) -> Result<(), PublishError> {
        let verb = match &write {
            Write::Delete(_) => "delete",
            Write::Update(_) => "update",
            Write::Create(_) => "create",
        };
        let name = write.metadata().name.clone().unwrap_or_default();
        known.writes.take().await;
        let answer = timeout(CALL_TIMEOUT, send(api, &name, &write)).await;
        self.metrics.slice_written(verb, matches!(answer, Ok(Ok(_))));
        let result = answer.map_err(|_| PublishError::Timeout)?;
        let slices = known.slices.get_or_insert_default();
        match result {
            Ok(Some(stored)) => {
                let sent = write.slice().map(|sent| dropped_features(sent, &stored, known.features));
                if let Some(features) = sent.filter(|features| *features != known.features) {
                    warn!(?features, "the API server dropped fields of a slice; publishing what is safe without them");
                    known.features = features;
                }
                slices.insert(name, stored.into());
                Ok(())
            }
            Ok(None) => {
                slices.remove(&name);
                Ok(())
            }
            Err(kube::Error::Api(status)) if verb == "delete" && status.code == 404 => {
                slices.remove(&name);
                Ok(())
            }
            Err(source) => Err(PublishError::Write { name, source }),
        }
    }

    async fn identity(&self, known: &mut Known) -> Result<NodeIdentity, PublishError> {
        if let Some(node) = &known.node {
            return Ok(node.clone());
        }
        let node = timeout(CALL_TIMEOUT, api::node(&self.client, &self.node))
            .await
            .map_err(|_| PublishError::Timeout)?
            .map_err(|source| PublishError::Node { name: self.node.clone(), source })?;
        Ok(known.node.insert(node).clone())
    }
}

/// Makes one write. What the server stored comes back, but for a deletion.
async fn send(api: &Api<ResourceSlice>, name: &str, write: &Write) -> Result<Option<ResourceSlice>, kube::Error> {
    match write {
        Write::Delete(metadata) => {
            let ObjectMeta { uid, resource_version, .. } = metadata.clone();
            let preconditions = Some(Preconditions { uid, resource_version });
            api.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await.map(|_| None)
        }
        Write::Update(slice) => api.replace(name, &PostParams::default(), slice).await.map(Some),
        Write::Create(slice) => api.create(&PostParams::default(), slice).await.map(Some),
    }
}

/// Pauses between tries. The jitter spreads the nodes of a cluster whose API server comes back.
fn pauses(longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(FIRST_RETRY).with_max_delay(longest).with_jitter().without_max_times()
}

/// What is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// What devices are offered as.
    pub(crate) layouts: Layouts,
    /// What the API server keeps of that.
    pub(crate) features: Features,
}

enum Progress {
    /// The hardware or the API server has not been seen yet.
    Waiting,
    /// A later agent publishes.
    Yielded,
    /// The slices are as they should be.
    Done(Published),
}

impl Known {
    fn take(&mut self, event: watcher::Event<ResourceSlice>) {
        let named = |slice: ResourceSlice| {
            let seen = Seen::from(slice);
            (seen.name().to_owned(), seen)
        };
        match event {
            watcher::Event::Init => self.listing.clear(),
            watcher::Event::InitApply(slice) => self.listing.extend([named(slice)]),
            watcher::Event::InitDone => self.slices = Some(std::mem::take(&mut self.listing)),
            watcher::Event::Apply(slice) => {
                let slices = self.slices.get_or_insert_default();
                let (name, seen) = named(slice);
                // The answer to a write comes before its event, and before those of what was written earlier: with what they say
                // every further write would be a conflict.
                if slices.get(&name).is_none_or(|known| !is_older(&seen, known)) {
                    slices.insert(name, seen);
                }
            }
            watcher::Event::Delete(slice) => {
                let slices = self.slices.get_or_insert_default();
                let (name, seen) = named(slice);
                // The event of an older object must not hide the one that took its place.
                if slices.get(&name).is_some_and(|known| known.uid() == seen.uid()) {
                    slices.remove(&name);
                }
            }
        }
    }
}

/// Whether what a watch tells is an earlier state of the same object than the one that is known. Resource versions of one kind are
/// decimal numbers that rise (Kubernetes 1.35 says so, and all servers before did so).
fn is_older(told: &Seen, known: &Seen) -> bool {
    let version = |seen: &Seen| seen.metadata().resource_version.as_deref()?.parse::<u128>().ok();
    told.uid() == known.uid() && version(told).zip(version(known)).is_some_and(|(told, known)| told < known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watch_tells_late_hides_nothing_newer() {
        let slice = |uid: &str, version: &str| {
            let (name, uid, version) = (Some("a".to_owned()), Some(uid.to_owned()), Some(version.to_owned()));
            let metadata = ObjectMeta { name, uid, resource_version: version, ..ObjectMeta::default() };
            Seen::from(ResourceSlice { metadata, ..ResourceSlice::default() })
        };
        for (told, known, older) in [
            (slice("1", "9"), slice("1", "10"), true),
            (slice("1", "10"), slice("1", "10"), false),
            (slice("1", "11"), slice("1", "10"), false),
            (slice("2", "9"), slice("1", "10"), false),
            (slice("1", "opaque"), slice("1", "10"), false),
        ] {
            assert_eq!(is_older(&told, &known), older, "{told:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_every_few_seconds_and_one_that_says_no_ever_more_rarely() {
        for (longest, seconds) in [(LAST_RECONNECT, 2.0..=4.0), (LAST_RETRY, 30.0..=60.0)] {
            let pauses: Vec<_> = pauses(longest).build().take(20).map(|pause| pause.as_secs_f64()).collect();
            assert!(pauses[0] < 0.5 && pauses.is_sorted_by(|one, next| *one <= 2.0 * next), "{pauses:?}");
            assert!(pauses[10..].iter().all(|pause| seconds.contains(pause)), "{pauses:?}");
        }
    }
}
