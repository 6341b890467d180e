//! Fabric domains that span nodes, as far as this node has a part in them: the cluster publishes each as one device, and each
//! of its nodes hands out what it has of it.

use std::collections::BTreeMap;

use tessera_vocabulary::DeviceName;

use crate::inventory::Device;
use crate::offers::{Offer, What};
use crate::refusal::brief;
use crate::{Condition, Inventory, Refusal};

impl Inventory {
    /// Each domain that accelerators of this node are offered with, by the name of its device, and the condition that what the
    /// node has of it is in: the worst of all.
    pub fn domains(&self) -> BTreeMap<&DeviceName, &Condition> {
        let names = self.devices().iter().filter_map(Device::domain_name);
        names.filter_map(|name| Some((name, self.offer_of_domain(name)?.condition()))).collect()
    }

    /// What this node has of a domain, whether it can be had now or not.
    pub(crate) fn offer_of_domain(&self, name: &DeviceName) -> Option<Offer<'_>> {
        let devices: Vec<_> = self.devices().iter().filter(|device| device.domain_name() == Some(name)).collect();
        let name = devices.first()?.domain_name()?;
        Some(Offer { devices, what: What::Domain(name) })
    }

    /// What this node has of a domain, if all of it can be had: who is given a domain counts on each accelerator in it.
    pub(crate) fn ready_domain(&self, name: &DeviceName) -> Result<Offer<'_>, Refusal> {
        for member in self.devices().iter().filter(|device| device.lies_in(name) || device.domain_name() == Some(name))
        {
            let own = member.name().clone();
            if let Some(change) = member.layout.change.as_ref().filter(|_| member.layout.is_changing()) {
                return Err(Refusal::Changing { device: own, policy: brief(&change.policy) });
            }
            if member.domain_name() != Some(name) {
                let layout = brief(&member.layout.layout.to_string());
                return Err(Refusal::Apart { device: name.clone(), member: own, layout });
            }
            if let Condition::Lost { cause } = &member.condition {
                return Err(Refusal::Lost { device: own, cause: cause.clone() });
            }
            if !member.lies_in(name) {
                return Err(Refusal::Left { device: name.clone(), member: own });
            }
        }
        self.offer_of_domain(name).ok_or_else(|| Refusal::Gone(name.clone()))
    }
}

impl Device {
    /// Whether its fabric says now that it is in the domain of this device.
    fn lies_in(&self, name: &DeviceName) -> bool {
        self.accelerator.spanning_domain().is_some_and(|domain| DeviceName::domain(&domain.name.0) == *name)
    }
}

#[cfg(test)]
mod tests {
    use cdi::{ContainerEdits, DeviceNode, Spec};
    use tessera_driver::{Accelerator, Discovery, Facts};
    use tessera_vocabulary::DriverName;

    use super::*;
    use crate::testing::{
        CLIQUE, allocation, claim_ref, granted, identity, inventory_of, ledger, loan, member, members, of_domain, pool,
        record, with_domain,
    };
    use crate::{
        Allocation, DeviceLayout, Features, Layout, Ledger, Offering, Part, Record, Repartitioning, Scope, Stage,
        State, plan, slices,
    };

    fn planned(uid: &str, given: &[Allocation], inventory: &Inventory, ledger: &Ledger) -> Result<Record, Refusal> {
        plan(&identity(), &claim_ref(uid), &granted(given), inventory, ledger, |part| {
            let kind = if matches!(part, Part::Member(_)) { "member" } else { "gpu" };
            let node = DeviceNode::new(format!("/dev/{kind}{}", part.accelerator().address.bus));
            Ok(ContainerEdits { device_nodes: vec![node], env: vec!["A=b".to_owned()], ..Default::default() })
        })
    }

    /// The same node, with what is said of the GPU on bus 2 changed.
    fn but_for(layout: DeviceLayout) -> Inventory {
        let inventory = members(&[1, 2]);
        let mut layouts = inventory.layouts().clone();
        layouts.insert(member(2).name(), layout);
        inventory.laid_out(&layouts)
    }

    fn in_clique(clique: Option<&str>) -> Accelerator {
        let mut gpu = member(2);
        if let Facts::NvidiaGpu(facts) = &mut gpu.facts {
            facts.clique = clique.map(str::to_owned);
        }
        gpu
    }

