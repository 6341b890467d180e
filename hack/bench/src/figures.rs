//! The figures, and the bars that they are held against (design.md, section 5).

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{Table, presets};

/// What the agent was measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum With {
    /// Stand-ins for the API server and the kubelet.
    StandIns,
    /// A real node and its API server.
    Cluster,
}

/// Figures by key; what was not measured has none. The keys are stable: runs of two commits are compared by them.
#[derive(Debug)]
pub(crate) struct Figures {
    with: With,
    values: BTreeMap<&'static str, f64>,
}

/// A figure, what it is, and its bar.
type Row = (&'static str, &'static str, fn(&Figures) -> Option<Bar>);

/// What resident memory may differ by without any growth, in MiB: allocators keep and return pages as they see fit.
const GROWTH_MIB: f64 = 0.5;

/// What a figure should be.
enum Bar {
    Below(f64),
    Above(f64),
}

const ROWS: [Row; 25] = [
    ("prepare_p50_ms", "new claim of one GPU", |figures| Some(Bar::Below(1.3 * figures.parts()?))),
    ("prepare_p99_ms", "new claim of one GPU", |_| Some(Bar::Below(5.0))),
    ("prepare_known_p50_ms", "the same call repeated", |figures| {
        Some(Bar::Below(2.0 * figures.get("rpc_floor_in_turn_p50_ms")?))
    }),
    ("rpc_floor_in_turn_p50_ms", "a bare call in turn with that", |_| None),
    ("prepare_p50_while_other_gpu_slow_ms", "new claim of GPU 1, NVML calls of GPU 0 take 60 s", |figures| {
        // The same twice is never the same to the last microsecond; a real API server's part differs by far more.
        figures.of_the_agent(Bar::Below(1.1 * figures.get("prepare_p50_while_other_gpu_idle_ms")?))
    }),
    ("prepare_p50_while_other_gpu_idle_ms", "the same a moment before", |_| None),
    ("prepares_per_s_1", "one in flight", |_| None),
    ("prepares_per_s_64", "64 in flight, 32 GPUs held and watched", |figures| figures.of_the_agent(Bar::Above(1000.0))),
    ("start_to_published_ms", "started to registered and published", |figures| figures.of_the_agent(Bar::Below(500.0))),
    ("slices_8x26_start_to_published_ms", "the same with all partitions, until the pool is whole", |figures| {
        figures.of_the_agent(Bar::Below(500.0))
    }),
    ("slices_8x26_devices", "devices in that pool, of 8 GPUs", |_| None),
    ("rss_idle_mib", "resident memory, 8 GPUs, idle", |_| Some(Bar::Below(20.0))),
    ("rss_idle_8x26_mib", "the same with all partitions", |_| Some(Bar::Below(20.0))),
    ("rss_after_1000_claims_mib", "prepared and undone again", |_| None),
    ("rss_after_10000_claims_mib", "no growth: 60 bytes a claim would show", |figures| {
        Some(Bar::Below((figures.get("rss_after_1000_claims_mib")? + GROWTH_MIB).min(20.0)))
    }),
    ("api_writes_on_restart", "with nothing changed", |_| Some(Bar::Below(0.0))),
    ("allocate_p50_ms", "a container gets 8 of 16 GPUs by count", |_| None),
    ("allocate_p99_ms", "a container gets 8 of 16 GPUs by count", |_| Some(Bar::Below(1.0))),
    ("preferred_allocation_p99_ms", "which 8 of 16 GPUs it should get", |_| Some(Bar::Below(1.0))),
    ("api_calls_by_count", "requests to the API server meanwhile", |_| Some(Bar::Below(0.0))),
    ("simulate_steps_per_s", "steps of a simulated node", |_| None),
    ("rpc_floor_p50_ms", "a bare call on the same socket", |_| None),
    ("api_floor_p50_ms", "one GET of a claim", |_| None),
    ("api_floor_p99_ms", "one GET of a claim", |_| None),
    ("file_floor_p50_ms", "one create and rename where CDI files go", |_| None),
];

