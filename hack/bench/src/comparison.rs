//! Two agents side by side, each called in turn: what disturbs the machine disturbs both, so that a few percent show
//! where two runs one after the other differ by more than that. The agent's processor time is disturbed least.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use comfy_table::{Table, presets};
use futures::future::join_all;
use tessera_kubelet_api::dra_v1::NodePrepareResourcesRequest;
use testkit::{Claim, Plugin};

use crate::Samples;
use crate::ground::Ground;
use crate::hardware::GPUS;

/// Calls in a turn; as many claims are prepared at once in the last.
const TURN: usize = GPUS;

/// What is done in the turns of a round, in this order.
const TURNS: [(Turn, &str); 5] = [
    (Turn::Bare, "a bare call"),
    (Turn::Prepare, "a new claim"),
    (Turn::Prepare, "the same call repeated"),
    (Turn::Unprepare, "undone"),
    (Turn::AtOnce, "one of 32 at once, prepared and undone"),
];

#[derive(Clone, Copy)]
enum Turn {
    Bare,
    Prepare,
    Unprepare,
    AtOnce,
}

/// What a call took in the mean of one turn.
#[derive(Clone, Copy, Default)]
struct Taken {
    wall: Duration,
    /// Of the agent.
    processor: Duration,
}

/// The agent of one ground, with a claim for each GPU.
struct Side<'a, G> {
    ground: &'a mut G,
    plugin: Plugin,
    claims: Vec<Claim>,
    taken: [Vec<Taken>; TURNS.len()],
}

/// Measures the agents of two grounds with many GPUs.
pub(crate) async fn measure(grounds: &mut [impl Ground; 2], samples: Samples) -> Result<Table> {
    let mut sides = Vec::new();
    for ground in grounds {
        sides.push(Side::new(ground).await?);
    }
    // The first round warms up.
    for round in 0..=samples.rounds * 2 {
        for (index, (turn, _)) in TURNS.iter().enumerate() {
            // Who goes first changes, too.
            for side in [round % 2, 1 - round % 2] {
                let taken = sides[side].take(*turn).await?;
                if round > 0 {
                    sides[side].taken[index].push(taken);
                }
            }
        }
    }
    Ok(table(&sides[0].taken, &sides[1].taken))
}

impl<'a, G: Ground> Side<'a, G> {
    async fn new(ground: &'a mut G) -> Result<Self> {
        let plugin = ground.start().await?;
        ground.wait_for_devices().await?;
        let mut claims = Vec::new();
        for device in ground.devices().to_vec() {
            claims.push(ground.put(Claim::new(&format!("for-{device}")).device("gpu", &device)).await?);
        }
        Ok(Self { ground, plugin, claims, taken: Default::default() })
    }

    async fn take(&mut self, turn: Turn) -> Result<Taken> {
        let (started, before) = (Instant::now(), self.processor()?);
        match turn {
            Turn::Bare => {
                for _ in 0..TURN {
                    self.plugin.v1().node_prepare_resources(NodePrepareResourcesRequest::default()).await?;
                }
            }
            Turn::Prepare => {
                for claim in &self.claims {
                    self.plugin.prepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
                }
            }
            Turn::Unprepare => {
                for claim in &self.claims {
                    self.plugin.unprepare(claim).await.map_err(|refusal| anyhow!(refusal))?;
                }
            }
            Turn::AtOnce => {
                for result in join_all(self.claims.iter().map(|claim| self.plugin.prepare(claim))).await {
                    result.map_err(|refusal| anyhow!(refusal))?;
                }
                for result in join_all(self.claims.iter().map(|claim| self.plugin.unprepare(claim))).await {
                    result.map_err(|refusal| anyhow!(refusal))?;
                }
            }
        }
        let calls = u32::try_from(TURN)?;
        Ok(Taken { wall: started.elapsed() / calls, processor: (self.processor()? - before) / calls })
    }

    /// What all threads of the agent have used: the first number of their `schedstat` is in nanoseconds.
    fn processor(&mut self) -> Result<Duration> {
        let id = self.ground.agent().as_ref().context("no agent runs")?.id();
        let mut total = 0;
        for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            total += text.split(' ').next().unwrap_or_default().parse::<u64>().with_context(|| text.clone())?;
        }
        Ok(Duration::from_nanos(total))
    }
}

fn table(one: &[Vec<Taken>], other: &[Vec<Taken>]) -> Table {
    let mut table = Table::new();
    let header = ["MICROSECONDS", "AGENT", "AGAINST", "RATIO", "CPU", "AGAINST", "RATIO"];
    table.load_style(presets::NOTHING).set_header(header);
    for (((_, what), one), other) in TURNS.iter().zip(one).zip(other) {
        let mut row = vec![(*what).to_owned()];
        for time in [|taken: &Taken| taken.wall, |taken: &Taken| taken.processor] {
            let of = |side: &[Taken]| -> Vec<f64> { side.iter().map(|taken| time(taken).as_secs_f64()).collect() };
            let (one, other) = (of(one), of(other));
            let ratios = one.iter().zip(&other).map(|(one, other)| one / other).collect();
            row.push(format!("{:.1}", median(one) * 1e6));
            row.push(format!("{:.1}", median(other) * 1e6));
            row.push(format!("{:.3}", median(ratios)));
        }
        table.add_row(row);
    }
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
