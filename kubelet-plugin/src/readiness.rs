//! How far each driver of the node is, and whether the node can be given work.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_vocabulary::DriverName;
use tokio::sync::watch;

/// How far a driver is.
#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// It is on its way.
    Starting,
    /// The node has none of its hardware, and holds no claim of it.
    Standby,
    /// The kubelet can call it, or soon can.
    Serving(Serving),
    /// It could not be served, and is tried again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What has to be true of a driver that is served before the node can be given work for it.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    /// The kubelet has confirmed the registration.
    pub(crate) registered: watch::Receiver<bool>,
    /// The slices are as they should be.
    pub(crate) published: watch::Receiver<bool>,
}

/// The stages of all drivers of the node; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness {
    stages: Arc<Mutex<BTreeMap<DriverName, Stage>>>,
}

impl Stage {
    /// Whether nothing is missing: a driver without hardware waits for nobody, and nobody for it.
    fn is_ready(&self) -> bool {
        match self {
            Self::Standby => true,
            Self::Serving(serving) => *serving.registered.borrow() && *serving.published.borrow(),
            Self::Starting | Self::Failed { .. } => false,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Standby => f.write_str("not served, none of its hardware is on this node"),
            Self::Serving(Serving { registered, published }) => write!(
                f,
                "registered with the kubelet: {}, slices published: {}",
                *registered.borrow(),
                *published.borrow()
            ),
            Self::Failed { reason } => write!(f, "cannot be served, tried again: {reason}"),
        }
    }
}

impl Readiness {
    /// A driver is at another stage.
    pub(crate) fn set(&self, driver: &DriverName, stage: Stage) {
        self.stages().insert(driver.clone(), stage);
    }

    /// Whether another driver than this one is served, or may be soon.
    pub(crate) fn is_other_alive(&self, driver: &DriverName) -> bool {
        let alive = |stage: &Stage| matches!(stage, Stage::Starting | Stage::Serving(_));
        self.stages().iter().any(|(other, stage)| other != driver && alive(stage))
    }

    /// Whether no driver misses anything.
    pub(crate) fn is_ready(&self) -> bool {
        self.stages().values().all(Stage::is_ready)
    }

    /// Each driver that has hardware here, and whether it is ready.
    pub(crate) fn wanted(&self) -> Vec<(DriverName, bool)> {
        let stages = self.stages();
        let wanted = stages.iter().filter(|(_, stage)| !matches!(stage, Stage::Standby));
        wanted.map(|(driver, stage)| (driver.clone(), stage.is_ready())).collect()
    }

    fn stages(&self) -> MutexGuard<'_, BTreeMap<DriverName, Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line for each driver.
impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stages().iter().try_for_each(|(driver, stage)| writeln!(f, "{driver}: {stage}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(registered: bool, published: bool) -> Stage {
        let at = |value| watch::channel(value).1;
        Stage::Serving(Serving { registered: at(registered), published: at(published) })
    }

    #[test]
    fn the_node_is_ready_when_every_driver_with_hardware_is() {
        let [gpu, tpu] = ["gpu.nvidia.com", "tpu.google.com"].map(|name| name.parse::<DriverName>().unwrap());
        let failed = Stage::Failed { reason: "no socket".to_owned() };
        for (stages, ready, gpu_is_alone) in [
            ([Stage::Starting, Stage::Standby], false, true),
            ([serving(true, true), Stage::Standby], true, true),
            ([serving(true, true), serving(true, false)], false, false),
            ([serving(true, true), Stage::Starting], false, false),
            ([serving(true, true), failed], false, true),
            ([Stage::Standby, Stage::Standby], true, true),
        ] {
            let readiness = Readiness::default();
            let [first, second] = stages;
            readiness.set(&gpu, first);
            readiness.set(&tpu, second);
            assert_eq!((readiness.is_ready(), !readiness.is_other_alive(&gpu)), (ready, gpu_is_alone), "{readiness}");
        }
    }

    #[test]
    fn every_stage_is_told_with_its_driver() {
        let readiness = Readiness::default();
        for (name, stage) in [
            ("a.example.com", Stage::Starting),
            ("b.example.com", Stage::Standby),
            ("c.example.com", serving(true, false)),
            ("d.example.com", Stage::Failed { reason: "/dra@kubelet.sock exists and is no socket".to_owned() }),
        ] {
            readiness.set(&name.parse().unwrap(), stage);
        }
        insta::assert_snapshot!(readiness);
    }
}
