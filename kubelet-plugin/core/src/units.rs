use tessera_driver::{Accelerator, Made, Shape};

use crate::inventory::Device;
use crate::offers::{Offer, What};
use crate::{Condition, Inventory, Ledger, Part, Use};

/// Something that a container can be handed as it is, with nothing done to the hardware first: a whole accelerator, or a
/// partition that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit<'a> {
    /// What its driver knows it by, the same for as long as it is there: the UUID, or the device's name where it has none.
    pub id: String,
    /// The accelerator that it is, or is a part of.
    pub accelerator: &'a Accelerator,
    /// Which of both.
    pub kind: UnitKind<'a>,
    /// How many pods may have it at once where its layout says so.
    pub shares: Option<u32>,
    /// Whether it can be handed out now.
    pub state: State,
    /// What of the hardware it takes.
    pub uses: Vec<Use>,
}

/// Which part of an accelerator a unit is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnitKind<'a> {
    /// All of it.
    Whole,
    /// A partition of it.
    Partition(&'a Shape, &'a Made),
}

/// Whether a unit can be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Ready,
    /// A claim has it, or a part of it; it is free when the claim's pods have ended.
    Claimed {
        /// The claim, by namespace and name.
        by: String,
    },
    /// It cannot for now, and this is why, in words for a pod's event.
    Unusable {
        /// Why.
        cause: String,
    },
}

impl<'a> Unit<'a> {
    /// What a container of it is made of.
    pub fn part(&self) -> Part<'a> {
        match self.kind {
            UnitKind::Whole => Part::Whole(self.accelerator),
            UnitKind::Partition(shape, made) => Part::Partition(self.accelerator, shape, made),
        }
    }
}

impl Inventory {
    /// All units, by the PCI address of their accelerator: the whole first, then its partitions by their place.
    ///
    /// One that a claim has, or a part of, cannot be handed out; one that pods have without a claim can, since who counts
    /// those pods knows of them.
    pub fn units(&self, ledger: &Ledger) -> Vec<Unit<'_>> {
        self.devices().iter().flat_map(|device| self.units_of(device, ledger)).collect()
    }

    fn units_of<'a>(&'a self, device: &'a Device, ledger: &Ledger) -> Vec<Unit<'a>> {
        let mut units: Vec<_> = self.offers_of(device).filter_map(|offer| self.unit(&offer, ledger)).collect();
        units.sort_by_key(|unit| unit.uses.iter().map(|one| one.placement).min());
        units
    }

    fn unit<'a>(&self, offer: &Offer<'a>, ledger: &Ledger) -> Option<Unit<'a>> {
        let accelerator = offer.accelerator();
        let (id, kind) = match offer.what {
            What::Whole => (accelerator.uuid(), UnitKind::Whole),
            What::Partition { shape, .. } => {
                let made = offer.made_by_hand(ledger)?;
                (made.uuid.as_str(), UnitKind::Partition(shape, made))
            }
            What::Passthrough(_) | What::Group(_) | What::Domain(_) => return None,
        };
        let id = if id.is_empty() { offer.name().to_string() } else { id.to_owned() };
        let uses = offer.uses();
        let state = self.state(offer, &id, &uses, ledger);
        Some(Unit { id, accelerator, kind, shares: offer.shares(), state, uses })
    }

    fn state(&self, offer: &Offer<'_>, id: &str, uses: &[Use], ledger: &Ledger) -> State {
        let unusable = |cause: String| State::Unusable { cause };
        if let Condition::Lost { cause } = offer.condition() {
            return unusable(format!("it is lost: {cause}"));
        }
        if let Some(claim) = ledger.claimant(uses) {
            return State::Claimed { by: claim.to_string() };
        }
        if let Some(loan) = ledger.lent(uses, Some(id)) {
            return unusable(format!("pods that asked for {} have a part of it", loan.resource));
        }
        if let Some(change) = self.change(uses) {
            return unusable(format!("policy {} changes what it is offered as", change.policy));
        }
        if let Some(obstacle) = offer.obstacle(true, ledger) {
            return unusable(obstacle);
        }
        // A claim would have the mode switched first; here nothing is done before a container starts.
        let cut = offer.accelerator().partitioning.as_ref().is_some_and(|partitioning| partitioning.cut);
        if cut && offer.what == What::Whole {
            return unusable("it is in the mode in which it has partitions; switch that off".to_owned());
        }
        State::Ready
    }
}

