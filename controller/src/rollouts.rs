//! Partition policies and fabric domains: hears, decides, writes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tessera_rollout::{Cluster, PolicyName, Write};
use tessera_vocabulary::DriverName;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::absences::{self, Absences};
use crate::bucket::Bucket;
use crate::client::CallError;
use crate::events::Events;
use crate::known_nodes::KnownNodes;
use crate::metrics::{Metrics, Outcome};
use crate::watches::Watches;
use crate::writes::{Answer, Writer};

/// What comes within this time after something was heard is decided about at once: agents answer in crowds.
const GATHER: Duration = Duration::from_millis(20);
/// The status of a policy is written no more often than this, so that many turns are given at once where many nodes change.
const BETWEEN_TURNS: Duration = Duration::from_millis(100);
/// And no more often than this where only tallies have changed, which nobody waits for.
const BETWEEN_TALLIES: Duration = Duration::from_secs(1);
/// After a write that failed, for whatever reason but that its object has changed.
const PAUSE: Duration = Duration::from_secs(1);
/// So many writes are under way at once.
const AT_ONCE: usize = 16;
/// So many writes pass at once, and then one each interval.
const BURST: u32 = 200;
const BETWEEN_WRITES: Duration = Duration::from_millis(10);

/// What carries policies out and offers domains.
pub(crate) struct Rollouts {
    cluster: Cluster,
    watches: Watches,
    writer: Writer,
    events: Events,
    metrics: Metrics,
    bucket: Bucket,
    /// When the status of a policy was written last.
    tallied: BTreeMap<PolicyName, Instant>,
    absences: Absences,
}

impl Rollouts {
    /// Domains are offered of these drivers' devices.
    pub(crate) fn new(client: &Client, domains: Vec<DriverName>, known_nodes: KnownNodes, metrics: Metrics) -> Self {
        let mut cluster = Cluster::default();
        if !domains.is_empty() {
            cluster.offer_domains(domains.iter().cloned());
            cluster.follow_agents();
        }
        Self {
            cluster,
            watches: Watches::new(client, domains, known_nodes, metrics.clone()),
            writer: Writer::new(client),
            events: Events::new(client.clone()),
            metrics,
            bucket: Bucket::new(BURST, BETWEEN_WRITES),
            tallied: BTreeMap::new(),
            absences: Absences::default(),
        }
    }

    /// Works until it is dropped. The error is that it cannot any more.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        // What is to be looked at again by then even if nothing is heard.
        let mut again: Option<Duration> = None;
        loop {
            let heard = self.watches.hear(&mut self.cluster);
            timeout(again.unwrap_or(absences::LOOK), heard).await.unwrap_or(Ok(()))?;
            sleep(GATHER).await;
            // More of it, if there is.
            timeout(Duration::ZERO, self.watches.hear(&mut self.cluster)).await.unwrap_or(Ok(()))?;
            if self.watches.are_complete() {
                self.absences.look(&mut self.cluster);
                again = self.settle().await;
            }
        }
    }

    /// Decides and writes until there is nothing more to be written now, and says when to look again.
    async fn settle(&mut self) -> Option<Duration> {
        loop {
            let begun = Instant::now();
            let decided = self.cluster.decide(Timestamp::now());
            self.metrics.decided(begun.elapsed());
            let now = Instant::now();
            let held_back = decided.iter().filter_map(|write| self.due_in(write, now)).min();
            let due: Vec<_> = decided.into_iter().filter(|write| self.due_in(write, now).is_none()).collect();
            if due.is_empty() {
                return held_back;
            }
            match self.write(due).await {
                // What was refused is decided anew when it is known why: the watch tells.
                Sent { failed: true, .. } => return Some(PAUSE),
                Sent { outdated: true, .. } => return held_back,
                Sent { .. } => {}
            }
        }
    }

    /// How long a write is held back. Nothing: not at all.
    fn due_in(&self, write: &Write, now: Instant) -> Option<Duration> {
        let Write::Status { policy, pressing, .. } = write else { return None };
        let between = if *pressing { BETWEEN_TURNS } else { BETWEEN_TALLIES };
        let left = (*self.tallied.get(policy)? + between).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    async fn write(&mut self, writes: Vec<Write>) -> Sent {
        let mut sent = Sent::default();
        let (writer, bucket) = (&self.writer, &mut self.bucket);
        let paced = futures::stream::unfold((writes.into_iter(), bucket), |(mut writes, bucket)| async {
            let write = writes.next()?;
            bucket.take().await;
            Some((write, (writes, bucket)))
        });
        let answers = paced.map(|write| async {
            let answer = writer.send(&write).await;
            (write, answer)
        });
        let mut answers = std::pin::pin!(answers.buffer_unordered(AT_ONCE));
        while let Some((write, answer)) = answers.next().await {
            self.metrics.written(write.kind(), outcome(&answer));
            match answer {
                Ok(answer) => {
                    if let (Write::Status { policy, news, .. }, Answer::Policy(stored)) = (&write, &answer) {
                        self.tallied.insert(policy.clone(), Instant::now());
                        for condition in news {
                            let (type_, reason) = (&condition.type_, &condition.reason);
                            info!(%policy, type_, condition.status, reason, condition.message, "a policy has come so far");
                        }
                        self.events.tell(stored, news).await;
                    }
                    answer.tell(&mut self.cluster);
                }
                Err(error) if error.is_outdated() => sent.outdated = true,
                Err(error) => {
                    warn!(%error, write = write.kind(), "cannot write; trying again");
                    sent.failed = true;
                }
            }
        }
        sent
    }
}

/// What came of several writes.
#[derive(Default)]
struct Sent {
    /// One was about an object that has changed.
    outdated: bool,
    /// One failed for another reason.
    failed: bool,
}

fn outcome(answer: &Result<Answer, CallError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Success,
        Err(error) if error.is_outdated() => Outcome::Conflict,
        Err(_) => Outcome::Error,
    }
}
