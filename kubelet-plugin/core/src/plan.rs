use cdi::{ContainerEdits, DeviceName as CdiDeviceName, FileName, InvalidName, Kind, QualifiedName, Spec};
use tessera_config::VfioDeviceConfig;
use tessera_driver::vfio::Ways;
use tessera_driver::{Accelerator, Made, Outcome, Shape, Work};
use tessera_vocabulary::{DeviceName, DriverName, domain_pool};

use crate::offers::{Offer, What};
use crate::pool::pool_name;
use crate::refusal::brief;
use crate::set_up::SetUp;
use crate::{
    Allocation, ClaimRef, ClaimUid, Condition, DeviceLayout, Granted, Inventory, Layout, Ledger, PreparedDevice,
    Record, Refusal, Repartitioning, Scope, Stage,
};

/// On whose behalf claims are prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The driver.
    pub driver: DriverName,
    /// The name of the node.
    pub node: String,
    /// The boot of the node.
    pub boot_id: String,
    kind: Kind,
}

impl Identity {
    /// # Errors
    /// When CDI takes no kind that is made of the driver's name.
    pub fn new(driver: DriverName, node: String, boot_id: String) -> Result<Self, InvalidName> {
        // A vendor of our own, so that no other driver's or tool's spec on the node collides with ours.
        let kind = Kind::new(&format!("tessera.{driver}"), "claim")?;
        Ok(Self { driver, node, boot_id, kind })
    }

    /// The name of the driver's pool on the node.
    pub fn pool(&self) -> String {
        pool_name(&self.node, &self.driver)
    }

    /// The CDI kind of the driver's claims, `tessera.gpu.nvidia.com/claim`.
    pub fn cdi_kind(&self) -> &Kind {
        &self.kind
    }

    /// The file that holds a claim's CDI spec.
    ///
    /// # Errors
    /// When the UID makes no file name; [`ClaimUid`] rules that out.
    pub fn cdi_file(&self, uid: &ClaimUid) -> Result<FileName, InvalidName> {
        FileName::transient(&self.kind, uid.as_str())
    }
}

/// What a device is made of, for whoever knows what a container needs of it.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The whole accelerator.
    Whole(&'a Accelerator),
    /// The whole accelerator, with all others of its fabric domain on all nodes.
    Member(&'a Accelerator),
    /// A partition of it, of this shape, that is there.
    Partition(&'a Accelerator, &'a Shape, &'a Made),
    /// All of it by VFIO, to be reached so.
    Passthrough(&'a Accelerator, Ways, &'a VfioDeviceConfig),
}

impl<'a> Part<'a> {
    /// The accelerator that is handed out as it is.
    fn whole(self) -> Option<&'a Accelerator> {
        if let Self::Whole(accelerator) | Self::Member(accelerator) = self { Some(accelerator) } else { None }
    }

    /// The accelerator that it is, or is a part of.
    pub fn accelerator(self) -> &'a Accelerator {
        match self {
            Self::Whole(accelerator)
            | Self::Member(accelerator)
            | Self::Partition(accelerator, ..)
            | Self::Passthrough(accelerator, ..) => accelerator,
        }
    }
}

