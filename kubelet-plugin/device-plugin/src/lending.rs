use std::collections::BTreeMap;

use tessera_core::{Loan, Loans, Use};

use crate::Held;

/// What the kubelet tells of loans, by which they begin and end.
///
/// The kubelet says nothing when a pod ends; it only tells what pods have. So a loan ends when it was silent about it several
/// times in a row, each time asked after the last grant.
#[derive(Clone, Debug, Default)]
pub struct Lending {
    /// What the kubelet told last.
    told: Held,
    silences: BTreeMap<String, Silence>,
}

/// The kubelet said nothing of a unit.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// The grant that it was silent about, and whether it had told of it before: after another one, and once another agent
    /// has heard of it, the counting begins anew.
    about: (u64, bool),
    /// So often in a row.
    times: u32,
}

/// So many silences end a loan: one alone may be that of a kubelet that was about to tell.
const SILENCES: u32 = 2;
/// So many end one of which the kubelet has never told. It first tells when all of the container's resources were allocated,
/// and another device plugin may take its time.
const SILENCES_AT_FIRST: u32 = 30;

/// When the kubelet was asked: after so many grants.
#[derive(Clone, Copy, Debug)]
pub struct Asked(u64);

impl Asked {
    /// It is about to be asked, and this is what pods have.
    pub fn after(loans: &Loans) -> Self {
        Self(loans.grants)
    }
}

impl Lending {
    /// The kubelet has answered.
    pub fn hear(&mut self, loans: &mut Loans, asked: Asked, held: Held, uses: impl Fn(&str) -> Option<Vec<Use>>) {
        let mut before = std::mem::take(&mut self.silences);
        loans.units.retain(|unit, loan| {
            if held.names(unit) {
                loan.heard = true;
                return true;
            }
            let about = (loan.granted, loan.heard);
            let so_far =
                before.remove(unit).filter(|silence| silence.about == about).map_or(0, |silence| silence.times);
            let times = so_far + u32::from(loan.granted <= asked.0);
            let stays = times < if loan.heard { SILENCES } else { SILENCES_AT_FIRST };
            if stays {
                self.silences.insert(unit.clone(), Silence { about, times });
            }
            stays
        });
        self.told = held;
        self.recognize(loans, uses);
    }

    /// Finds what the kubelet told of among the units that are seen now. `uses` says what of the hardware a unit takes, if it
    /// is one of them: the kubelet tells of those of all device plugins. What a unit took when it was lent stays, also
    /// where nobody sees it any more.
    pub fn recognize(&self, loans: &mut Loans, uses: impl Fn(&str) -> Option<Vec<Use>>) {
        for (unit, resource, shared) in self.told.units() {
            if !loans.units.contains_key(unit)
                && let Some(uses) = uses(unit)
            {
                let loan = Loan { heard: true, ..Loan::new(resource.to_owned(), shared, uses) };
                loans.units.insert(unit.to_owned(), loan);
            }
        }
    }

    /// Whether the kubelet told of nothing that pods have.
    pub fn is_idle(&self) -> bool {
        self.told.units().next().is_none()
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
        /// Another agent has heard of it.
        HeardByAnother,
    }
    use Event::{Grant, GrantMeanwhile, HeardByAnother, Silences, Tell};

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
            ("heard of by another agent", vec![Grant, Silences(9), HeardByAnother, Silences(1)], true),
            ("and heard of no more", vec![Grant, Silences(9), HeardByAnother, Silences(2)], false),
            ("and not heard of yet", vec![Tell(true), Silences(1), GrantMeanwhile, Silences(29)], true),
        ] {
            let (mut lending, mut loans) = (Lending::default(), Loans::default());
            let grant = |loans: &mut Loans| {
                loans.grant("GPU-1".to_owned(), Loan::new("nvidia.com/gpu".to_owned(), false, Vec::new()));
            };
            let mut tell = |loans: &mut Loans, named, granted| {
                let mut held = Held::default();
                if named {
                    held.add("nvidia.com/gpu", &DeviceId::of("GPU-1"));
                }
                let asked = Asked::after(loans);
                if granted {
                    grant(loans);
                }
                lending.hear(loans, asked, held, |_| Some(Vec::new()));
            };
            for event in events {
                match event {
                    Grant => grant(&mut loans),
                    Tell(named) => tell(&mut loans, named, false),
                    GrantMeanwhile => tell(&mut loans, false, true),
                    Silences(number) => (0..number).for_each(|_| tell(&mut loans, false, false)),
                    HeardByAnother => loans.units.values_mut().for_each(|loan| loan.heard = true),
                }
            }
            assert_eq!(loans.units.contains_key("GPU-1"), expected, "{what}");
        }
    }

    #[test]
    fn what_is_another_plugins_is_nobodys_here() {
        let (mut lending, mut loans) = (Lending::default(), Loans::default());
        let asked = Asked::after(&loans);
        let mut held = Held::default();
        held.add("example.com/nic", &DeviceId::of("nic-0"));
        lending.hear(&mut loans, asked, held, |_| None);
        assert!(loans.units.is_empty());
    }

    #[test]
    fn what_is_seen_later_is_lent_from_then_on() {
        let (mut lending, mut loans) = (Lending::default(), Loans::default());
        let asked = Asked::after(&loans);
        let mut held = Held::default();
        held.add("nvidia.com/gpu", &DeviceId::of("GPU-1"));
        lending.hear(&mut loans, asked, held, |_| None);
        lending.recognize(&mut loans, |unit| (unit == "GPU-1").then(Vec::new));
        assert!(loans.units.contains_key("GPU-1"));
    }
}
