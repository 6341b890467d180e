//! What the agent keeps of claims that are gone.

use anyhow::{Result, anyhow};
use futures::future::join_all;
use testkit::Claim;

use crate::figures::Figures;
use crate::ground::Ground;

/// After how many claims it is looked at, by key. By the first of them, everything that is kept once has been made.
const LOOKS: [(usize, &str); 2] = [(1_000, "rss_after_1000_claims_mib"), (10_000, "rss_after_10000_claims_mib")];

/// Claims that the API server never had before, one for each GPU at a time, prepared and undone.
pub(crate) async fn measure(ground: &mut impl Ground, figures: &mut Figures) -> Result<()> {
    ground.kill();
    let plugin = ground.start().await?;
    ground.wait_for_devices().await?;
    let devices = ground.devices().to_vec();
    let mut done = 0;
    for (look, key) in LOOKS {
        while done < look {
            let mut claims = Vec::new();
            for device in devices.iter().take(look - done) {
                let claim = Claim::new(&format!("gone-{}", done + claims.len())).device("gpu", device);
                claims.push(ground.put(claim).await?);
            }
            for result in join_all(claims.iter().map(|claim| plugin.prepare(claim))).await {
                result.map_err(|refusal| anyhow!(refusal))?;
            }
            for result in join_all(claims.iter().map(|claim| plugin.unprepare(claim))).await {
                result.map_err(|refusal| anyhow!(refusal))?;
            }
            done += claims.len();
        }
        figures.set(key, ground.resident_mib()?);
    }
    Ok(())
}
