use std::collections::BTreeMap;

use tessera_core::{Loan, Use};

use crate::Held;

/// What pods have by way of the device plugin: what was granted here, and what the kubelet tells.
///
/// The kubelet says nothing when a pod ends; it only tells what pods have. So a loan ends when it was silent about it several
/// times in a row, each time asked after the last grant.
#[derive(Clone, Debug, Default)]
pub struct Lending {
    lent: BTreeMap<String, Lent>,
    /// What the kubelet told last.
    told: Held,
    /// The number of grants and questions so far: what came before what.
    moment: u64,
}

#[derive(Clone, Debug)]
struct Lent {
    loan: Loan,
    /// When it was granted for the last time.
    granted: u64,
    /// Whether the kubelet has told of it since.
    heard: bool,
    /// So often in a row it did not.
    silences: u32,
}

/// So many silences end a loan: one alone may be that of a kubelet that was about to tell.
const SILENCES: u32 = 2;
/// So many end one of which the kubelet has never told. It first tells when all of the container's resources were allocated,
/// and another device plugin may take its time.
const SILENCES_AT_FIRST: u32 = 30;

/// When the kubelet was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked(u64);

impl Lending {
    /// Pods get this unit now.
    pub fn grant(&mut self, unit: String, loan: Loan) {
        self.moment += 1;
        self.lent.insert(unit, Lent { loan, granted: self.moment, heard: false, silences: 0 });
    }

    /// The kubelet is about to be asked.
    pub fn ask(&mut self) -> Asked {
        self.moment += 1;
        Asked(self.moment)
    }

    /// The kubelet has answered.
    pub fn hear(&mut self, asked: Asked, held: Held, uses: impl Fn(&str) -> Option<Vec<Use>>) {
        self.lent.retain(|unit, lent| {
            if held.names(unit) {
                (lent.heard, lent.silences) = (true, 0);
            } else if lent.granted <= asked.0 {
                lent.silences += 1;
            }
            lent.silences < if lent.heard { SILENCES } else { SILENCES_AT_FIRST }
        });
        self.told = held;
        self.recognize(uses);
    }

    /// Finds what the kubelet told of among the units that are seen now. `uses` says what of the hardware a unit takes, if it
    /// is one of them: the kubelet tells of those of all device plugins. What a unit took when it was lent stays, also
    /// where nobody sees it any more.
    pub fn recognize(&mut self, uses: impl Fn(&str) -> Option<Vec<Use>>) {
        for (unit, resource, shared) in
            self.told.units().filter(|(unit, ..)| !self.lent.contains_key(*unit)).collect::<Vec<_>>()
        {
            if let Some(uses) = uses(unit) {
                let loan = Loan { resource: resource.to_owned(), shared, uses };
                self.lent.insert(unit.to_owned(), Lent { loan, granted: 0, heard: true, silences: 0 });
            }
        }
    }

    /// Whether pods have nothing, as far as the kubelet has told.
    pub fn is_idle(&self) -> bool {
        self.lent.is_empty() && self.told.units().next().is_none()
    }

    /// What pods have.
    pub fn loans(&self) -> BTreeMap<String, Loan> {
        self.lent.iter().map(|(unit, lent)| (unit.clone(), lent.loan.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceId;

    enum Event {
        Grant,
        /// The kubelet is asked, and names it or not.
        Tell(bool),
        /// It is granted while the kubelet answers that nobody has it.
        GrantMeanwhile,
        /// Silence, so often.
        Silences(u32),
    }
    use Event::{Grant, GrantMeanwhile, Silences, Tell};

    #[test]
    fn a_loan_ends_when_the_kubelet_has_been_silent_about_it_for_long_enough() {
        for (what, events, expected) in [
            ("granted", vec![Grant], true),
            ("found", vec![Tell(true)], true),
            ("on its way", vec![Grant, Silences(29)], true),
            ("never came", vec![Grant, Silences(30)], false),
            ("ended", vec![Grant, Tell(true), Silences(2)], false),
            ("missed once", vec![Grant, Tell(true), Silences(1), Tell(true), Silences(1)], true),
            ("granted anew", vec![Tell(true), Silences(1), Grant, Silences(1)], true),
            ("granted anew just then", vec![Tell(true), Silences(1), GrantMeanwhile], true),
            ("and not heard of yet", vec![Tell(true), Silences(1), GrantMeanwhile, Silences(29)], true),
        ] {
            let mut lending = Lending::default();
            let loan = || Loan { resource: "nvidia.com/gpu".to_owned(), shared: false, uses: Vec::new() };
            let tell = |lending: &mut Lending, named, granted| {
                let mut held = Held::default();
                if named {
                    held.add("nvidia.com/gpu", &DeviceId::of("GPU-1"));
                }
                let asked = lending.ask();
                if granted {
                    lending.grant("GPU-1".to_owned(), loan());
                }
                lending.hear(asked, held, |_| Some(Vec::new()));
            };
            for event in events {
                match event {
                    Grant => lending.grant("GPU-1".to_owned(), loan()),
                    Tell(named) => tell(&mut lending, named, false),
                    GrantMeanwhile => tell(&mut lending, false, true),
                    Silences(number) => (0..number).for_each(|_| tell(&mut lending, false, false)),
                }
            }
            assert_eq!(lending.loans().contains_key("GPU-1"), expected, "{what}");
        }
    }

    #[test]
    fn what_is_another_plugins_is_nobodys_here() {
        let mut lending = Lending::default();
        let asked = lending.ask();
        let mut held = Held::default();
        held.add("example.com/nic", &DeviceId::of("nic-0"));
        lending.hear(asked, held, |_| None);
        assert!(lending.loans().is_empty());
    }

    #[test]
    fn what_is_seen_later_is_lent_from_then_on() {
        let mut lending = Lending::default();
        let asked = lending.ask();
        let mut held = Held::default();
        held.add("nvidia.com/gpu", &DeviceId::of("GPU-1"));
        lending.hear(asked, held, |_| None);
        lending.recognize(|unit| (unit == "GPU-1").then(Vec::new));
        assert!(lending.loans().contains_key("GPU-1"));
    }
}