#[cfg(test)]
mod tests {
    use tessera_driver::{Discovery, Partition, Partitioning, Placement, Resources};

    use super::*;
    use crate::testing::{gpu, gpus, ledger, loan, record};
    use crate::{Inventory, Offering};

    fn cut_gpu(bus: u8) -> Accelerator {
        let placements = [0, 2].map(|start| Placement { start, size: 2 });
        let shape = Shape {
            id: 14,
            name: "2g.20gb".to_owned(),
            placements: placements.to_vec(),
            at_most: 3,
            resources: Resources::default(),
        };
        let made = |number| Made { gpu_instance: number, compute_instance: 0, uuid: format!("MIG-{number}") };
        let partition =
            |(number, placement): (u32, Placement)| Partition { shape: 14, placement, made: Some(made(number)) };
        let partitions = [1, 0].map(|number| partition((number, placements[number as usize]))).to_vec();
        let partitioning = Partitioning { cut: true, switchable: true, shapes: vec![shape], partitions };
        Accelerator { partitioning: Some(partitioning), ..gpu(bus) }
    }

    fn described(inventory: &Inventory, ledger: &Ledger) -> Vec<String> {
        let describe = |unit: Unit<'_>| match unit.state {
            State::Ready => unit.id,
            State::Claimed { by } => format!("{}: of {by}", unit.id),
            State::Unusable { cause } => format!("{}: {cause}", unit.id),
        };
        inventory.units(ledger).into_iter().map(describe).collect()
    }

    #[test]
    fn wholes_can_be_handed_out_unless_something_is_in_the_way() {
        let id = |bus| gpu(bus).uuid().to_owned();
        let nobody = Ledger::default();
        let mut lent = Ledger::default();
        lent.lend(loan(1));
        for (what, inventory, ledger, expected) in [
            ("free", gpus(&[1]), nobody.clone(), id(1)),
            ("lost", gpus(&[1]).unreachable("gone"), nobody, format!("{}: it is lost: gone", id(1))),
            ("a claim's", gpus(&[1]), self::ledger([record("uid-1", 1)]), format!("{}: of team/training", id(1))),
            ("pods' that asked for it", gpus(&[1]), lent, id(1)),
        ] {
            assert_eq!(described(&inventory, &ledger), [expected], "{what}");
        }
    }

    #[test]
    fn partitions_that_were_made_by_hand_come_by_their_place_and_take_the_whole() {
        let found = Discovery { accelerators: vec![cut_gpu(1)], ..Discovery::default() };
        for partitions in [false, true] {
            let offering = Offering { partitions, ..Offering::NOTHING };
            let inventory = Inventory::new(offering).after(&found, &Default::default());
            let whole = "a partition at 2:2 that was made by hand is in the way";
            let expected = [format!("{}: {whole}", gpu(1).uuid()), "MIG-0".to_owned(), "MIG-1".to_owned()];
            assert_eq!(described(&inventory, &Ledger::default()), expected);

            let mut uncut = found.clone();
            uncut.accelerators[0].partitioning.as_mut().unwrap().partitions.clear();
            let inventory = Inventory::new(offering).after(&uncut, &Default::default());
            let whole = "it is in the mode in which it has partitions; switch that off";
            assert_eq!(described(&inventory, &Ledger::default()), [format!("{}: {whole}", gpu(1).uuid())]);
        }
    }
}
