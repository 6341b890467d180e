use std::time::Duration;

use super::Resource;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status (403, 429, 500, ...) and changes nothing.
    Status(u16),
    /// It takes this much longer.
    Slow(Duration),
    /// It is never answered.
    Silent,
}

/// The faults to come.
#[derive(Default)]
pub(crate) struct Faults(Vec<(Resource, usize, Fault)>);

impl Faults {
    pub(crate) fn add(&mut self, resource: Resource, times: usize, fault: Fault) {
        self.0.push((resource, times, fault));
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes the fault of the next request.
    pub(crate) fn next(&mut self, resource: Resource) -> Option<Fault> {
        let (_, times, fault) = self.0.iter_mut().find(|(about, times, _)| *about == resource && *times > 0)?;
        *times -= 1;
        Some(*fault)
    }
}
