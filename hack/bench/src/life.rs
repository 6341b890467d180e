//! Start, idleness, restart.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Samples;
use crate::figures::{Figures, percentile};
use crate::ground::Ground;

/// How long an agent has to have done nothing to count as idle: longer than its looks at the hardware are apart.
pub(crate) const IDLE: Duration = Duration::from_secs(6);

/// How long a needless write may take to show.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

pub(crate) async fn measure(ground: &mut impl Ground, samples: Samples, figures: &mut Figures) -> Result<()> {
    let mut starts = Vec::new();
    for _ in 0..samples.starts {
        ground.kill();
        ground.forget().await?;
        let started = Instant::now();
        ground.start().await?;
        ground.wait_for_devices().await?;
        starts.push(started.elapsed());
    }
    figures.set("start_to_published_ms", percentile(&mut starts, 0.5));

    tokio::time::sleep(IDLE).await;
    figures.set("rss_idle_mib", ground.resident_mib()?);

    ground.writes().await?;
    ground.kill();
    ground.start().await?;
    tokio::time::sleep(SETTLE).await;
    figures.set("api_writes_on_restart", ground.writes().await?);
    ground.kill();
    Ok(())
}
