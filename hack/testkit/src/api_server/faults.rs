use std::collections::BTreeSet;

use serde_json::Value;

use super::Resource;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status (403, 429, 500, ...) and changes nothing.
    Status(u16),
    /// It waits until [`ApiServer::fail_no_more`](super::ApiServer::fail_no_more), and then goes on.
    Held,
    /// It is never answered.
    Silent,
}

/// The faults to come.
#[derive(Default)]
pub(crate) struct Faults {
    ordered: Vec<(Resource, usize, Fault)>,
    /// The drivers whose slices are refused.
    refused: BTreeSet<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, resource: Resource, times: usize, fault: Fault) {
        self.ordered.push((resource, times, fault));
    }

    pub(crate) fn clear(&mut self) {
        self.ordered.clear();
        self.refused.clear();
    }

    pub(crate) fn refuse_slices_of(&mut self, driver: &str) {
        self.refused.insert(driver.to_owned());
    }

    /// Whether an object is a slice that is refused.
    pub(crate) fn refuses(&self, object: &Value) -> bool {
        object["spec"]["driver"].as_str().is_some_and(|driver| self.refused.contains(driver))
    }

    /// Takes the fault of the next request.
    pub(crate) fn next(&mut self, resource: Resource) -> Option<Fault> {
        let (_, times, fault) = self.ordered.iter_mut().find(|(about, times, _)| *about == resource && *times > 0)?;
        *times -= 1;
        Some(*fault)
    }
}
