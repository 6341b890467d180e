//! How long a prepare takes when nothing else goes on, and what its parts take in the same moments.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use testkit::Claim;

use crate::Samples;
use crate::figures::{Figures, percentile};
use crate::floors::Floors;
use crate::ground::Ground;

/// Calls before the first one that counts.
const WARM_UP: usize = 20;
/// How often each claim is asked for again, each time after a bare call.
const REPEATED: usize = 4;

pub(crate) async fn measure(ground: &mut impl Ground, samples: Samples, figures: &mut Figures) -> Result<()> {
    let plugin = ground.start().await?;
    ground.wait_for_devices().await?;
    let first = claim(ground, "first", 0).await?;
    plugin.prepare(&first).await.map_err(|refusal| anyhow!(refusal))?;
    let spec = std::fs::read_dir(ground.cdi_dir())?.next().context("no CDI spec")??;
    let content = std::fs::read(spec.path())?;
    plugin.unprepare(&first).await.map_err(|refusal| anyhow!(refusal))?;
    let floors = Floors::new(&plugin, &ground.kubeconfig(), ground.cdi_dir(), content).await?;

    // Made beforehand: whoever else hears of claims is done with them by then.
    let mut claims = Vec::new();
    for number in 0..WARM_UP + samples.claims {
        claims.push(claim(ground, &format!("claim-{number}"), number).await?);
    }
    let mut times: [Vec<Duration>; 6] = Default::default();
    let [call, get, file, new, bare, known] = &mut times;
    for (number, claim) in claims.iter().enumerate() {
        if number == WARM_UP {
            [&mut *call, get, file, new, bare, known].into_iter().for_each(Vec::clear);
        }
        // All in turns, so that what disturbs the machine disturbs all.
        let mut clock = Clock(Instant::now());
        floors.call().await?;
        call.push(clock.lap());
        floors.get(&claim.name).await?;
        get.push(clock.lap());
        floors.file()?;
        file.push(clock.lap());
        plugin.prepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
        new.push(clock.lap());
        // In turn with bare calls: whatever is called first after a wait for the API server takes twice as long.
        for _ in 0..REPEATED {
            floors.call().await?;
            bare.push(clock.lap());
            plugin.prepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
            known.push(clock.lap());
        }
        plugin.unprepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
    }
    let total: Duration = new.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    figures.set("prepares_per_s_1", new.len() as f64 / total.as_secs_f64());
    figures.set("rpc_floor_p50_ms", percentile(call, 0.5));
    figures.set("api_floor_p50_ms", percentile(get, 0.5));
    figures.set("api_floor_p99_ms", percentile(get, 0.99));
    figures.set("file_floor_p50_ms", percentile(file, 0.5));
    figures.set("prepare_p50_ms", percentile(new, 0.5));
    figures.set("prepare_p99_ms", percentile(new, 0.99));
    figures.set("prepare_known_p50_ms", percentile(known, 0.5));
    figures.set("rpc_floor_in_turn_p50_ms", percentile(bare, 0.5));
    Ok(())
}

/// A claim for one device, each in turn.
async fn claim(ground: &mut impl Ground, name: &str, number: usize) -> Result<Claim> {
    let device = &ground.devices()[number % ground.devices().len()];
    let claim = Claim::new(name).device("gpu", device);
    ground.put(claim).await
}

struct Clock(Instant);

impl Clock {
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }
}