/// What a claim gets: the record to keep, with the CDI spec to write if nothing has to be done to the hardware first. Else
/// the spec is empty, and [`complete`] makes it of what comes of the work. Changes nothing.
///
/// `edits` says what a container needs for a part.
///
/// # Errors
/// See [`Refusal`]. A claim is prepared as a whole or not at all.
pub fn plan(
    identity: &Identity,
    claim: &ClaimRef,
    granted: &Granted,
    inventory: &Inventory,
    ledger: &Ledger,
    edits: impl Fn(Part<'_>) -> Result<ContainerEdits, String>,
) -> Result<Record, Refusal> {
    let mut devices: Vec<PreparedDevice> = Vec::new();
    for allocation in &granted.allocations {
        // Two requests may name one device, if one of them has admin access or takes another share.
        let same =
            |device: &&mut PreparedDevice| device.device == allocation.device && device.share_id == allocation.share_id;
        if let Some(known) = devices.iter_mut().find(same) {
            known.requests.push(allocation.request.clone());
            known.admin_access &= allocation.admin_access;
            continue;
        }
        let offer = usable(allocation, claim, inventory, ledger)?;
        let names = cdi_device_names(&offer, allocation.share_id.as_ref(), claim)?;
        let qualified = |device| QualifiedName { kind: identity.cdi_kind().clone(), device }.to_string();
        devices.push(PreparedDevice {
            requests: vec![allocation.request.clone()],
            pool: match allocation.scope {
                Scope::Node => identity.pool(),
                Scope::Domain => domain_pool(&identity.driver, &allocation.device),
            },
            scope: allocation.scope,
            device: allocation.device.clone(),
            share_id: allocation.share_id.clone(),
            admin_access: allocation.admin_access,
            cdi_ids: names.into_iter().map(qualified).collect(),
            // As before there was anything else.
            uses: if offer.what == What::Whole { Vec::new() } else { offer.uses() },
            work: work(allocation, &offer, ledger),
            outcomes: Vec::new(),
            // What is of a domain another one publishes, who knows all nodes.
            published_as: (allocation.scope == Scope::Node).then(|| inventory.published(&offer, ledger)),
        });
    }
    let record =
        Record { boot_id: identity.boot_id.clone(), claim: claim.clone(), devices, spec: nothing(), ending: false };
    // What cannot be followed is to be refused before anything is done.
    let set_up = SetUp::of(&record.claim, granted, inventory)?;
    if record.is_whole() { described(identity, record, &set_up, inventory, ledger, edits) } else { Ok(record) }
}

/// The record with the CDI spec, once all work is done and its outcomes are in it.
///
/// # Errors
/// See [`Refusal`].
pub fn complete(
    identity: &Identity,
    record: Record,
    granted: &Granted,
    inventory: &Inventory,
    ledger: &Ledger,
    edits: impl Fn(Part<'_>) -> Result<ContainerEdits, String>,
) -> Result<Record, Refusal> {
    let set_up = SetUp::of(&record.claim, granted, inventory)?;
    described(identity, record, &set_up, inventory, ledger, edits)
}

fn described(
    identity: &Identity,
    record: Record,
    set_up: &SetUp,
    inventory: &Inventory,
    ledger: &Ledger,
    edits: impl Fn(Part<'_>) -> Result<ContainerEdits, String>,
) -> Result<Record, Refusal> {
    let claim = &record.claim;
    let mut named = Vec::new();
    for device in &record.devices {
        let offer = inventory.ready(device.scope, &device.device)?;
        let outcome = device.outcomes.first();
        let parts = match offer.what {
            What::Whole => vec![Part::Whole(offer.accelerator())],
            What::Group(_) => offer.devices.iter().map(|device| Part::Whole(&device.accelerator)).collect(),
            What::Domain(_) => offer.devices.iter().map(|device| Part::Member(&device.accelerator)).collect(),
            What::Partition { shape, .. } => {
                let made = match outcome {
                    Some(Outcome::Cut(made)) => Some(made),
                    _ => offer.made_by_hand(ledger),
                };
                let made = made.ok_or_else(|| Refusal::Gone(device.device.clone()))?;
                vec![Part::Partition(offer.accelerator(), shape, made)]
            }
            What::Passthrough(facts) => {
                let ways = match outcome {
                    Some(Outcome::Passed { ways, .. }) => *ways,
                    _ => facts.ways,
                };
                vec![Part::Passthrough(offer.accelerator(), ways, set_up.of_passthrough(&device.device))]
            }
        };
        let names = cdi_device_names(&offer, device.share_id.as_ref(), claim)?;
        named.extend(names.into_iter().zip(parts).map(|(name, part)| (device, name, part)));
    }
    // What the accelerators are told of each other holds for the claim: a container that is given one of its devices
    // alone is told of all.
    let wholes: Vec<_> = named.iter().filter_map(|(_, _, part)| part.whole()).collect();
    let together = Accelerator::together(&wholes);
    let (mut cdi_devices, mut requests) = (Vec::new(), Vec::new());
    for (device, name, part) in named {
        let mut container_edits =
            edits(part).map_err(|cause| Refusal::Unusable { device: device.device.clone(), cause })?;
        if part.whole().is_some() {
            container_edits.append(together.clone());
            container_edits.env.extend(set_up.environment_of(&device.device));
        }
        cdi_devices.push(cdi::Device::new(name, container_edits));
        requests.push(&device.requests);
    }
    leave_out_shared(&requests, &mut cdi_devices);
    let spec = Spec::new(identity.cdi_kind().clone(), cdi_devices).document();
    let spec = spec.map_err(|error| undescribable(claim, &error))?;
    Ok(Record { spec, ..record })
}

/// The spec of a record whose work is not done yet.
fn nothing() -> cdi::Document {
    cdi::Document::default()
}

fn undescribable(claim: &ClaimRef, cause: &dyn std::fmt::Display) -> Refusal {
    Refusal::Undescribable { claim: claim.to_string(), cause: cause.to_string() }
}

/// What has to be done for it; nothing for who only watches.
fn work(allocation: &Allocation, offer: &Offer<'_>, ledger: &Ledger) -> Vec<Work> {
    if allocation.admin_access { Vec::new() } else { offer.work(ledger) }
}

/// Says once what several devices share: a driver has dozens of files. The kubelet gives a container all devices of the
/// requests that it names, so of devices with the same requests none comes without the first of them. Any others may
/// come alone, and each says everything itself.
fn leave_out_shared(requests: &[&Vec<String>], cdi_devices: &mut [cdi::Device]) {
    for later in 1..requests.len().min(cdi_devices.len()) {
        let (earlier, rest) = cdi_devices.split_at_mut(later);
        let same = requests[..later].iter().position(|earlier| *earlier == requests[later]);
        if let (Some(first), Some(device)) = (same, rest.first_mut()) {
            device.container_edits.leave_out(&earlier[first].container_edits);
        }
    }
}

impl Inventory {
    /// The offer of a name in a pool, if it can be used.
    pub(crate) fn ready(&self, scope: Scope, name: &DeviceName) -> Result<Offer<'_>, Refusal> {
        if scope == Scope::Domain {
            return self.ready_domain(name);
        }
        let offer = self.offer(name).ok_or_else(|| self.absence(name))?;
        match offer.condition() {
            Condition::Ready => Ok(offer),
            Condition::Lost { cause } => Err(Refusal::Lost { device: name.clone(), cause: cause.clone() }),
        }
    }

    /// Why there is no such offer.
    fn absence(&self, name: &DeviceName) -> Refusal {
        // Names of partitions begin with that of their accelerator.
        let near = self.devices().iter().find(|device| name.as_str().starts_with(device.name().as_str()));
        match near.map(|device| &device.layout) {
            Some(DeviceLayout { change: Some(Repartitioning { policy, stage: Stage::Changing }), .. }) => {
                Refusal::Changing { device: name.clone(), policy: brief(policy) }
            }
            Some(DeviceLayout { layout, policy, .. }) if *layout != Layout::AsTold => {
                Refusal::NotOffered { device: name.clone(), policy: brief(policy), layout: brief(&layout.to_string()) }
            }
            _ => Refusal::Gone(name.clone()),
        }
    }

    /// Whether a device of a prepared claim can still be used. A group can as long as its members can: accelerators that
    /// came or went since may have put them together otherwise. And what is of a domain can while it answers, whatever is said
    /// of the domain by now.
    ///
    /// # Errors
    /// [`Refusal::Gone`] and [`Refusal::Lost`].
    pub fn check(&self, prepared: &PreparedDevice) -> Result<(), Refusal> {
        let members = || prepared.uses.iter().map(|used| &used.accelerator);
        let ready = |name: &DeviceName| self.ready(Scope::Node, name).map(|_| ());
        if prepared.scope == Scope::Domain {
            return members().try_for_each(|one| self.answers(one));
        }
        match ready(&prepared.device) {
            Err(Refusal::Gone(_)) if members().len() > 1 => members().try_for_each(ready),
            ready => ready,
        }
    }

    /// Whether an accelerator answers, whatever it is offered as.
    fn answers(&self, name: &DeviceName) -> Result<(), Refusal> {
        match self.find(name).map(|device| &device.condition) {
            None => Err(Refusal::Gone(name.clone())),
            Some(Condition::Ready) => Ok(()),
            Some(Condition::Lost { cause }) => Err(Refusal::Lost { device: name.clone(), cause: cause.clone() }),
        }
    }
}

fn usable<'a>(
    allocation: &Allocation,
    claim: &ClaimRef,
    inventory: &'a Inventory,
    ledger: &Ledger,
) -> Result<Offer<'a>, Refusal> {
    let offer = inventory.ready(allocation.scope, &allocation.device)?;
    let device = || allocation.device.clone();
    let holder = match &allocation.share_id {
        Some(_) => ledger.holder_besides_shares(&offer.uses(), &claim.uid, offer.shares()),
        None => ledger.holder(&offer.uses(), &claim.uid),
    };
    match holder {
        Some(holder) if !allocation.admin_access => {
            return Err(Refusal::Held { device: device(), holder: holder.to_string() });
        }
        _ => {}
    }
    match ledger.lent(&offer.uses(), None) {
        Some(loan) if !allocation.admin_access => {
            return Err(Refusal::Lent { device: device(), resource: loan.resource.clone() });
        }
        _ => {}
    }
    match offer.obstacle(true, ledger) {
        Some(cause) => Err(Refusal::Unusable { device: device(), cause }),
        None => Ok(offer),
    }
}

