use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sealed::{seal, unseal};
use crate::{Unreadable, Use};

/// The first line of stored loans, but for the checksum.
const FORMAT: &str = "tessera-loans/1";

/// What pods have by way of the kubelet's device plugins, without a claim.
///
/// The kubelet keeps it too, and is asked again and again. It is kept here as well so that another agent of the node knows
/// what was granted before the kubelet does, which first writes it down when all device plugins of a pod have answered.
///
/// Fields are only ever added; what an older or newer agent wrote stays readable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loans {
    /// How often anything was granted since the node's boot.
    pub grants: u64,
    /// What pods have, by the id of the unit.
    pub units: BTreeMap<String, Loan>,
}

/// A unit that pods have by way of a device plugin, without a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loan {
    /// The extended resource that pods ask for, such as `nvidia.com/gpu`.
    pub resource: String,
    /// Whether several pods may have it, each a replica of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// What of the hardware it takes.
    pub uses: Vec<Use>,
    /// Which of the grants was the last of it; 0 where none is known and the kubelet tells of it.
    #[serde(default)]
    pub granted: u64,
    /// Whether the kubelet has told of it since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heard: bool,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Stored<L> {
    boot_id: String,
    #[serde(flatten)]
    loans: L,
}

impl Loan {
    /// One of which nothing is known yet but what it is.
    pub fn new(resource: String, shared: bool, uses: Vec<Use>) -> Self {
        Self { resource, shared, uses, granted: 0, heard: false }
    }
}

impl Loans {
    /// Pods get a unit now.
    pub fn grant(&mut self, unit: String, loan: Loan) {
        self.grants += 1;
        self.units.insert(unit, Loan { granted: self.grants, heard: false, ..loan });
    }

    /// Whether pods have the same by others, whenever they got it.
    pub fn lend_the_same(&self, others: &Self) -> bool {
        fn what<'a>((unit, loan): (&'a String, &'a Loan)) -> (&'a String, &'a String, bool, &'a [Use]) {
            (unit, &loan.resource, loan.shared, &loan.uses)
        }
        self.units.iter().map(what).eq(others.units.iter().map(what))
    }

    /// These, and what others say of units that these do not name.
    fn or(mut self, others: Self) -> Self {
        self.grants = self.grants.max(others.grants);
        others.units.into_iter().for_each(|(unit, loan)| {
            self.units.entry(unit).or_insert(loan);
        });
        self
    }

    /// What is known after a look at the disk, and whether that is more than is there, as it was before if `unwritten`: what is
    /// on disk, and as long as more was known, that too. Where nothing is, nothing changes.
    #[must_use]
    pub fn after_reading(&self, on_disk: Option<Self>, unwritten: bool) -> (Self, bool) {
        match on_disk {
            Some(loans) if !unwritten => (loans, false),
            Some(loans) => (self.clone().or(loans), true),
            None => (self.clone(), unwritten || *self != Self::default()),
        }
    }

    /// The bytes that they are kept as.
    ///
    /// # Errors
    /// When they cannot be expressed in JSON.
    pub fn encode(&self, boot_id: &str) -> serde_json::Result<Vec<u8>> {
        seal(FORMAT, &Stored { boot_id: boot_id.to_owned(), loans: self })
    }

    /// The loans that were kept; `None` if that was before the node was booted: the kubelet has told of none of them since.
    ///
    /// # Errors
    /// When there are none, or some that this version does not understand.
    pub fn decode(bytes: &[u8], boot_id: &str) -> Result<Option<Self>, Unreadable> {
        let stored: Stored<Self> = unseal(FORMAT, bytes)?;
        Ok((stored.boot_id == boot_id).then_some(stored.loans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::loan;

    /// A GPU of which the kubelet has told, and one that pods share since the first grant.
    fn loans() -> Loans {
        let mut loans = loan(2);
        loans.units.values_mut().for_each(|loan| loan.heard = true);
        grant(&mut loans, 1, true);
        loans
    }

    fn grant(loans: &mut Loans, bus: u8, shared: bool) {
        for (unit, known) in loan(bus).units {
            loans.grant(unit, Loan { shared, ..known });
        }
    }

    #[test]
    fn released_loans_are_read_and_todays_are_the_last_of_them() {
        let released: &[u8] = include_bytes!("fixtures/loans-0.1.0");
        assert_eq!(Loans::decode(released, "boot").unwrap(), Some(loans()));
        assert_eq!(Loans::decode(released, "the next boot").unwrap(), None);
        assert_eq!(String::from_utf8(loans().encode("boot").unwrap()).unwrap().as_bytes(), released);
        assert!(Loans::decode(&released[..released.len() - 1], "boot").unwrap_err().to_string().contains("header"));
    }

    #[test]
    fn what_is_granted_again_or_heard_of_is_the_same_loan() {
        let mut others = loans();
        grant(&mut others, 1, true);
        others.units.values_mut().for_each(|loan| loan.heard = !loan.heard);
        assert!(others != loans() && others.lend_the_same(&loans()));
        grant(&mut others, 1, false);
        assert!(!others.lend_the_same(&loans()) && !Loans::default().lend_the_same(&loans()));
    }

    #[test]
    fn of_two_that_know_of_a_unit_the_first_is_believed() {
        let mut others = loans();
        grant(&mut others, 1, false);
        grant(&mut others, 3, false);
        let both = loans().or(others);
        let granted: Vec<_> = both.units.values().map(|loan| (loan.granted, loan.shared)).collect();
        assert_eq!((both.grants, granted), (3, vec![(1, true), (0, false), (3, false)]));
    }
}
