//! From the start of the agent to a pool that the scheduler can use, with everything that eight GPUs offer.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::Samples;
use crate::figures::{Figures, percentile};
use crate::ground::Ground;
use crate::life::IDLE;

pub(crate) async fn measure(ground: &mut impl Ground, samples: Samples, figures: &mut Figures) -> Result<()> {
    *ground.offers() = Some("partitions");
    let mut starts = Vec::new();
    let mut devices = Vec::new();
    for _ in 0..samples.starts {
        ground.kill();
        ground.forget().await?;
        let started = Instant::now();
        ground.start().await?;
        devices.push(ground.wait_for_pool().await?);
        starts.push(started.elapsed());
    }
    tokio::time::sleep(IDLE).await;
    figures.set("rss_idle_8x26_mib", ground.resident_mib()?);
    *ground.offers() = None;
    ground.kill();
    devices.dedup();
    let [devices] = devices[..] else { bail!("each start published another number of devices: {devices:?}") };
    figures.set("slices_8x26_start_to_published_ms", percentile(&mut starts, 0.5));
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    figures.set("slices_8x26_devices", devices as f64);
    Ok(())
}