/// `<device>_<claim UID>`, for each member of a group or a domain: unique on the node, since runtimes keep specs by name. The device
/// comes first: a name that starts with a digit, as UIDs may, needs a newer version of CDI.
fn cdi_device_names(
    offer: &Offer<'_>,
    share_id: Option<&String>,
    claim: &ClaimRef,
) -> Result<Vec<CdiDeviceName>, Refusal> {
    let share = share_id.map(|id| format!("_{id}")).unwrap_or_default();
    let name = |device: DeviceName| format!("{device}_{}{share}", claim.uid).parse();
    let names: Result<Vec<_>, InvalidName> = match offer.what {
        What::Group(_) | What::Domain(_) => offer.wholes().map(|whole| name(whole.name())).collect(),
        _ => name(offer.name()).map(|name| vec![name]),
    };
    names.map_err(|error| undescribable(claim, &error))
}

#[cfg(test)]
mod tests {
    use cdi::DeviceNode;

    use super::*;
    use crate::testing::{allocation, claim_ref, gpus, gpus_in_shares, granted, identity, ledger, loan};

    fn admin(request: &str, bus: u8) -> Allocation {
        Allocation { admin_access: true, ..allocation(request, bus) }
    }

    fn plan_with(
        uid: &str,
        allocations: &[Allocation],
        inventory: &Inventory,
        ledger: &Ledger,
    ) -> Result<Record, Refusal> {
        plan(&identity(), &claim_ref(uid), &granted(allocations), inventory, ledger, |part| {
            let node = DeviceNode::new(format!("/dev/nvidia{}", part.accelerator().address.bus));
            Ok(ContainerEdits { device_nodes: vec![node], ..Default::default() })
        })
    }

