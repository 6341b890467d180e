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

/// What goes wrong with the next requests of a kind.
struct Ordered {
    resource: Resource,
    /// `None`: whatever is asked for.
    verb: Option<String>,
    times: usize,
    fault: Fault,
}

/// The faults to come.
#[derive(Default)]
pub(crate) struct Faults {
    ordered: Vec<Ordered>,
    /// The drivers whose slices are refused.
    refused: BTreeSet<String>,
}

impl Faults {
    pub(crate) fn add(&mut self, verb: Option<&str>, resource: Resource, times: usize, fault: Fault) {
        self.ordered.push(Ordered { resource, verb: verb.map(str::to_owned), times, fault });
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
    pub(crate) fn next(&mut self, verb: &str, resource: Resource) -> Option<Fault> {
        let is_meant = |one: &&mut Ordered| {
            one.resource == resource && one.times > 0 && one.verb.as_deref().is_none_or(|meant| meant == verb)
        };
        let next = self.ordered.iter_mut().find(is_meant)?;
        next.times -= 1;
        Some(next.fault)
    }
}
