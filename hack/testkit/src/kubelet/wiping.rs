//! The slices that the kubelet deletes: all of its node at its start, those of a driver some time after it went.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::api::Cluster;
use super::life::Life;
use super::pace;

/// At the start: in the background, and not before the Node object is there.
pub(super) async fn at_start(life: Arc<Life>) {
    let Some(cluster) = life.settings.wiped() else { return };
    while !cluster.knows_node().await {
        tokio::time::sleep(life.settings.pace.pause(pace::WIPE_FIRST)).await;
    }
    wipe(&life, cluster, None).await;
}

/// After a driver's last connection was lost; cancelled by the next one.
pub(super) async fn count_down(life: Arc<Life>, driver: String, countdown: CancellationToken) {
    let Some(cluster) = life.settings.wiped() else { return };
    let wiping = async {
        tokio::time::sleep(life.settings.pace.pause(pace::WIPING)).await;
        wipe(&life, cluster, Some(&driver)).await;
    };
    tokio::select! {
        () = countdown.cancelled() => {}
        () = wiping => {}
    }
}

async fn wipe(life: &Life, cluster: &Cluster, driver: Option<&str>) {
    let mut pause = pace::WIPE_FIRST;
    while cluster.wipe_slices(driver).await.is_err() {
        tokio::time::sleep(life.settings.pace.pause(pause)).await;
        pause = (pause * 2).min(pace::WIPE_LAST);
    }
    life.journal.write().wipes.push(driver.map(str::to_owned));
}