    #[test]
    fn a_claim_of_two_devices() {
        let record =
            plan_with("uid-1", &[allocation("a", 1), allocation("b", 2)], &gpus(&[1, 2]), &Ledger::default()).unwrap();
        insta::assert_json_snapshot!(serde_json::to_value(record).unwrap());
    }

    #[test]
    fn a_device_that_cannot_be_used_is_refused() {
        let nobody = Ledger::default();
        let ledger = ledger([plan_with("uid-1", &[allocation("a", 1)], &gpus(&[1]), &nobody).unwrap()]);
        let lost = gpus(&[2]).unreachable("its driver no longer answers for it");
        let mut lent = Ledger::default();
        lent.lend(loan(1));
        let texts: Vec<_> = [
            plan_with("uid-2", &[allocation("a", 9)], &gpus(&[1]), &ledger),
            plan_with("uid-2", &[allocation("a", 2)], &lost, &ledger),
            plan_with("uid-2", &[allocation("a", 1)], &gpus(&[1]), &ledger),
            plan(&identity(), &claim_ref("uid-2"), &granted(&[allocation("a", 2)]), &gpus(&[2]), &ledger, |_| {
                Err("no node".to_owned())
            }),
            plan_with("uid-2", &[allocation("a", 1)], &gpus(&[1]), &lent),
        ]
        .into_iter()
        .map(|result| result.unwrap_err().to_string())
        .collect();
        assert!(texts.iter().all(|text| text.len() < 256), "{texts:#?}");
        insta::assert_json_snapshot!(texts);
        assert!(
            plan_with("uid-1", &[allocation("a", 1)], &gpus(&[1]), &ledger).is_ok(),
            "its own device is no obstacle"
        );
        assert!(plan_with("uid-2", &[admin("watch", 1)], &gpus(&[1]), &lent).is_ok(), "it only watches");
    }

    #[test]
    fn admin_access_excludes_nobody_and_is_excluded_by_nobody() {
        let (inventory, nobody) = (gpus(&[1]), Ledger::default());
        let holder = plan_with("uid-1", &[allocation("a", 1)], &inventory, &nobody).unwrap();
        let watcher = plan_with("uid-2", &[admin("watch", 1)], &inventory, &ledger([holder.clone()])).unwrap();
        let mut ledger = ledger([holder, watcher]);
        ledger.remove(&"uid-1".parse().unwrap());
        assert!(ledger.held().is_empty());
        let record = plan_with("uid-3", &[admin("watch", 1), allocation("use", 1)], &inventory, &ledger).unwrap();
        assert_eq!(record.devices.len(), 1, "one device, two requests");
        assert_eq!(record.devices[0].requests, ["watch", "use"]);
        assert!(!record.devices[0].admin_access);
    }

