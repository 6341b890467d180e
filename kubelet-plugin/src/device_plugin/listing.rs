use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tessera_core::Loans;
use tessera_device_plugin::{Asked, DeviceId, Held};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::checkpoint::Checkpoint;
use super::desk::Desk;
use crate::pod_resources::{Listing, PodResources};

/// The kubelet does not tell when a pod ends. It answers from memory, a hundred times a second.
const PAUSE: Duration = Duration::from_secs(1);
/// In so many looks it is told the same devices once while it is in doubt whether pods still have some: each time it writes
/// a file, and a container that prepares a pod, which is never listed, may take hours.
const LOOKS_A_REPEAT: u32 = 5;

/// Looks again and again what pods have by way of device plugins, until stopped.
///
/// What pods have stands in the kubelet's checkpoint as soon as their devices are allocated, over its restarts and before it
/// runs; so it is known from the first look on. What pods had stands there for longer: a kubelet forgets it when it is
/// asked what pods have, but not before it knows all pods, and writes that down when a device plugin says something. So
/// while pods have anything it is asked, and where it names less than the checkpoint, told the same devices again.
pub(super) async fn listen(desk: Arc<Desk>, kubelet: PodResources, directory: PathBuf, stop: CancellationToken) {
    let checkpoint = Checkpoint::new(&directory);
    let listening = async {
        let (mut told, mut doubts) = (String::new(), 0);
        loop {
            let problem = match look(&desk, &kubelet, &checkpoint).await {
                Ok(true) => {
                    if doubts % LOOKS_A_REPEAT == 0 {
                        desk.repeat();
                    }
                    doubts += 1;
                    String::new()
                }
                Ok(false) => {
                    doubts = 0;
                    String::new()
                }
                Err(problem) => problem,
            };
            if problem != told && !problem.is_empty() {
                warn!(error = problem, "what pods have without a claim is not known, or cannot be kept; looking again");
            }
            told = problem;
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = stop.run_until_cancelled(listening).await;
}

/// Says whether it is in doubt that pods still have all that the checkpoint says.
async fn look(desk: &Desk, kubelet: &PodResources, checkpoint: &Checkpoint) -> Result<bool, String> {
    let lent = desk.loans();
    let named = if lent.units.is_empty() { Held::default() } else { ask(desk, kubelet, &lent).await };
    let kept = checkpoint.read().map_err(|error| error.to_string())?;
    let in_doubt = lent.units.keys().any(|unit| kept.names(unit) && !named.names(unit));
    desk.hear(Asked::after(&lent), named.and(kept)).map_err(|error| error.to_string())?;
    Ok(in_doubt)
}

/// What the kubelet says. One that does not answer writes nothing either, so nothing is lost by it.
async fn ask(desk: &Desk, kubelet: &PodResources, lent: &Loans) -> Held {
    match kubelet.served().await {
        Ok(served) => {
            let resources = lent.units.values().map(|loan| &loan.resource);
            desk.nobody_serves(resources.filter(|resource| !served.contains(*resource)).cloned().collect());
        }
        Err(error) => debug!(%error, "the kubelet does not tell what is served"),
    }
    match kubelet.list().await {
        Ok(listing) => held(&listing),
        Err(error) => {
            debug!(%error, "the kubelet does not tell what pods have");
            Held::default()
        }
    }
}

fn held(listing: &Listing) -> Held {
    let mut held = Held::default();
    listing.devices().for_each(|(id, resource)| held.add(resource, &DeviceId::read(id)));
    held
}
