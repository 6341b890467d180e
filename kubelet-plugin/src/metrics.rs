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
use tessera_policy::DeviceState;
use tessera_vocabulary::DriverName;

/// The metrics of all drivers of the node; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct NodeMetrics {
    registry: Arc<Registry>,
    families: Families,
}

/// The metrics of one driver; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    driver: Driver,
    families: Families,
}

/// Each has a label for the driver: a family stands once in the text, however many drivers there are.
#[derive(Clone, Debug)]
struct Families {
    calls: Family<Call, Histogram, fn() -> Histogram>,
    devices: Family<Devices, Gauge>,
    claims: Family<Driver, Gauge>,
    discovery_failures: Family<Driver, Counter>,
    slice_writes: Family<SliceWrite, Counter>,
    publish_age: Family<Driver, Gauge<f64, AtomicU64>>,
    look_age: Family<Driver, Gauge<f64, AtomicU64>>,
    ready: Family<Driver, Gauge>,
    notices: Family<Noticed, Counter>,
    config_refused: Family<Driver, Gauge>,
    layout_devices: Family<LaidOut, Gauge>,
    layout_changes: Family<Changed, Counter>,
    layout_seconds: Family<Took, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Driver {
    driver: Arc<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    driver: Arc<String>,
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
    driver: Arc<String>,
    condition: DeviceCondition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum DeviceCondition {
    Ready,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SliceWrite {
    driver: Arc<String>,
    verb: &'static str,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LaidOut {
    driver: Arc<String>,
    state: LayoutState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum LayoutState {
    Ready,
    Draining,
    Changing,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Changed {
    driver: Arc<String>,
    result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Took {
    driver: Arc<String>,
    stage: LayoutStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
enum LayoutStage {
    Draining,
    Changing,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Noticed {
    driver: Arc<String>,
    reason: &'static str,
}

impl NodeMetrics {
    /// Metrics of no driver yet.
    pub(crate) fn new() -> Self {
        let families = Families::new();
        let mut registry = Registry::with_prefix("tessera");
        families.register(&mut registry);
        Self { registry: Arc::new(registry), families }
    }

    /// Those of one driver, which are told from now on.
    pub(crate) fn driver(&self, name: &DriverName) -> Metrics {
        let driver = Driver { driver: Arc::new(name.to_string()) };
        let families = self.families.clone();
        // What has not happened yet is 0, not absent.
        families.claims.get_or_create(&driver).set(0);
        families.discovery_failures.get_or_create(&driver).inc_by(0);
        families.publish_age.get_or_create(&driver).set(0.0);
        families.look_age.get_or_create(&driver).set(0.0);
        Metrics { driver, families }
    }

    /// Whether a driver is served as it should be.
    pub(crate) fn ready(&self, name: &DriverName, ready: bool) {
        let driver = Driver { driver: Arc::new(name.to_string()) };
        self.families.ready.get_or_create(&driver).set(ready.into());
    }

    /// The OpenMetrics text.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry)?;
        Ok(body)
    }
}

impl Families {
    fn new() -> Self {
        // 0.1 ms to 52 s: a prepare takes less than a millisecond plus a GET, the kubelet waits 45 s.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 20));
        // 0.1 s to 58 hours: a change takes a second, a training that is waited for may take days.
        let of_layouts: fn() -> Histogram = || Histogram::new(exponential_buckets(0.1, 2.0, 22));
        Self {
            calls: Family::new_with_constructor(histogram),
            devices: Family::default(),
            claims: Family::default(),
            discovery_failures: Family::default(),
            slice_writes: Family::default(),
            publish_age: Family::default(),
            look_age: Family::default(),
            ready: Family::default(),
            notices: Family::default(),
            config_refused: Family::default(),
            layout_devices: Family::default(),
            layout_changes: Family::default(),
            layout_seconds: Family::new_with_constructor(of_layouts),
        }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "claim_operation",
            "Time to prepare or unprepare a claim",
            Unit::Seconds,
            self.calls.clone(),
        );
        registry.register("devices", "Devices of the node by condition", self.devices.clone());
        registry.register(
            "layout_devices",
            "Devices of the node by how far they are with the layout that a policy wants; absent where no policies are \
             followed",
            self.layout_devices.clone(),
        );
        registry.register("layout_changes", "Changes of what devices are offered as", self.layout_changes.clone());
        registry.register_with_unit(
            "layout_change",
            "How long devices were waited for, and how long it took to change them",
            Unit::Seconds,
            self.layout_seconds.clone(),
        );
        registry.register("claims_prepared", "Claims that are prepared on the node", self.claims.clone());
        registry.register("discovery_failures", "Looks at the hardware that failed", self.discovery_failures.clone());
        registry.register("slice_writes", "Writes of ResourceSlices to the API server", self.slice_writes.clone());
        registry.register_with_unit(
            "publish_stale",
            "How long the published slices have differed from the hardware; 0 when they are true",
            Unit::Seconds,
            self.publish_age.clone(),
        );
        registry.register_with_unit(
            "hardware_look",
            "How long the look at the hardware that is under way has taken so far; 0 when none is",
            Unit::Seconds,
            self.look_age.clone(),
        );
        registry.register(
            "driver_ready",
            "Whether the driver is registered with the kubelet and its slices are published; absent while the node has \
             none of its hardware",
            self.ready.clone(),
        );
        registry.register(
            "notices",
            "What the agent put right or could not, as in the events of the node",
            self.notices.clone(),
        );
        registry.register(
            "device_plugin_config_refused",
            "Whether the device plugin's config as it stands cannot be followed, and an earlier one is or none",
            self.config_refused.clone(),
        );
    }
}

impl Metrics {
    pub(crate) fn operation(&self, operation: Operation, succeeded: bool, took: Duration) {
        let result = if succeeded { Outcome::Success } else { Outcome::Error };
        self.families.calls.get_or_create(&Call { driver: self.name(), operation, result }).observe(took.as_secs_f64());
    }

    pub(crate) fn observed(&self, inventory: &Inventory) {
        let count = |condition, matches: fn(&Condition) -> bool| {
            let number = inventory.devices().iter().filter(|device| matches(&device.condition)).count();
            let devices = self.families.devices.get_or_create(&Devices { driver: self.name(), condition });
            devices.set(i64::try_from(number).unwrap_or(i64::MAX));
        };
        count(DeviceCondition::Ready, |condition| *condition == Condition::Ready);
        count(DeviceCondition::Lost, |condition| *condition != Condition::Ready);
    }

    pub(crate) fn claims(&self, number: usize) {
        self.families.claims.get_or_create(&self.driver).set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn discovery_failed(&self) {
        self.families.discovery_failures.get_or_create(&self.driver).inc();
    }

    pub(crate) fn slice_written(&self, verb: &'static str, succeeded: bool) {
        let result = if succeeded { Outcome::Success } else { Outcome::Error };
        self.families.slice_writes.get_or_create(&SliceWrite { driver: self.name(), verb, result }).inc();
    }

    pub(crate) fn published_since(&self, stale: Duration) {
        self.families.publish_age.get_or_create(&self.driver).set(stale.as_secs_f64());
    }

    pub(crate) fn looking_since(&self, took: Duration) {
        self.families.look_age.get_or_create(&self.driver).set(took.as_secs_f64());
    }

    pub(crate) fn noticed(&self, reason: &'static str) {
        self.families.notices.get_or_create(&Noticed { driver: self.name(), reason }).inc();
    }

    pub(crate) fn config_refused(&self, refused: bool) {
        self.families.config_refused.get_or_create(&self.driver).set(refused.into());
    }

    /// How far the devices are with their layouts.
    pub(crate) fn layouts(&self, states: impl Iterator<Item = DeviceState>) {
        let states: Vec<_> = states.collect();
        for (state, counted) in [
            (LayoutState::Ready, DeviceState::Ready),
            (LayoutState::Draining, DeviceState::Draining),
            (LayoutState::Changing, DeviceState::Changing),
            (LayoutState::Failed, DeviceState::Failed),
        ] {
            let number = states.iter().filter(|state| **state == counted).count();
            let devices = self.families.layout_devices.get_or_create(&LaidOut { driver: self.name(), state });
            devices.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// A device was waited for so long; `None` where it was not.
    pub(crate) fn layout_drained(&self, took: Option<Duration>) {
        if let Some(took) = took {
            self.layout_took(LayoutStage::Draining, took);
        }
    }

    /// A device was changed, or made again what it was.
    pub(crate) fn layout_changed(&self, succeeded: bool, took: Duration) {
        let result = if succeeded { Outcome::Success } else { Outcome::Error };
        self.families.layout_changes.get_or_create(&Changed { driver: self.name(), result }).inc();
        self.layout_took(LayoutStage::Changing, took);
    }

    fn layout_took(&self, stage: LayoutStage, took: Duration) {
        let took_of = self.families.layout_seconds.get_or_create(&Took { driver: self.name(), stage });
        took_of.observe(took.as_secs_f64());
    }

    fn name(&self) -> Arc<String> {
        Arc::clone(&self.driver.driver)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Metrics that nobody reads.
    pub(crate) fn metrics() -> Metrics {
        NodeMetrics::new().driver(&DriverName::nvidia_gpu())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stands_once_and_each_driver_in_it() {
        let node = NodeMetrics::new();
        for name in ["gpu.nvidia.com", "tpu.google.com"] {
            let name = name.parse().unwrap();
            node.driver(&name).discovery_failed();
            node.ready(&name, true);
        }
        let text = node.encode().unwrap();
        for line in [
            "# TYPE tessera_discovery_failures counter",
            "tessera_discovery_failures_total{driver=\"gpu.nvidia.com\"} 1",
            "tessera_discovery_failures_total{driver=\"tpu.google.com\"} 1",
            "tessera_publish_stale_seconds{driver=\"tpu.google.com\"} 0.0",
            "tessera_driver_ready{driver=\"tpu.google.com\"} 1",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in\n{text}");
        }
    }
}
