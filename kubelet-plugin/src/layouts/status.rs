//! Tells the API server how the devices of the node are: one writer for all drivers, and nothing is written that is there
//! already.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tessera_policy::{NodeLayout, NodeLayoutStatus, ReportedDevice};
use tessera_vocabulary::DriverName;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::desired::Seen;
use crate::api;
use crate::bucket::Bucket;

/// So many writes pass at once, and then one each interval.
const BURST: u32 = 20;
const BETWEEN_WRITES: Duration = Duration::from_secs(5);
/// Changes come in numbers: so long is waited for the others.
const SETTLE: Duration = Duration::from_millis(200);
/// That claims come and go, and nothing else, is told this late: nobody waits for it, and thousands of nodes tell it.
const IDLE_SETTLE: Duration = Duration::from_secs(30);
/// A driver of which nothing is heard for so long after the start is not waited for any more.
const FIRST: Duration = Duration::from_secs(30);
/// After a write the watch tells older things for a while.
const ECHO: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long after a failure the next try comes; doubled with each further failure.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// What a driver says of its devices.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Report {
    /// Another agent of the node says it, while one replaces the other.
    Elsewhere,
    /// How they are.
    Here {
        /// The generation that it is about.
        generation: Option<i64>,
        /// All of them.
        devices: Vec<ReportedDevice>,
    },
}

/// Who writes the status.
pub(super) struct Writer {
    api: Api<NodeLayout>,
    node: String,
    /// Who is waited for at the start.
    drivers: Vec<DriverName>,
    started: Instant,
    writes: Bucket,
    /// What was written last, of which object, and when.
    written: Option<(Option<String>, NodeLayoutStatus, Instant)>,
    trouble: String,
}

impl Writer {
    pub(super) fn new(client: &Client, node: String, drivers: Vec<DriverName>) -> Self {
        let (api, started) = (Api::all(client.clone()), Instant::now());
        let writes = Bucket::new(BURST, BETWEEN_WRITES);
        Self { api, node, drivers, started, writes, written: None, trouble: String::new() }
    }

    /// Keeps the status true until stopped.
    pub(super) async fn run(
        mut self,
        mut seen: watch::Receiver<Seen>,
        mut reports: watch::Receiver<BTreeMap<DriverName, Report>>,
        stop: CancellationToken,
    ) {
        let mut retries = pauses().build();
        // Since when something is to be written.
        let mut since: Option<Instant> = None;
        let writing = async {
            loop {
                let object = seen.borrow_and_update().object.clone();
                let status = self.status(&reports.borrow_and_update());
                let due = object
                    .zip(status)
                    .and_then(|(object, status)| Some((self.difference(&object, &status)?, object, status)));
                let pause = match due {
                    None => {
                        since = None;
                        ECHO
                    }
                    Some((settle, object, status)) => {
                        let waited = since.get_or_insert_with(Instant::now).elapsed();
                        if waited >= settle {
                            since = None;
                            match self.write(&object, status).await {
                                Ok(()) => retries = pauses().build(),
                                Err(reason) => {
                                    self.tell(reason);
                                    sleep(retries.next().unwrap_or(LAST_RETRY)).await;
                                }
                            }
                            continue;
                        }
                        settle - waited
                    }
                };
                tokio::select! {
                    Ok(()) = seen.changed() => {}
                    Ok(()) = reports.changed() => {}
                    () = sleep(pause) => {}
                }
            }
        };
        stop.run_until_cancelled(writing).await;
    }

    /// What all drivers say; `None` before all have said it, and while another agent does.
    fn status(&self, reports: &BTreeMap<DriverName, Report>) -> Option<NodeLayoutStatus> {
        let is_missing = self.drivers.iter().any(|driver| !reports.contains_key(driver));
        if is_missing && self.started.elapsed() < FIRST {
            return None;
        }
        merged(reports.values())
    }