    #[test]
    fn a_claim_of_a_domain_gets_all_that_the_node_has_of_it() {
        let record = planned("uid-1", &[of_domain("rack")], &members(&[1, 2]), &Ledger::default()).unwrap();
        insta::assert_json_snapshot!(serde_json::to_value(&record).unwrap());
        assert!(record.is_whole(), "nothing is to be done first");
        let answer = record.devices[0].answer();
        assert_eq!(answer.pool, format!("domains/gpu.nvidia.com/{}", answer.device));
        let spec: Spec = serde_json::from_str(record.spec.as_str()).unwrap();
        let nodes: Vec<_> = spec.devices.iter().map(|one| one.container_edits.device_nodes[0].path.as_str()).collect();
        assert_eq!((nodes, answer.cdi_ids.len()), (vec!["/dev/member1", "/dev/member2"], 2));

        // It is nobody else's, and the same again.
        let mut held = ledger([record.clone()]);
        assert_eq!(planned("uid-1", &[of_domain("rack")], &members(&[1, 2]), &held), Ok(record));
        let other = |inventory: &Inventory, given| planned("uid-2", &[given], inventory, &held);
        assert!(matches!(other(&members(&[1, 2]), of_domain("rack")), Err(Refusal::Held { .. })));
        let given_back = inventory_of(Offering::NOTHING, [1, 2].map(member).to_vec());
        assert!(matches!(other(&given_back, allocation("gpu", 2)), Err(Refusal::Held { .. })));
        let watching = Allocation { admin_access: true, ..of_domain("watch") };
        assert!(other(&members(&[1, 2]), watching).is_ok());
        held.remove(&"uid-1".parse().unwrap());
        assert_eq!(held, Ledger::default());
    }

    #[test]
    fn who_has_a_domain_can_use_it_while_its_accelerators_answer() {
        let record = planned("uid-1", &[of_domain("rack")], &members(&[1, 2]), &Ledger::default()).unwrap();
        let check = |inventory: &Inventory| inventory.check(&record.devices[0]);
        let anew = inventory_of(Offering::NOTHING, vec![member(1), in_clique(None)]);
        for inventory in [members(&[1, 2]), anew, but_for(DeviceLayout::default())] {
            assert_eq!(check(&inventory), Ok(()));
        }
        assert!(matches!(check(&members(&[1])), Err(Refusal::Gone(gone)) if gone == member(2).name()));
        let lost = members(&[1, 2]).unreachable("its driver no longer answers for it");
        assert!(matches!(check(&lost), Err(Refusal::Lost { device, .. }) if device == member(1).name()));
        // What one of them is held by, a later agent still knows.
        let stored = crate::StoredRecord::encode(record.clone()).unwrap().bytes().to_vec();
        assert_eq!(**crate::StoredRecord::decode(stored).unwrap().record(), record);
    }

    #[test]
    fn what_cannot_be_had_whole_is_refused_with_its_reason() {
        let nobody = Ledger::default;
        let lent = || {
            let mut lent = nobody();
            lent.lend(loan(2));
            lent
        };
        let change = Repartitioning { policy: "p".repeat(253), stage: Stage::Changing };
        let changing = DeviceLayout { change: Some(change), ..with_domain(CLIQUE) };
        let shared = DeviceLayout { layout: Layout::Shares { count: 4 }, ..with_domain(CLIQUE) };
        let found = |second: Accelerator| {
            let found = Discovery { accelerators: vec![member(1), second], ..Discovery::default() };
            members(&[1, 2]).after(&found, &Default::default())
        };
        let lost = {
            let on_the_bus = [1, 2].map(|bus| member(bus).address).into();
            let found = Discovery { accelerators: vec![member(1)], on_the_bus, ..Discovery::default() };
            members(&[1, 2]).after(&found, &Default::default())
        };
        let other = Allocation { device: DeviceName::domain("another.1"), ..of_domain("rack") };
        let of_node = Allocation { scope: Scope::Node, ..of_domain("rack") };
        let whole = |inventory: &Inventory| inventory.domains().len();
        let cases = [
            ("another domain", members(&[1, 2]), nobody(), other, "is not on this node any more"),
            ("a device of the node's pool", members(&[1, 2]), nobody(), of_node, "is not on this node any more"),
            (
                "none is offered so",
                inventory_of(Offering::NOTHING, vec![member(1)]),
                nobody(),
                of_domain("a"),
                "at its start",
            ),
            ("one is not offered so", but_for(shared), nobody(), of_domain("a"), "is offered as 4 shares instead"),
            ("one is being changed", but_for(changing), nobody(), of_domain("a"), "gpu-0000-02-00-0 is being changed"),
            ("one is lost", lost, nobody(), of_domain("a"), "gpu-0000-02-00-0 is lost: its driver"),
            ("one has left", found(in_clique(Some("b.2"))), nobody(), of_domain("a"), "gpu-0000-02-00-0 is no member"),
            ("one is nowhere", found(in_clique(None)), nobody(), of_domain("a"), "see who manages the fabric"),
            ("one is held", members(&[1, 2]), ledger([record("uid-1", 2)]), of_domain("a"), "is still held by claim"),
            ("one is lent", members(&[1, 2]), lent(), of_domain("a"), "is used by pods that asked for"),
        ];
        for (what, inventory, ledger, given, reason) in cases {
            let refusal = planned("uid-2", &[given], &inventory, &ledger).unwrap_err().to_string();
            assert!(refusal.contains(reason) && refusal.len() < 256, "{what}: {refusal} ({})", refusal.len());
        }
        assert_eq!((whole(&members(&[1, 2])), whole(&but_for(DeviceLayout::default()))), (1, 1));
        // Who was given it before it was closed is waited for like any other.
        let change = Repartitioning { policy: "research".to_owned(), stage: Stage::Draining };
        let draining = but_for(DeviceLayout { change: Some(change), ..with_domain(CLIQUE) });
        assert!(planned("uid-2", &[of_domain("a")], &draining, &nobody()).is_ok());
    }

