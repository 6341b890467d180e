//! How fast the simulation goes: what decides how many lives a test can afford.

use std::time::Instant;

use anyhow::{Result, bail};
use simulate::{Options, Setting, run};

use crate::Samples;
use crate::figures::Figures;

pub(crate) fn measure(samples: Samples, figures: &mut Figures) -> Result<()> {
    let options = Options { steps: samples.steps, seed: 1, setting: Setting { plant: None } };
    let started = Instant::now();
    let outcome = run(&options);
    let took = started.elapsed();
    if let Some(found) = outcome.found.first() {
        bail!("the simulation found, at step {}: {}", found.step, found.violation);
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    figures.set("simulate_steps_per_s", samples.steps as f64 / took.as_secs_f64());
    Ok(())
}