    #[test]
    fn devices_of_one_request_say_once_what_they_share() {
        let plan = |requests: [&str; 4]| {
            let allocations: Vec<_> = (1..).zip(requests).map(|(bus, request)| allocation(request, bus)).collect();
            let edits = |part: Part<'_>| {
                let device_nodes = vec![DeviceNode::new(format!("/dev/nvidia{}", part.accelerator().address.bus))];
                Ok(ContainerEdits { env: vec!["A=b".to_owned()], device_nodes, ..Default::default() })
            };
            let ledger = Ledger::default();
            let record =
                plan(&identity(), &claim_ref("uid-1"), &granted(&allocations), &gpus(&[1, 2, 3, 4]), &ledger, edits)
                    .unwrap();
            let spec: Spec = serde_json::from_str(record.spec.as_str()).unwrap();
            assert!(spec.devices.iter().all(|device| device.container_edits.device_nodes.len() == 1));
            spec.devices.iter().map(|device| device.container_edits.env.len()).collect::<Vec<_>>()
        };
        assert_eq!(plan(["a", "a", "a", "a"]), [1, 0, 0, 0]);
        assert_eq!(plan(["a", "b", "b", "a"]), [1, 1, 0, 0]);
        assert_eq!(plan(["a", "b", "c", "d"]), [1, 1, 1, 1]);
    }

    #[test]
    fn a_group_can_be_used_as_long_as_its_members_can() {
        let used = |bus| crate::Use { accelerator: crate::testing::gpu(bus).name(), placement: None };
        let addresses = [2, 3].map(|bus| crate::testing::gpu(bus).address);
        let group = PreparedDevice {
            device: DeviceName::group(&addresses),
            uses: vec![used(2), used(3)],
            ..crate::testing::record("uid-1", 2).devices.remove(0)
        };
        // None of these inventories offers groups: what is put together now does not matter.
        assert_eq!(gpus(&[1, 2, 3]).check(&group), Ok(()));
        assert!(matches!(gpus(&[1, 2]).check(&group), Err(Refusal::Gone(member)) if member == used(3).accelerator));
        let lost = gpus(&[2, 3]).unreachable("its driver no longer answers for it");
        assert!(matches!(lost.check(&group), Err(Refusal::Lost { .. })));
        let single = PreparedDevice { uses: vec![used(2)], ..group };
        assert!(matches!(gpus(&[2]).check(&single), Err(Refusal::Gone(_))));
    }

    #[test]
    fn so_many_claims_have_a_share_and_none_beside_one_that_has_the_device() {
        let shared = gpus_in_shares(&[1, 2], 2);
        let share = |id: &str, bus| Allocation { share_id: Some(id.to_owned()), ..allocation("a", bus) };
        let of =
            |uid: &str, allocation: Allocation| plan_with(uid, &[allocation], &shared, &Ledger::default()).unwrap();
        let (one, other) = (of("uid-1", share("s1", 1)), of("uid-2", share("s2", 1)));
        let alone = of("uid-1", allocation("a", 1));
        let cases = [
            ("the second of two", vec![one.clone()], share("s2", 1), true),
            ("the third of two", vec![one.clone(), other.clone()], share("s3", 1), false),
            ("one's own", vec![one.clone(), other], share("s4", 2), true),
            ("a share of what a claim has for itself", vec![alone], share("s2", 1), false),
            ("all of what a claim has a share of", vec![one], allocation("a", 1), false),
        ];
        for (what, held, wanted, expected) in cases {
            let mut ledger = Ledger::default();
            held.into_iter().for_each(|record| ledger.insert(crate::StoredRecord::encode(record).unwrap()));
            let planned = plan_with("uid-3", std::slice::from_ref(&wanted), &shared, &ledger);
            match planned {
                Ok(_) => assert!(expected, "{what}"),
                Err(refusal) => assert!(!expected && matches!(refusal, Refusal::Held { .. }), "{what}: {refusal}"),
            }
            // A share that is known from the scheduler alone: how many there may be is not.
            if wanted.share_id.is_some() {
                let not_yet_known = plan_with("uid-3", &[wanted], &gpus(&[1, 2]), &ledger);
                assert_eq!(not_yet_known.is_ok(), what != "a share of what a claim has for itself", "{what}");
            }
        }
    }

    #[test]
    fn every_share_of_a_device_has_a_name_of_its_own() {
        let share = |id: &str| Allocation { share_id: Some(id.to_owned()), ..allocation("a", 1) };
        let record = plan_with("uid-1", &[share("s1"), share("s2")], &gpus(&[1]), &Ledger::default()).unwrap();
        assert_eq!(record.devices.len(), 2);
        assert_ne!(record.devices[0].cdi_ids, record.devices[1].cdi_ids);
    }
}