    #[test]
    fn by_itself_the_node_offers_nothing_of_a_domain() {
        let all = Offering { partitions: true, passthrough: true, groups: true };
        let told = inventory_of(all, [1, 2, 3, 4].map(member).to_vec());
        let names = |inventory: &Inventory| -> Vec<String> {
            let slices = slices(&pool(), inventory, Features::default(), &Ledger::default());
            let devices = slices.into_iter().flat_map(|slice| slice.spec.devices.into_iter().flatten());
            devices.map(|device| device.name).collect()
        };
        let before = names(&told).len();
        let laid = told.laid_out(&[1, 2].map(|bus| (member(bus).name(), with_domain(CLIQUE))).into());
        let after = names(&laid);
        assert!(!after.is_empty() && after.len() < before, "{after:?}");
        let of_members = |name: &&String| name.starts_with("gpu-0000-01") || name.starts_with("gpu-0000-02");
        let wider = |name: &&String| name.starts_with("group") || name.starts_with("domain");
        assert_eq!(
            after.iter().filter(of_members).chain(after.iter().filter(wider)).count(),
            1,
            "the pair of the others"
        );
        assert!(laid.names().all(|(name, _)| !name.as_str().starts_with("domain")));
        let units = laid.units(&Ledger::default());
        assert_eq!(units.iter().filter(|unit| unit.state == State::Ready).count(), 2, "by count, too");

        // Nor while a claim has it, also where nothing is known of the layout any more.
        let held = ledger([planned("uid-1", &[of_domain("rack")], &members(&[1, 2]), &Ledger::default()).unwrap()]);
        let published = |inventory: &Inventory| slices(&pool(), inventory, Features::default(), &held);
        for inventory in [members(&[1, 2]), inventory_of(Offering::NOTHING, Vec::new())] {
            assert!(published(&inventory).iter().all(|slice| slice.spec.devices.iter().flatten().count() == 0));
        }
    }

    #[test]
    fn chips_of_a_slice_are_told_of_it() {
        let mut slice = tessera_driver::tpu::Slice { name: Some("pod-7".to_owned()), ..Default::default() };
        slice.topology = "2x4".parse().ok();
        let chips = [1, 2, 3, 4].map(|bus| {
            let mut chip = crate::testing::tpu(bus);
            if let Facts::Tpu(facts) = &mut chip.facts {
                facts.slice = slice.clone();
            }
            chip
        });
        let layouts = chips.iter().map(|chip| (chip.name(), with_domain("pod-7"))).collect();
        let inventory = inventory_of(Offering::NOTHING, chips.to_vec()).laid_out(&layouts);
        let given = Allocation { device: DeviceName::domain("pod-7"), ..of_domain("pod") };
        let identity = crate::Identity::new(DriverName::google_tpu(), "node-1".to_owned(), "boot".to_owned()).unwrap();
        let edits = |part: Part<'_>| {
            let node = DeviceNode::new(format!("/dev/accel{}", part.accelerator().address.bus));
            Ok(ContainerEdits { device_nodes: vec![node], ..Default::default() })
        };
        let record =
            plan(&identity, &claim_ref("uid-1"), &granted(&[given]), &inventory, &Ledger::default(), edits).unwrap();
        let spec: Spec = serde_json::from_str(record.spec.as_str()).unwrap();
        let told = &spec.devices[0].container_edits.env;
        assert_eq!(spec.devices.len(), 4);
        for line in ["TPU_TOPOLOGY=2x4", "TPU_HOST_BOUNDS=1,2,1", "TPU_CHIPS_PER_HOST_BOUNDS=2,2,1"] {
            assert!(told.iter().any(|said| said == line), "{line} is not among {told:?}");
        }
    }
}
