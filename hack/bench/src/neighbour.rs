//! A GPU whose driver does not answer is no other GPU's trouble.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use testkit::{Claim, Plugin};

use crate::Samples;
use crate::figures::{Figures, percentile};
use crate::ground::Ground;
use crate::life::IDLE;

/// How long each NVML call about the other GPU takes: longer than this measures.
const SLOW: Duration = Duration::from_secs(60);

/// Calls before the first one that counts.
const WARM_UP: usize = 20;

pub(crate) async fn measure(ground: &mut impl Ground, samples: Samples, figures: &mut Figures) -> Result<()> {
    ground.kill();
    let plugin = ground.start().await?;
    ground.wait_for_devices().await?;
    // Made beforehand: whoever else hears of claims is done with them by then.
    let mut claims = Vec::new();
    for number in 0..WARM_UP + samples.claims {
        let claim = Claim::new(&format!("neighbour-{number}")).device("gpu", &ground.devices()[1]);
        claims.push(ground.put(claim).await?);
    }
    figures.set("prepare_p50_while_other_gpu_idle_ms", median(&plugin, &claims).await?);

    let machine = ground.machine()?;
    machine.run(&["set", "0", &format!("latency_ms={}", SLOW.as_millis())])?;
    // By then the agent has begun to look at GPU 0, and waits.
    tokio::time::sleep(IDLE).await;
    figures.set("prepare_p50_while_other_gpu_slow_ms", median(&plugin, &claims).await?);
    machine.run(&["set", "0", "latency_ms=0"])?;
    ground.kill();
    Ok(())
}

/// Of claims that are prepared and undone one after the other, in milliseconds.
async fn median(plugin: &Plugin, claims: &[Claim]) -> Result<f64> {
    let mut times = Vec::new();
    for claim in claims {
        let started = Instant::now();
        plugin.prepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
        times.push(started.elapsed());
        plugin.unprepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
    }
    Ok(percentile(&mut times[WARM_UP..], 0.5))
}
