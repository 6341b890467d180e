//! Tells pods what GPUs a node has: the labels of GPU feature discovery get onto the Node, by node-feature-discovery, which
//! takes them from a file or an object, or by a patch of the Node itself. What others wrote is never touched, and nothing is
//! written that is there already.

mod file;
mod node;
mod node_feature;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder, ExponentialBuilder};
use tessera_device_plugin::{FeatureLabels, features};
use tessera_driver::Root;
use tessera_vocabulary::feature_labels::TIMESTAMP;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api;
use crate::backends::Row;
use crate::bucket::Bucket;
use crate::cli::LabelsGo;
use crate::device_plugin::Configured;
use crate::hardware::Observed;
use crate::ledger::SharedLedger;
use crate::node::Node;
use crate::notices::{Notice, Notices};

/// What is there is read again after this time, since nobody tells when somebody takes it away.
const LOOK: Duration = Duration::from_secs(600);
/// A later agent writes; should it end, this one is to go on soon.
const YIELDED: Duration = Duration::from_secs(30);
/// How long after a failure the next try comes; doubled with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(300);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Changes come in numbers, as when somebody cuts GPUs: so long is waited for the others.
const SETTLE: Duration = Duration::from_millis(500);
/// So many writes pass at once, and then one each interval.
const BURST: u32 = 10;
const BETWEEN_WRITES: Duration = Duration::from_secs(10);

/// What labels follow from.
pub(crate) struct Sources {
    pub(crate) observed: Observed,
    pub(crate) ledger: Arc<SharedLedger>,
    pub(crate) config: Configured,
}

/// Who writes the labels of a node.
pub(crate) struct Labeller {
    way: Way,
    root: Root,
    /// Whether there is anything on the bus that there are labels for.
    is_on_the_bus: fn(&Root) -> bool,
    /// What the firmware calls the machine.
    machine: Option<String>,
    has_timestamp: bool,
    /// What of ours is on the node, as it was last read or written.
    there: Option<FeatureLabels>,
    writes: Bucket,
    /// Why nothing could be written at the last try.
    failure: String,
    notices: Notices,
}

/// How labels get onto a node.
enum Way {
    File(PathBuf),
    NodeFeature(node_feature::NodeFeature),
    Node(node::OwnLabels),
}

