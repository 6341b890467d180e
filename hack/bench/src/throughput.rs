//! How many claims are prepared in a second when many are wanted at once.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use futures::future::join_all;
use testkit::Claim;

use crate::Samples;
use crate::figures::Figures;
use crate::ground::Ground;
use crate::hardware::GPUS;

const IN_FLIGHT: usize = 64;

/// Rounds of 64 calls that are made at once, each for a claim of its own; undoing them is not counted. What was
/// undone is as new to the agent in the next round.
///
/// No claim keeps another waiting: each of 32 GPUs is held by one, and watched by one with admin access, which
/// excludes nobody and takes the same way through the agent.
pub(crate) async fn measure(ground: &mut impl Ground, samples: Samples, figures: &mut Figures) -> Result<()> {
    let plugin = ground.start().await?;
    ground.wait_for_devices().await?;
    let claims = claims(ground).await?;
    let mut total = Duration::ZERO;
    for round in 0..=samples.rounds {
        let started = Instant::now();
        let prepared = join_all(claims.iter().map(|claim| plugin.prepare(claim))).await;
        // The first round warms up.
        if round > 0 {
            total += started.elapsed();
        }
        for result in prepared {
            result.map_err(|refusal| anyhow!(refusal))?;
        }
        for result in join_all(claims.iter().map(|claim| plugin.unprepare(claim))).await {
            result.map_err(|refusal| anyhow!(refusal))?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    figures.set("prepares_per_s_64", (IN_FLIGHT * samples.rounds) as f64 / total.as_secs_f64());
    Ok(())
}

async fn claims(ground: &mut impl Ground) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for number in 0..IN_FLIGHT {
        let (claim, device) = (Claim::new(&format!("one-of-many-{number}")), &ground.devices()[number % GPUS]);
        let claim = if number < GPUS { claim.device("gpu", device) } else { claim.admin("gpu", device) };
        claims.push(ground.put(claim).await?);
    }
    Ok(claims)
}
