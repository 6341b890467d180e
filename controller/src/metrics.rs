//! What the controller counts and times, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tessera_policy::Tally;

/// The metrics; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    leading: Gauge,
    writes: Family<Written, Counter>,
    nodes: Family<Nodes, Gauge>,
    decisions: Histogram,
    leftovers: Counter,
    healed: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Written {
    write: &'static str,
    result: Outcome,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    Success,
    /// Somebody else was faster.
    Conflict,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Nodes {
    policy: String,
    state: &'static str,
}

impl Metrics {
    /// With those of the admission webhook, where it is served.
    pub(crate) fn new(admission: Option<tessera_admission::Metrics>) -> Self {
        let mut all = Registry::with_prefix("tessera");
        if let Some(admission) = admission {
            admission.register(&mut all);
        }
        let registry = all.sub_registry_with_prefix("controller");
        let (leading, writes, nodes) = (Gauge::default(), Family::default(), Family::default());
        // 0.1 ms to 3 s.
        let decisions = Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let (leftovers, healed) = (Counter::default(), Counter::default());
        registry.register("leading", "Whether this replica leads", leading.clone());
        registry.register("writes", "Writes to the API server by what was written", Family::clone(&writes));
        registry.register("policy_nodes", "Nodes of a policy by how far they are", Family::clone(&nodes));
        registry.register_with_unit(
            "decision",
            "Time to decide what is to be written",
            Unit::Seconds,
            decisions.clone(),
        );
        registry.register("leftover_slices_removed", "ResourceSlices of nodes that are gone", leftovers.clone());
        registry.register("device_classes_put_right", "DeviceClasses that somebody had changed", healed.clone());
        Self { registry: Arc::new(all), leading, writes, nodes, decisions, leftovers, healed }
    }

    pub(crate) fn leads(&self) {
        self.leading.set(1);
    }

    pub(crate) fn written(&self, write: &'static str, result: Outcome) {
        self.writes.get_or_create(&Written { write, result }).inc();
    }

    pub(crate) fn decided(&self, took: Duration) {
        self.decisions.observe(took.as_secs_f64());
    }

    pub(crate) fn policy(&self, name: &str, nodes: Tally) {
        for (state, number) in
            [("ready", nodes.ready), ("changing", nodes.changing), ("failed", nodes.failed), ("waiting", nodes.waiting)]
        {
            self.nodes.get_or_create(&Nodes { policy: name.to_owned(), state }).set(number.into());
        }
    }

    pub(crate) fn policy_gone(&self, name: &str) {
        for state in ["ready", "changing", "failed", "waiting"] {
            self.nodes.remove(&Nodes { policy: name.to_owned(), state });
        }
    }

    pub(crate) fn leftover_removed(&self) {
        self.leftovers.inc();
    }

    pub(crate) fn class_put_right(&self) {
        self.healed.inc();
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry)?;
        Ok(body)
    }
}
