use tessera_config::DeviceType;
use tessera_vocabulary::DriverName;

/// Whose accelerators a driver serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// NVIDIA GPUs.
    Nvidia,
    /// Google TPUs.
    Tpu,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 2] = [Self::Nvidia, Self::Tpu];

    /// The word for it, in flags and in the chart.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nvidia => "nvidia",
            Self::Tpu => "tpu",
        }
    }

    /// The name of its driver where nobody says another, which is that of the vendor's own.
    pub fn default_driver(self) -> DriverName {
        match self {
            Self::Nvidia => DriverName::nvidia_gpu(),
            Self::Tpu => DriverName::google_tpu(),
        }
    }

    pub(crate) const fn has(self, device_type: DeviceType) -> bool {
        match device_type {
            DeviceType::Gpu | DeviceType::Partition | DeviceType::Passthrough => matches!(self, Self::Nvidia),
            DeviceType::Tpu => matches!(self, Self::Tpu),
        }
    }
}

/// The drivers whose configs are ours to judge. Those of others are passed over, also a vendor's own where its family is not
/// served by us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drivers(Vec<(Family, DriverName)>);

impl Drivers {
    /// These. A family that is not among them is not served.
    pub fn new(drivers: impl IntoIterator<Item = (Family, DriverName)>) -> Self {
        Self(drivers.into_iter().collect())
    }

    /// Whose a driver is that a config names.
    pub(crate) fn find(&self, name: &str) -> Whose<'_> {
        let exactly = self.0.iter().find(|(_, ours)| ours.as_str() == name);
        let nearly = || self.0.iter().find(|(_, ours)| ours.as_str().eq_ignore_ascii_case(name));
        match (exactly, nearly) {
            (Some((family, _)), _) => Whose::Ours(*family),
            (None, nearly) => nearly().map_or(Whose::Others, |(_, ours)| Whose::Misspelt(ours)),
        }
    }

    /// The driver that has devices of a type, if there is one.
    pub(crate) fn with(&self, device_type: DeviceType) -> Option<&DriverName> {
        self.0.iter().find(|(family, _)| family.has(device_type)).map(|(_, name)| name)
    }
}

/// Every family, by the vendors' names.
impl Default for Drivers {
    fn default() -> Self {
        Self::new(Family::ALL.map(|family| (family, family.default_driver())))
    }
}

/// Whose a driver is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose<'a> {
    Ours(Family),
    /// The API takes capital letters in a name, and the agent looks for its own name as it is.
    Misspelt(&'a DriverName),
    Others,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_ours_by_its_very_name() {
        let nvidia: DriverName = "gpu.example.com".parse().unwrap();
        let drivers = Drivers::new([(Family::Nvidia, nvidia.clone())]);
        for (name, whose) in [
            ("gpu.example.com", Whose::Ours(Family::Nvidia)),
            ("GPU.example.com", Whose::Misspelt(&nvidia)),
            ("gpu.nvidia.com", Whose::Others),
            ("tpu.google.com", Whose::Others),
            ("", Whose::Others),
        ] {
            assert_eq!(drivers.find(name), whose, "{name}");
        }
        assert_eq!(Drivers::default().find("tpu.google.com"), Whose::Ours(Family::Tpu));
    }

    #[test]
    fn every_type_of_device_has_one_family() {
        for device_type in [DeviceType::Gpu, DeviceType::Partition, DeviceType::Passthrough, DeviceType::Tpu] {
            assert_eq!(Family::ALL.iter().filter(|family| family.has(device_type)).count(), 1, "{device_type}");
        }
    }
}
