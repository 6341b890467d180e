use std::fmt;

/// What the kubelet knows a device by: the id of a unit, and which of its replicas it is where several pods share it.
///
/// As NVIDIA's own device plugin has them (`GPU-…`, `MIG-…`, `GPU-…::3`), since tools that tell which pod uses which GPU
/// read them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    unit: String,
    replica: Option<u32>,
}

impl DeviceId {
    /// A unit of which there is one.
    pub fn of(unit: &str) -> Self {
        Self { unit: unit.to_owned(), replica: None }
    }

    /// One of the replicas of a unit, counted from 0.
    pub fn replica(unit: &str, number: u32) -> Self {
        Self { unit: unit.to_owned(), replica: Some(number) }
    }

    /// What the kubelet said. Whatever does not end in the number of a replica is a unit's id.
    pub fn read(text: &str) -> Self {
        let replica = text.rsplit_once("::").and_then(|(unit, number)| Some(Self::replica(unit, number.parse().ok()?)));
        // A number that is written otherwise than here, such as 03, is none of ours.
        replica.filter(|id| id.to_string() == text).unwrap_or_else(|| Self::of(text))
    }

    /// The id of the unit.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// Whether others share the unit.
    pub fn is_replica(&self) -> bool {
        self.replica.is_some()
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.replica {
            None => f.write_str(&self.unit),
            Some(number) => write!(f, "{}::{number}", self.unit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_read_back() {
        for (text, unit, is_replica) in [
            ("GPU-1", "GPU-1", false),
            ("GPU-1::0", "GPU-1", true),
            ("GPU-1::12", "GPU-1", true),
            ("GPU-1::03", "GPU-1::03", false),
            ("GPU-1::", "GPU-1::", false),
            ("::1", "", true),
            ("", "", false),
        ] {
            let id = DeviceId::read(text);
            assert_eq!((id.unit(), id.is_replica(), id.to_string().as_str()), (unit, is_replica, text));
        }
    }
}