    /// How long to wait before a status is written; `None` if it is there already.
    fn difference(&self, object: &NodeLayout, status: &NodeLayoutStatus) -> Option<Duration> {
        let there = match &self.written {
            Some((uid, written, at)) if *uid == object.metadata.uid && at.elapsed() < ECHO => Some(written),
            _ => object.status.as_ref(),
        };
        let nothing = NodeLayoutStatus::default();
        let there = there.unwrap_or(&nothing);
        if there == status {
            return None;
        }
        Some(if without_users(there) == without_users(status) { IDLE_SETTLE } else { SETTLE })
    }

    async fn write(&mut self, object: &NodeLayout, status: NodeLayoutStatus) -> Result<(), String> {
        self.writes.take().await;
        // All of it is this agent's.
        let patch = Patch::Merge(json!({ "status": status }));
        let parameters = PatchParams::default();
        let call = self.api.patch_status(&self.node, &parameters, &patch);
        match timeout(CALL_TIMEOUT, call).await {
            Err(_) => Err(format!("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())),
            Ok(Err(error)) => Err(api::brief(&error)),
            Ok(Ok(_)) => {
                info!(devices = status.devices.len(), "the status of the NodeLayout is written");
                self.written = Some((object.metadata.uid.clone(), status, Instant::now()));
                self.trouble.clear();
                Ok(())
            }
        }
    }

    /// Said once for each reason, not at each try.
    fn tell(&mut self, reason: String) {
        if reason != self.trouble {
            warn!(reason, "the status of the NodeLayout is not written; trying again");
            self.trouble = reason;
        }
    }
}

/// One status of all drivers' devices, by driver and name; it follows the oldest spec that any of them follows.
fn merged<'a>(reports: impl Iterator<Item = &'a Report>) -> Option<NodeLayoutStatus> {
    let (mut devices, mut generations) = (Vec::new(), Vec::new());
    for report in reports {
        let Report::Here { generation, devices: own } = report else { return None };
        generations.push(*generation);
        devices.extend(own.iter().cloned());
    }
    devices.sort_by(|one: &ReportedDevice, other| one.id.cmp(&other.id));
    Some(NodeLayoutStatus { observed_generation: generations.into_iter().min()?, devices })
}

fn without_users(status: &NodeLayoutStatus) -> NodeLayoutStatus {
    let mut status = status.clone();
    status.devices.iter_mut().for_each(|device| device.users = 0);
    status
}

/// Pauses between tries. The jitter spreads the nodes of a cluster.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new().with_min_delay(FIRST_RETRY).with_max_delay(LAST_RETRY).with_jitter().without_max_times()
}

#[cfg(test)]
mod tests {
    use tessera_policy::{DeviceId, DeviceState};

    use super::*;

    fn device(driver: &str, name: &str) -> ReportedDevice {
        ReportedDevice {
            id: DeviceId { driver: driver.to_owned(), name: name.to_owned() },
            attributes: BTreeMap::new(),
            capacity: BTreeMap::new(),
            profiles: Vec::new(),
            domain: None,
            layout: None,
            state: DeviceState::Ready,
            attempt: 0,
            users: 3,
            evicting: false,
            message: String::new(),
        }
    }

    #[test]
    fn all_drivers_are_told_of_at_once_or_not_at_all() {
        let here = |generation, names: &[&str], driver: &str| Report::Here {
            generation: Some(generation),
            devices: names.iter().map(|name| device(driver, name)).collect(),
        };
        let gpus = here(3, &["gpu-2", "gpu-1"], "gpu.nvidia.com");
        let chips = here(2, &["tpu-1"], "aa.google.com");
        let status = merged([&gpus, &chips].into_iter()).unwrap();
        let names: Vec<_> = status.devices.iter().map(|device| device.id.name.as_str()).collect();
        assert_eq!((status.observed_generation, names), (Some(2), vec!["tpu-1", "gpu-1", "gpu-2"]));
        assert_eq!(merged([&gpus, &Report::Elsewhere].into_iter()), None);
        assert_eq!(merged([].into_iter()), None);
    }
}
