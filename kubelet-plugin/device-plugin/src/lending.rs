use std::collections::BTreeMap;

use tessera_core::{Loan, Use};

/// What pods have by way of the device plugin: what was granted here, and what the kubelet tells.
///
/// The kubelet says nothing when a pod ends; it only lists what pods have. So a loan ends when two listings in a row do not
/// name it that were both asked for after it was granted: a pod that is on its way in may be missing in one.
#[derive(Clone, Debug, Default)]
pub struct Lending {
    lent: BTreeMap<String, Lent>,
    /// The number of grants and questions so far: what came before what.
    moment: u64,
}

#[derive(Clone, Debug)]
struct Lent {
    loan: Loan,
    /// When it was granted for the last time.
    granted: u64,
    missing_before: bool,
}

/// When the kubelet was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked(u64);

/// What the kubelet answered.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What pods have, by the id of the unit, and the resource that they asked for.
    pub units: BTreeMap<String, String>,
    /// Whether the kubelet can be taken to know all pods: one that has just started does not.
    pub complete: bool,
}

impl Lending {
    /// Pods get this unit now.
    pub fn grant(&mut self, unit: String, loan: Loan) {
        self.moment += 1;
        self.lent.insert(unit, Lent { loan, granted: self.moment, missing_before: false });
    }

    /// The kubelet is about to be asked.
    pub fn ask(&mut self) -> Asked {
        self.moment += 1;
        Asked(self.moment)
    }

    /// The kubelet has answered. `uses` says what of the hardware a unit takes, if it is one of these: the kubelet lists
    /// those of all device plugins. What a unit took when it was lent stays, also where nobody sees it any more.
    pub fn hear(&mut self, asked: Asked, listed: &Listed, uses: impl Fn(&str) -> Option<Vec<Use>>) {
        for (unit, resource) in &listed.units {
            if let Some(lent) = self.lent.get_mut(unit) {
                lent.missing_before = false;
            } else if let Some(uses) = uses(unit) {
                let loan = Loan { resource: resource.clone(), uses };
                self.lent.insert(unit.clone(), Lent { loan, granted: asked.0, missing_before: false });
            }
        }
        if !listed.complete {
            self.lent.values_mut().for_each(|lent| lent.missing_before = false);
            return;
        }
        self.lent.retain(|unit, lent| {
            if listed.units.contains_key(unit) || lent.granted > asked.0 {
                return true;
            }
            !std::mem::replace(&mut lent.missing_before, true)
        });
    }

    /// What pods have.
    pub fn loans(&self) -> BTreeMap<String, Loan> {
        self.lent.iter().map(|(unit, lent)| (unit.clone(), lent.loan.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Event {
        Grant,
        /// The kubelet is asked, and names it or not.
        List(bool),
        /// The same of a kubelet that has just started.
        ListEarly(bool),
        /// It is granted while the kubelet answers that nobody has it.
        GrantWhileListed,
    }
    use Event::{Grant, GrantWhileListed, List, ListEarly};

    #[test]
    fn a_loan_ends_when_the_kubelet_has_been_silent_about_it_twice() {
        for (what, events, expected) in [
            ("granted", vec![Grant], true),
            ("found", vec![List(true)], true),
            ("found early", vec![ListEarly(true)], true),
            ("on its way", vec![Grant, List(false)], true),
            ("never came", vec![Grant, List(false), List(false)], false),
            ("ended", vec![Grant, List(true), List(false), List(false)], false),
            ("missed once", vec![Grant, List(false), List(true), List(false)], true),
            ("granted anew", vec![Grant, List(false), Grant, List(false)], true),
            ("granted anew just then", vec![Grant, List(false), GrantWhileListed], true),
            ("granted anew just then and once later", vec![Grant, List(false), GrantWhileListed, List(false)], true),
            ("the kubelet started", vec![Grant, List(true), ListEarly(false), ListEarly(false)], true),
            ("it started and knows", vec![Grant, ListEarly(false), List(false), List(false)], false),
            ("it started in between", vec![Grant, List(false), ListEarly(false), List(false)], true),
        ] {
            let mut lending = Lending::default();
            let loan = || Loan { resource: "nvidia.com/gpu".to_owned(), uses: Vec::new() };
            let list = |lending: &mut Lending, named, complete, granted| {
                let units =
                    if named { [("GPU-1".to_owned(), "nvidia.com/gpu".to_owned())].into() } else { BTreeMap::new() };
                let asked = lending.ask();
                if granted {
                    lending.grant("GPU-1".to_owned(), loan());
                }
                lending.hear(asked, &Listed { units, complete }, |_| Some(Vec::new()));
            };
            for event in events {
                match event {
                    Grant => lending.grant("GPU-1".to_owned(), loan()),
                    List(named) => list(&mut lending, named, true, false),
                    ListEarly(named) => list(&mut lending, named, false, false),
                    GrantWhileListed => list(&mut lending, false, true, true),
                }
            }
            assert_eq!(lending.loans().contains_key("GPU-1"), expected, "{what}");
        }
    }

    #[test]
    fn what_is_another_plugins_is_nobodys_here() {
        let mut lending = Lending::default();
        let asked = lending.ask();
        let units = [("nic-0".to_owned(), "example.com/nic".to_owned())].into();
        lending.hear(asked, &Listed { units, complete: true }, |_| None);
        assert!(lending.loans().is_empty());
    }
}
