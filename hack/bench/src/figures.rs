//! The figures, and the bars that they are held against (design.md, section 5).

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{Table, presets};

/// Figures by key. The keys are stable: runs of two commits are compared by them.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<&'static str, f64>);

/// A figure, what it is, and its bar.
type Row = (&'static str, &'static str, fn(&Figures) -> Option<Bar>);

/// What a figure should be.
enum Bar {
    Below(f64),
    Above(f64),
}

const ROWS: [Row; 11] = [
    ("prepare_p50_ms", "new claim of one GPU", |figures| Some(Bar::Below(1.3 * figures.parts()?))),
    ("prepare_p99_ms", "new claim of one GPU", |_| Some(Bar::Below(5.0))),
    ("prepare_known_p50_ms", "the same call repeated", |figures| {
        Some(Bar::Below(2.0 * figures.get("rpc_floor_p50_ms")?))
    }),
    ("prepares_per_s_1", "one in flight", |_| None),
    ("prepares_per_s_64", "64 in flight", |_| Some(Bar::Above(1000.0))),
    ("start_to_published_ms", "started to registered and published", |_| Some(Bar::Below(500.0))),
    ("rss_idle_mib", "resident memory, 8 GPUs, idle", |_| Some(Bar::Below(20.0))),
    ("api_writes_on_restart", "with nothing changed", |_| Some(Bar::Below(0.0))),
    ("rpc_floor_p50_ms", "a bare call on the same socket", |_| None),
    ("api_floor_p50_ms", "one GET of a claim", |_| None),
    ("file_floor_p50_ms", "one create and rename where CDI files go", |_| None),
];

impl Figures {
    pub(crate) fn set(&mut self, key: &'static str, value: f64) {
        self.0.insert(key, value);
    }

    fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).copied()
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
            table.add_row([key, &shown(value), &bar, holds, what]);
        }
        table
    }

    /// For machines: one flat object.
    pub(crate) fn json(&self) -> String {
        let rounded = self.0.iter().map(|(key, value)| ((*key).to_owned(), ((value * 1000.0).round() / 1000.0).into()));
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
        let mut figures = Figures::default();
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
}
