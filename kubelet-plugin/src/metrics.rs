//! What the agent counts and times, for Prometheus. The kubelet's own histograms start at 100 ms, far above what a
//! prepare takes, so latencies are measured here.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tessera_core::{Condition, Inventory};

/// The metrics of one driver; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    calls: Family<Call, Histogram, fn() -> Histogram>,
    devices: Family<Devices, Gauge>,
    claims: Gauge,
    discovery_failures: Counter,
    slice_writes: Family<SliceWrite, Counter>,
    publish_age: Gauge<f64, AtomicU64>,
    look_age: Gauge<f64, AtomicU64>,
    notices: Family<Noticed, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    operation: Operation,
    result: Outcome,
}

/// What the kubelet asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Operation {
    Prepare,
    Unprepare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Outcome {
    Success,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Devices {
    condition: DeviceCondition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum DeviceCondition {
    Ready,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SliceWrite {
    verb: &'static str,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Noticed {
    reason: &'static str,
}

impl Metrics {
    /// Metrics that all carry the driver's name.
    pub(crate) fn new(driver: &str) -> Self {
        let labels = std::iter::once(("driver".into(), driver.to_owned().into()));
        let mut registry = Registry::with_prefix_and_labels("tessera", labels);
        // 0.1 ms to 52 s: a prepare takes less than a millisecond plus a GET, the kubelet waits 45 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 20));
        let metrics = Self {
            registry: Arc::default(),
            calls: Family::new_with_constructor(histogram),
            devices: Family::default(),
            claims: Gauge::default(),
            discovery_failures: Counter::default(),
            slice_writes: Family::default(),
            publish_age: Gauge::default(),
            look_age: Gauge::default(),
            notices: Family::default(),
        };
        registry.register_with_unit(
            "claim_operation",
            "Time to prepare or unprepare a claim",
            Unit::Seconds,
            metrics.calls.clone(),
        );
        registry.register("devices", "Devices of the node by condition", metrics.devices.clone());
        registry.register("claims_prepared", "Claims that are prepared on the node", metrics.claims.clone());
        registry.register(
            "discovery_failures",
            "Looks at the hardware that failed",
            metrics.discovery_failures.clone(),
        );
        registry.register("slice_writes", "Writes of ResourceSlices to the API server", metrics.slice_writes.clone());
        registry.register_with_unit(
            "publish_stale",
            "How long the published slices have differed from the hardware; 0 when they are true",
            Unit::Seconds,
            metrics.publish_age.clone(),
        );
        registry.register_with_unit(
            "hardware_look",
            "How long the look at the hardware that is under way has taken so far; 0 when none is",
            Unit::Seconds,
            metrics.look_age.clone(),
        );
        registry.register(
            "notices",
            "What the agent put right or could not, as in the events of the node",
            metrics.notices.clone(),
        );
        Self { registry: Arc::new(registry), ..metrics }
    }

    pub(crate) fn operation(&self, operation: Operation, succeeded: bool, took: Duration) {
        let result = if succeeded { Outcome::Success } else { Outcome::Error };
        self.calls.get_or_create(&Call { operation, result }).observe(took.as_secs_f64());
    }

    pub(crate) fn observed(&self, inventory: &Inventory) {
        let count = |condition, matches: fn(&Condition) -> bool| {
            let number = inventory.devices().iter().filter(|device| matches(&device.condition)).count();
            self.devices.get_or_create(&Devices { condition }).set(i64::try_from(number).unwrap_or(i64::MAX));
        };
        count(DeviceCondition::Ready, |condition| *condition == Condition::Ready);
        count(DeviceCondition::Lost, |condition| *condition != Condition::Ready);
    }

    pub(crate) fn claims(&self, number: usize) {
        self.claims.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn discovery_failed(&self) {
        self.discovery_failures.inc();
    }

    pub(crate) fn slice_written(&self, verb: &'static str, succeeded: bool) {
        let result = if succeeded { Outcome::Success } else { Outcome::Error };
        self.slice_writes.get_or_create(&SliceWrite { verb, result }).inc();
    }

    pub(crate) fn published_since(&self, stale: Duration) {
        self.publish_age.set(stale.as_secs_f64());
    }

    pub(crate) fn looking_since(&self, took: Duration) {
        self.look_age.set(took.as_secs_f64());
    }

    pub(crate) fn noticed(&self, reason: &'static str) {
        self.notices.get_or_create(&Noticed { reason }).inc();
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry)?;
        Ok(body)
    }
}
