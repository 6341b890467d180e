use crate::{Config, ResourceName};

/// How pods share the devices of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// It is not said: what was cut is no resource of its own.
    Off,
    /// Each device is one pod's.
    None,
    /// They take turns.
    TimeSlicing {
        /// How many can have each.
        replicas: u32,
        /// Whether its name tells it from what is not shared.
        renamed: bool,
    },
}

impl Sharing {
    /// What a config says of a resource.
    pub(super) fn of(config: &Config, name: Option<&ResourceName>) -> Self {
        let Some((slicing, name)) = config.time_slicing.as_ref().zip(name) else { return Self::None };
        match slicing.resources.iter().find(|replicated| replicated.name == *name) {
            Some(replicated) => Self::TimeSlicing {
                replicas: replicated.replicas,
                renamed: replicated.rename.is_some() || slicing.rename_by_default,
            },
            None => Self::None,
        }
    }

    pub(super) fn replicas(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::None => 1,
            Self::TimeSlicing { replicas, .. } => replicas,
        }
    }

    pub(super) fn strategy(self) -> &'static str {
        match self {
            Self::Off | Self::None => "none",
            Self::TimeSlicing { .. } => "time-slicing",
        }
    }

    /// What is behind the product's name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::TimeSlicing { renamed: false, .. } => "-SHARED",
            Self::Off | Self::None | Self::TimeSlicing { renamed: true, .. } => "",
        }
    }
}