/// Why labels could not be read or written. Tried again in any case.
#[derive(Debug, thiserror::Error)]
enum LabelError {
    #[error("{} cannot be {verb}: {source}", path.display())]
    File { path: PathBuf, verb: &'static str, source: io::Error },
    #[error("{}", api::brief(.0))]
    Server(#[from] kube::Error),
    #[error("{0}")]
    Missing(&'static str),
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
}

impl LabelError {
    /// Whether somebody said no, rather than nothing: a person has to do something about it.
    fn is_answer(&self) -> bool {
        match self {
            Self::File { .. } | Self::Missing(_) | Self::Server(kube::Error::Api(_)) => true,
            Self::Server(_) | Self::Timeout => false,
        }
    }
}

impl Labeller {
    /// Who writes the labels for a family of accelerators as the node's options say; `None` if nobody is to.
    pub(crate) fn new(row: &Row, node: &Node, notices: impl FnOnce() -> Notices) -> Option<Self> {
        let is_on_the_bus = row.features?;
        let options = &node.options.features;
        let root = node.hardware.root();
        let way = match options.feature_labels {
            LabelsGo::Off => return None,
            LabelsGo::File => Way::File(options.features_file.clone()),
            LabelsGo::NodeFeature => Way::NodeFeature(node_feature::NodeFeature::new(&node.client, &node.name)),
            LabelsGo::Node => Way::Node(node::OwnLabels::new(&node.client, &node.name)),
        };
        Some(Self {
            way,
            machine: machine(&root, &options.machine_type_file.to_string_lossy()),
            root,
            is_on_the_bus,
            has_timestamp: !options.no_timestamp,
            there: None,
            writes: Bucket::new(BURST, BETWEEN_WRITES),
            failure: String::new(),
            notices: notices(),
        })
    }

    /// Keeps the labels true to what they follow from, until stopped.
    pub(crate) async fn follow(mut self, sources: Sources, stop: CancellationToken) {
        let precedence = sources.ledger.precedence();
        let (mut observed, mut config) = (sources.observed.clone(), sources.config.clone());
        let mut retries = pauses().build();
        let following = async {
            loop {
                let pause = match self.labels(&sources).await {
                    _ if precedence.yields() => {
                        self.there = None;
                        YIELDED
                    }
                    None => LOOK,
                    Some(labels) => match self.put(&labels).await {
                        Ok(()) => {
                            retries = pauses().build();
                            LOOK
                        }
                        Err(error) => {
                            self.tell(&error);
                            retries.next().unwrap_or(LAST_RETRY)
                        }
                    },
                };
                tokio::select! {
                    () = sleep(pause) => self.there = None,
                    changed = observed.changed() => match changed {
                        Ok(()) => sleep(SETTLE).await,
                        Err(_) => return,
                    },
                    Ok(()) = config.changed() => {}
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(following).await;
    }

    /// Takes the labels away that were written while the node had GPUs.
    pub(crate) async fn clear(mut self) {
        let mut retries = pauses().build();
        while let Err(error) = self.put(&FeatureLabels::new()).await {
            self.tell(&error);
            sleep(retries.next().unwrap_or(LAST_RETRY)).await;
        }
    }

    /// What should be on the node; `None` while that is not known: GPUs of which nothing is known may have a driver that is not
    /// loaded yet.
    async fn labels(&self, sources: &Sources) -> Option<FeatureLabels> {
        let inventory = sources.observed.borrow().clone()?;
        let config = sources.config.borrow().clone()?;
        let ledger = sources.ledger.exclusively(|ledger| ledger.ledger().clone());
        let ledger = ledger.unwrap_or_else(|_| sources.ledger.snapshot());
        let labels = features(self.machine.as_deref(), &inventory, &ledger, &config)?;
        let (root, is_on_the_bus) = (self.root.clone(), self.is_on_the_bus);
        if !inventory.devices().is_empty() {
            return Some(labels);
        }
        let silent = tokio::task::spawn_blocking(move || is_on_the_bus(&root)).await.unwrap_or(true);
        (!silent).then_some(labels)
    }

    /// Writes labels unless they are there.
    async fn put(&mut self, labels: &FeatureLabels) -> Result<(), LabelError> {
        let there = match self.there.take() {
            Some(there) => there,
            None => self.way.read().await?,
        };
        let is_label = |(key, _): &(&String, &String)| key.as_str() != TIMESTAMP;
        if !there.iter().filter(is_label).eq(labels) {
            let mut labels = labels.clone();
            if self.has_timestamp && !labels.is_empty() {
                labels.insert(TIMESTAMP.to_owned(), now().to_string());
            }
            self.writes.take().await;
            self.way.write(&labels).await?;
            info!(labels = labels.len(), "the labels of the node's GPUs are written");
            self.there = Some(labels);
        } else {
            self.there = Some(there);
        }
        self.failure.clear();
        Ok(())
    }

    /// Said once for each reason, not at each try.
    fn tell(&mut self, error: &LabelError) {
        let reason = error.to_string();
        if reason == self.failure {
            return;
        }
        if error.is_answer() {
            self.notices.tell(Notice::LabelsNotWritten { reason: reason.clone() });
        } else {
            warn!(error = reason, "the labels of the node's GPUs are not written; trying again");
        }
        self.failure = reason;
    }
}

impl Way {
    /// What of ours is there.
    async fn read(&self) -> Result<FeatureLabels, LabelError> {
        match self {
            Self::File(path) => off_the_async_thread(path.clone(), file::read).await,
            Self::NodeFeature(object) => in_time(object.read()).await,
            Self::Node(labels) => in_time(labels.read()).await,
        }
    }

    /// Puts these in the place of what of ours was there.
    async fn write(&self, labels: &FeatureLabels) -> Result<(), LabelError> {
        let all = labels.clone();
        match self {
            Self::File(path) => off_the_async_thread(path.clone(), move |path| file::write(path, &all)).await,
            Self::NodeFeature(object) => in_time(object.write(labels)).await,
            Self::Node(own) => in_time(own.write(labels)).await,
        }
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T, LabelError>>) -> Result<T, LabelError> {
    timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(LabelError::Timeout))
}

/// The file may lie on a disk.
async fn off_the_async_thread<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&std::path::Path) -> Result<T, LabelError> + Send + 'static,
) -> Result<T, LabelError> {
    let named = path.clone();
    let panicked = |error| LabelError::File { path: named, verb: "used", source: io::Error::other(error) };
    tokio::task::spawn_blocking(move || work(&path)).await.map_err(panicked)?
}

/// What the firmware calls the machine, below the node's root.
fn machine(root: &Root, file: &str) -> Option<String> {
    let text = std::fs::read_to_string(root.seen_by_agent(file)).ok()?;
    Some(text.trim().to_owned())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Pauses between tries. The jitter spreads the nodes of a cluster.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(FIRST_RETRY).with_max_delay(LAST_RETRY).with_jitter().without_max_times()
}
