//! Faults: what makes a call fail or take long.

use serde::{Deserialize, Serialize};

use crate::nvml_error::NvmlError;
use crate::pci::PciAddress;

/// A rule that makes calls of NVML fail or take long. Each process counts the calls that a rule matches for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Given by [`crate::Hardware::add_fault`]; never used twice, so that counters of an old rule die with it.
    #[serde(default)]
    pub id: u64,
    /// The function's name, one of [`crate::FUNCTIONS`], or `*` for all.
    pub function: String,
    /// Only calls about this GPU; absent means all calls.
    #[serde(default)]
    pub gpu: Option<PciAddress>,
    /// What the call answers; absent lets it go on.
    #[serde(default)]
    pub error: Option<NvmlError>,
    /// How long the call takes before it goes on or fails, in milliseconds; it goes on at once when the rule is removed.
    #[serde(default)]
    pub latency_ms: u64,
    /// The first matching call that the rule acts on; 1 is the first one after a process has seen the rule.
    pub from: u64,
    /// How many calls it acts on; absent means no end.
    #[serde(default)]
    pub times: Option<u64>,
}

impl Fault {
    /// All calls of this function (or `*`), on every GPU, from now on.
    pub fn new(function: impl Into<String>) -> Self {
        Self { id: 0, function: function.into(), gpu: None, error: None, latency_ms: 0, from: 1, times: None }
    }

    /// Whether the rule is about this call. `gpu` is absent for calls that are about no GPU.
    pub fn matches(&self, function: &str, gpu: Option<PciAddress>) -> bool {
        (self.function == "*" || self.function == function) && (self.gpu.is_none() || self.gpu == gpu)
    }

    /// Whether the rule acts on the `count`-th call that it matches, counted from 1.
    pub fn acts_on(&self, count: u64) -> bool {
        count >= self.from && self.times.is_none_or(|times| count - self.from < times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_calls() {
        let window = Fault { from: 3, times: Some(2), ..Fault::new("*") };
        let acted: Vec<u64> = (1..=6).filter(|count| window.acts_on(*count)).collect();
        assert_eq!(acted, [3, 4]);
        assert!(Fault::new("*").acts_on(1) && Fault::new("*").acts_on(u64::MAX));
    }

    #[test]
    fn what_a_rule_is_about() {
        let gpu: PciAddress = "0000:1b:00.0".parse().unwrap();
        let other: PciAddress = "0000:43:00.0".parse().unwrap();
        let rule = Fault { gpu: Some(gpu), ..Fault::new("nvmlDeviceGetUUID") };
        for (function, about, expected) in [
            ("nvmlDeviceGetUUID", Some(gpu), true),
            ("nvmlDeviceGetUUID", Some(other), false),
            ("nvmlDeviceGetUUID", None, false),
            ("nvmlDeviceGetName", Some(gpu), false),
        ] {
            assert_eq!(rule.matches(function, about), expected, "{function} {about:?}");
        }
        assert!(Fault::new("*").matches("nvmlInit_v2", None));
    }
}