impl Figures {
    pub(crate) fn new(with: With) -> Self {
        Self { with, values: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, key: &'static str, value: f64) {
        self.values.insert(key, value);
    }

    fn get(&self, key: &str) -> Option<f64> {
        self.values.get(key).copied()
    }

    /// Reads what [`Figures::json`] wrote in another process.
    pub(crate) fn read(with: With, json: &str) -> Result<Self> {
        let values: BTreeMap<String, f64> = serde_json::from_str(json).context("these are no figures")?;
        let mut figures = Self::new(with);
        for (name, value) in values {
            let row = ROWS.iter().find(|(key, ..)| figures.public(key) == name);
            let (key, ..) = row.with_context(|| format!("{name} is no figure"))?;
            figures.set(key, value);
        }
        Ok(figures)
    }

    /// What a key is called outside of this program.
    fn public(&self, key: &str) -> String {
        match self.with {
            With::StandIns => key.to_owned(),
            With::Cluster => format!("cluster_{key}"),
        }
    }

    /// A bar that only stand-ins leave to the agent: a real kubelet looks for new plugins once a second, and a real API
    /// server works on the same cores.
    fn of_the_agent(&self, bar: Bar) -> Option<Bar> {
        (self.with == With::StandIns).then_some(bar)
    }

    /// What the parts of a prepare cost by themselves.
    fn parts(&self) -> Option<f64> {
        ["rpc_floor_p50_ms", "api_floor_p50_ms", "file_floor_p50_ms"].iter().map(|key| self.get(key)).sum()
    }

    /// For people.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["FIGURE", "VALUE", "BAR", "", "WHAT"]);
        for (key, what, bar) in ROWS {
            let Some(value) = self.get(key) else { continue };
            let (bar, holds) = match bar(self) {
                None => (String::new(), ""),
                Some(Bar::Below(bar)) => (format!("<= {}", shown(bar)), if value <= bar { "ok" } else { "OVER" }),
                Some(Bar::Above(bar)) => (format!(">= {}", shown(bar)), if value >= bar { "ok" } else { "UNDER" }),
            };
            let what = match (self.with, key) {
                (With::Cluster, "start_to_published_ms" | "slices_8x26_start_to_published_ms") => {
                    &format!("{what}; the kubelet looks once a second")
                }
                _ => what,
            };
            table.add_row([self.public(key).as_str(), &shown(value), &bar, holds, what]);
        }
        table
    }

    /// For machines: one flat object.
    pub(crate) fn json(&self) -> String {
        let rounded =
            self.values.iter().map(|(key, value)| (self.public(key), ((value * 1000.0).round() / 1000.0).into()));
        format!("{:#}\n", serde_json::Value::Object(rounded.collect()))
    }
}

fn shown(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 { format!("{value:.3}") } else { format!("{value:.0}") }
}

/// The time below which this share (0 to 1) of the samples lies, in milliseconds.
pub(crate) fn percentile(samples: &mut [Duration], share: f64) -> f64 {
    samples.sort();
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a small index"
    )]
    let index = (last as f64 * share).round() as usize;
    samples.get(index).map_or(f64::NAN, |sample| sample.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_samples() {
        let mut samples: Vec<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut samples, 0.5), 51.0);
        assert_eq!(percentile(&mut samples, 0.99), 100.0);
        assert!(percentile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn a_bar_made_of_floors() {
        let mut figures = Figures::new(With::StandIns);
        for (key, value) in
            [("rpc_floor_p50_ms", 0.1), ("api_floor_p50_ms", 0.2), ("file_floor_p50_ms", 0.7), ("prepare_p50_ms", 1.4)]
        {
            figures.set(key, value);
        }
        let table = figures.table().to_string();
        assert!(
            table
                .lines()
                .any(|line| line.contains("prepare_p50_ms") && line.contains("1.300") && line.contains("OVER")),
            "{table}"
        );
    }

    #[test]
    fn figures_travel_between_processes() {
        let mut figures = Figures::new(With::Cluster);
        for (key, _, _) in ROWS {
            figures.set(key, 1.25);
        }
        let json = figures.json();
        assert!(json.contains("\"cluster_prepare_p50_ms\": 1.25"), "{json}");
        let read = Figures::read(With::Cluster, &json).unwrap();
        assert_eq!(read.json(), json);
        assert!(read.table().to_string().contains("cluster_start_to_published_ms"));
        let unknown = Figures::read(With::Cluster, "{\"cluster_speed\": 1}").unwrap_err();
        assert_eq!(unknown.to_string(), "cluster_speed is no figure");
    }
}
