use super::api::Cluster;
use super::pace::Pace;
use super::version::Version;

/// What the kubelet says to a plugin that it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// That it is registered.
    Confirm,
    /// That it is refused, for this reason. From 1.36 on it is then tried again.
    Refuse(String),
    /// That it is refused, the first time; afterwards that it is registered, if this version ever tries again.
    RefuseOnce(String),
    /// One driver that it is refused, for this reason, and all others that they are registered.
    RefuseDriver {
        /// The driver.
        driver: String,
        /// Why.
        reason: String,
    },
    /// Nothing, as kubelets 1.34 and 1.35 after a failed step.
    Nothing,
}

/// Which kubelet it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The release that is played.
    pub version: Version,
    /// What plugins are told that register.
    pub answer: Answer,
    /// How fast its pauses pass.
    pub pace: Pace,
    /// From which the order of drivers, and of plugins after a restart, follows.
    pub seed: u64,
    /// Without one, it wipes nothing and runs no pods.
    pub cluster: Option<Cluster>,
    /// Whether it wipes slices, as the real one does. A test that counts the agent's writes may not want that.
    pub wipes: bool,
}

impl Settings {
    /// A kubelet of a version that confirms registrations and is in a hurry.
    pub fn of(version: Version) -> Self {
        Self { version, answer: Answer::Confirm, pace: Pace::TEST, seed: 0, cluster: None, wipes: true }
    }

    /// The cluster, if its slices are wiped.
    pub(super) fn wiped(&self) -> Option<&Cluster> {
        self.cluster.as_ref().filter(|_| self.wipes)
    }
}
