use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tessera_policy::{DeviceState, Domain, Layout, NodeLayout, PartitionPolicy, ReportedDevice};
use tessera_vocabulary::DOMAIN_LABELS;

use super::*;
use crate::testing::{desired, gpu, layout, policy, rule};

const RACK: &str = "rack.1";
const SLICE: &str = "domains-gpu.nvidia.com-domain-rack-1-64b226ae";

/// A GPU that lies in a domain.
fn in_domain(name: &str, domain: &str, is: Option<Layout>) -> ReportedDevice {
    let domain = (!domain.is_empty()).then(|| Domain { name: domain.to_owned(), nodes: None });
    let mut device = ReportedDevice { domain, layout: is, ..gpu(name) };
    device.attributes.insert("gpu.nvidia.com/uuid".to_owned(), json!({"string": format!("GPU-{name}")}));
    device.attributes.insert("gpu.nvidia.com/type".to_owned(), json!({"string": "gpu"}));
    device.attributes.insert("resource.kubernetes.io/numaNode".to_owned(), json!({"int": 0}));
    device
}

/// The NodeLayout of a node with two GPUs, which are to be something and are something.
fn node(name: &str, wanted: Option<(&str, Option<Layout>)>, is: Option<Layout>) -> NodeLayout {
    let names = ["gpu-0", "gpu-1"];
    let desired = wanted.map(|(policy, layout)| names.map(|name| desired(name, policy, layout.clone())).to_vec());
    let reported = names.map(|name| in_domain(name, RACK, is.clone()));
    layout(name, desired.unwrap_or_default(), reported.to_vec())
}

fn following(name: &str) -> NodeLayout {
    node(name, Some(("p", Some(Layout::domain()))), Some(Layout::domain()))
}

fn edited(mut layout: NodeLayout, edit: impl FnOnce(&mut ReportedDevice)) -> NodeLayout {
    edit(&mut layout.status.as_mut().unwrap().devices[0]);
    layout
}

fn domain_policy(name: &str) -> PartitionPolicy {
    let mut policy = policy(name);
    policy.spec.rules = vec![rule(Layout::domain(), None)];
    policy
}

fn cluster(policies: Vec<PartitionPolicy>, layouts: Vec<NodeLayout>) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.offer_domains([DriverName::nvidia_gpu()]);
    policies.into_iter().for_each(|policy| cluster.policy(policy));
    for layout in layouts {
        put(&mut cluster, layout);
    }
    cluster
}

fn label() -> BTreeMap<String, String> {
    [(format!("{DOMAIN_LABELS}gpu.nvidia.com"), DeviceName::domain(RACK).to_string())].into()
}

/// A node with the label that it should have.
fn put(cluster: &mut Cluster, layout: NodeLayout) {
    let name = layout.metadata.name.clone().unwrap();
    cluster.node(name.as_str().into(), format!("uid-of-{name}"), label());
    cluster.layout(layout);
}

fn writes(cluster: &mut Cluster) -> Vec<DomainWrite> {
    let of_domains = |write| match write {
        Write::Domain(write) => Some(write),
        _ => None,
    };
    cluster.decide(Timestamp::UNIX_EPOCH).into_iter().filter_map(of_domains).collect()
}

fn created(cluster: &mut Cluster) -> Option<ResourceSlice> {
    match writes(cluster).as_slice() {
        [] => None,
        [DomainWrite::Create(slice)] => Some((**slice).clone()),
        other => panic!("{other:?}"),
    }
}

/// How a slice is stored as a certain version.
fn stored(mut slice: ResourceSlice, version: &str) -> ResourceSlice {
    slice.metadata.uid = Some("uid-of-slice".to_owned());
    slice.metadata.resource_version = Some(version.to_owned());
    slice
}

fn taints(slice: &ResourceSlice) -> String {
    let taints = slice.spec.devices.iter().flatten().flat_map(|device| device.taints.iter().flatten());
    let told = taints.map(|taint| {
        assert_eq!(taint.effect, "NoSchedule");
        format!("{}={}", taint.key.trim_start_matches("tessera.dev/"), taint.value.as_deref().unwrap_or_default())
    });
    told.collect::<Vec<_>>().join(" ")
}

fn condition(cluster: &mut Cluster, policy: &str) -> String {
    let status = cluster.decide(Timestamp::UNIX_EPOCH).into_iter().find_map(|write| match write {
        Write::Status { policy: of, status, .. } if of.as_ref() == policy => Some(status),
        _ => None,
    });
    let conditions = status.map(|status| status.conditions).unwrap_or_default();
    let told = conditions.into_iter().find(|condition| condition.type_ == DOMAINS_OFFERED);
    told.map(|told| format!("{} {}: {}", told.status, told.reason, told.message)).unwrap_or_default()
}

#[test]
fn a_domain_as_the_scheduler_sees_it() {
    let mut cluster = cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
    let slice = created(&mut cluster).unwrap();
    assert_eq!(slice.metadata.name.as_deref(), Some(SLICE));
    insta::assert_json_snapshot!(slice);
}

#[test]
fn it_may_be_taken_while_all_its_nodes_follow() {
    let domain = Some(Layout::domain());
    let busy = |state| edited(following("b"), |device| device.state = state);
    let mut several = following("b");
    several.status.as_mut().unwrap().devices.push(in_domain("gpu-2", "rack.2", domain.clone()));
    let mut gone = following("b");
    gone.status.as_mut().unwrap().devices.pop();
    let four = |device: &mut ReportedDevice| device.domain = Some(Domain { name: RACK.to_owned(), nodes: Some(4) });
    let of_another_node = NodeLayout {
        metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            owner_references: Some(vec![k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
                kind: "Node".to_owned(),
                uid: "earlier".to_owned(),
                ..Default::default()
            }]),
            ..following("b").metadata
        },
        ..following("b")
    };
    let mut told = Vec::new();
    for (what, other) in [
        ("all follow", following("b")),
        ("one is drained", busy(DeviceState::Draining)),
        (
            "one has failed",
            edited(node("b", Some(("p", domain.clone())), None), |device| device.state = DeviceState::Failed),
        ),
        (
            "one is lost",
            edited(following("b"), |device| {
                device.state = DeviceState::Failed;
                device.message = "it has fallen off the bus; reset it".to_owned();
            }),
        ),
        ("one follows nothing", node("b", None, None)),
        ("one follows another policy", node("b", Some(("o", Some(Layout::whole()))), Some(Layout::whole()))),
        ("one is on its way", node("b", Some(("p", domain.clone())), None)),
        ("one leaves", node("b", Some(("p", None)), domain.clone())),
        ("one leaves for another policy", node("b", Some(("o", Some(Layout::whole()))), domain.clone())),
        ("one is told nothing any more", node("b", None, domain)),
        ("the hardware knows of more", edited(following("b"), four)),
        ("one does not answer", edited(following("b"), |device| device.attributes.clear())),
        (
            "one lies nowhere any more",
            edited(following("b"), |device| {
                device.domain = None;
                device.attributes.clear();
            }),
        ),
        ("one is gone", gone),
        ("one lies in several", several),
        ("one lies elsewhere", node("b", None, None)).also(|layout| {
            layout.status.as_mut().unwrap().devices.iter_mut().for_each(|device| device.domain = None);
        }),
        ("one is about an earlier node", of_another_node),
    ] {
        let mut only_a = domain_policy("p");
        only_a.spec.node_selector = serde_json::from_value(json!({"matchLabels": label()})).unwrap();
        let mut cluster = cluster(vec![only_a], vec![following("a")]);
        cluster.node("b".into(), "uid-of-b".to_owned(), BTreeMap::new());
        cluster.layout(other);
        let slice = writes(&mut cluster).into_iter().find_map(|write| match write {
            DomainWrite::Create(slice) => Some(taints(&slice)),
            _ => None,
        });
        told.push(format!("{what}: {}\n  {}", slice.unwrap(), condition(&mut cluster, "p")));
    }
    insta::assert_snapshot!(told.join("\n"));
}

/// Changes a case of a table.
trait Also: Sized {
    fn also(self, change: impl FnOnce(&mut NodeLayout)) -> Self;
}

impl Also for (&'static str, NodeLayout) {
    fn also(mut self, change: impl FnOnce(&mut NodeLayout)) -> Self {
        change(&mut self.1);
        self
    }
}

#[test]
fn pods_that_were_waited_for_long_enough_are_evicted_from_the_whole_domain() {
    let domain = || Some(Layout::domain());
    let evicting = |wanted: Option<Layout>| {
        edited(node("b", Some(("p", wanted)), domain()), |device| {
            device.state = DeviceState::Draining;
            device.evicting = true;
        })
    };
    for (what, other, expected) in [
        ("one leaves", node("b", Some(("p", None)), domain()), "NoSchedule"),
        ("and its pods are evicted", evicting(None), "NoExecute"),
        ("it is wanted again, and the agent has not seen it", evicting(domain()), ""),
    ] {
        let slice = created(&mut cluster(vec![domain_policy("p")], vec![following("a"), other])).unwrap();
        let taints = slice.spec.devices.iter().flatten().flat_map(|device| device.taints.iter().flatten());
        let repartitioning = taints.filter(|taint| taint.key == "tessera.dev/repartitioning");
        let effects: Vec<_> = repartitioning.map(|taint| taint.effect.as_str()).collect();
        assert_eq!(effects.join(" "), expected, "{what}");
    }
}

#[test]
fn an_agent_that_is_away_hands_nothing_out() {
    let mut cluster = cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
    cluster.follow_agents();
    for node in ["a", "b"] {
        cluster.agent_is_here(&node.into());
    }
    assert_eq!(taints(&created(&mut cluster).unwrap()), "");
    cluster.agent_is_away(&"b".into());
    assert_eq!(taints(&created(&mut cluster).unwrap()), "incomplete=1-of-2");
    assert!(
        condition(&mut cluster, "p")
            .starts_with("False AgentMissing: domain rack.1 of gpu.nvidia.com is not offered: node b")
    );
}

#[test]
fn it_goes_when_nothing_is_offered_with_it_any_more() {
    let mut cluster = cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
    let slice = stored(created(&mut cluster).unwrap(), "20");
    assert!(cluster.domain_slice_written(slice.clone()));
    assert_eq!(writes(&mut cluster), []);
    // Its event comes later.
    cluster.domain_slice(slice);
    assert_eq!(writes(&mut cluster), []);
    let at = |mut layout: NodeLayout, version: &str| {
        layout.metadata.resource_version = Some(version.to_owned());
        layout
    };
    put(&mut cluster, at(node("a", Some(("p", None)), None), "21"));
    let [DomainWrite::Update(tainted)] = &writes(&mut cluster)[..] else { panic!() };
    assert_eq!(taints(tainted), "incomplete=1-of-2");
    assert_eq!((tainted.spec.pool.generation, tainted.metadata.resource_version.as_deref()), (2, Some("20")));
    cluster.domain_slice_written(stored((**tainted).clone(), "22"));
    put(&mut cluster, at(node("b", Some(("p", None)), None), "23"));
    let [DomainWrite::Delete { name, uid, resource_version }] = &writes(&mut cluster)[..] else { panic!() };
    assert_eq!((name.as_str(), uid.as_str(), resource_version.as_str()), (SLICE, "uid-of-slice", "22"));
    let gone =
        ObjectMeta { name: Some(SLICE.to_owned()), uid: Some("uid-of-slice".to_owned()), ..ObjectMeta::default() };
    cluster.domain_slice_gone(&gone);
    assert_eq!(writes(&mut cluster), []);
}

#[test]
fn what_others_make_of_a_slice_is_put_right() {
    let mut cluster = cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
    let slice = stored(created(&mut cluster).unwrap(), "20");
    for (edit, expected) in [
        (Box::new(|_: &mut ResourceSlice| {}) as Box<dyn Fn(&mut ResourceSlice)>, ""),
        (Box::new(|slice| slice.spec.devices.as_mut().unwrap()[0].taints = Some(Vec::new())), ""),
        (Box::new(|slice| slice.spec.pool.generation = 7), ""),
        (Box::new(|slice| slice.spec.devices = None), "update_domain"),
        (Box::new(|slice| slice.metadata.labels = None), "update_domain"),
        (Box::new(|slice| slice.spec.all_nodes = Some(true)), "update_domain"),
        (Box::new(|slice| slice.spec.node_selector = None), "update_domain"),
        (Box::new(|slice| slice.spec.pool.name = "another".to_owned()), "delete_domain"),
    ] {
        let mut there = slice.clone();
        edit(&mut there);
        let version =
            there.metadata.resource_version.as_deref().and_then(|version| version.parse::<u64>().ok()).unwrap();
        there.metadata.resource_version = Some((version + u64::try_from(expected.len()).unwrap()).to_string());
        let mut anew = super::tests::cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
        anew.domain_slice(there);
        let kinds: Vec<_> = writes(&mut anew).iter().map(DomainWrite::kind).collect();
        assert_eq!(kinds.join(" "), expected);
    }
    cluster.domain_slice(slice);
    assert_eq!(writes(&mut cluster), []);
    // Removed while nobody watched.
    cluster.domain_slices_are(&DriverName::nvidia_gpu(), &BTreeSet::new());
    assert!(created(&mut cluster).is_some());
}

#[test]
fn what_nobody_wants_in_a_pool_of_domains_goes_and_what_is_of_others_stays() {
    let mut cluster = cluster(vec![], vec![]);
    let other = DomainId { driver: DriverName::nvidia_gpu(), name: "rack.9".into() };
    let left = slices::slice(&other, k8s_openapi::api::resource::v1::Device::default());
    cluster.domain_slice(stored(left.clone(), "5"));
    let kinds: Vec<_> = writes(&mut cluster).iter().map(DomainWrite::kind).collect();
    assert_eq!(kinds, ["delete_domain"]);
    let mut foreign = stored(left, "6");
    foreign.metadata = ObjectMeta { name: Some("theirs".to_owned()), labels: None, ..foreign.metadata };
    foreign.spec.pool.name = "theirs".to_owned();
    let mut cluster = super::tests::cluster(vec![], vec![]);
    cluster.domain_slice(foreign);
    assert_eq!(writes(&mut cluster), []);
}

#[test]
fn where_taints_are_dropped_what_nobody_may_take_is_withheld() {
    let drained = || edited(following("b"), |device| device.state = DeviceState::Draining);
    let mut all_follow = cluster(vec![domain_policy("p")], vec![following("a"), following("b")]);
    all_follow.taints_are_dropped();
    assert!(created(&mut all_follow).is_some());
    let mut cluster = cluster(vec![domain_policy("p")], vec![following("a"), drained()]);
    let mut answer = stored(created(&mut cluster).unwrap(), "20");
    answer.spec.devices.as_mut().unwrap()[0].taints = None;
    assert!(!cluster.domain_slice_written(answer), "it is seen by the answer");
    let kinds: Vec<_> = writes(&mut cluster).iter().map(DomainWrite::kind).collect();
    assert_eq!(kinds, ["delete_domain"]);
    // Nobody else can be given what somebody has.
    let used = edited(following("a"), |device| device.users = 1);
    let mut held = super::tests::cluster(vec![domain_policy("p")], vec![used, drained()]);
    held.taints_are_dropped();
    assert_eq!(taints(&created(&mut held).unwrap()), "");
}

#[test]
fn nodes_say_where_they_lie_and_nothing_else() {
    let device = DeviceName::domain(RACK).to_string();
    let key = || format!("{DOMAIN_LABELS}gpu.nvidia.com");
    let (right, wrong) = ((key(), device.clone()), (key(), "domain-x".to_owned()));
    let foreign = (format!("{DOMAIN_LABELS}gpu.amd.com"), "x".to_owned());
    let other = ("gpus".to_owned(), "yes".to_owned());
    for (has, lies_in, expected) in [
        (vec![], true, Some((true, 0))),
        (vec![right.clone(), other.clone()], true, None),
        (vec![wrong], true, Some((true, 0))),
        (vec![right.clone(), foreign.clone()], true, Some((true, 1))),
        (vec![right, other.clone()], false, Some((false, 1))),
        (vec![other], false, None),
        (vec![foreign], false, Some((false, 1))),
    ] {
        let mut cluster = cluster(vec![], vec![]);
        let told = format!("{has:?} {lies_in}");
        cluster.node("a".into(), "uid-of-a".to_owned(), has.into_iter().collect());
        if lies_in {
            cluster.layout(node("a", None, None));
        }
        let writes = writes(&mut cluster);
        let found = writes.first().map(|write| match write {
            DomainWrite::Label { node, uid, labels, unwanted } => {
                assert_eq!((node.as_ref(), uid.as_str()), ("a", "uid-of-a"));
                (labels.get(&key()) == Some(&device), unwanted.len())
            }
            other => panic!("{other:?}"),
        });
        assert_eq!(found, expected, "{told}");
        cluster.node_labelled(&"a".into());
        assert_eq!(super::tests::writes(&mut cluster), []);
    }
}

#[test]
fn whoever_is_not_told_to_offer_domains_offers_none_and_says_so() {
    let mut cluster = Cluster::default();
    cluster.policy(domain_policy("p"));
    cluster.node("a".into(), "uid-of-a".to_owned(), BTreeMap::new());
    cluster.layout(following("a"));
    assert_eq!(writes(&mut cluster), []);
    assert!(condition(&mut cluster, "p").starts_with("False Disabled"));
    let mut none = super::tests::cluster(vec![domain_policy("p"), policy("w")], vec![]);
    assert!(condition(&mut none, "p").starts_with("False NoDomains"));
    assert_eq!(condition(&mut none, "w"), "", "it has nothing to do with domains");
}

/// Of two domains, the one that somebody must do something about is told.
#[test]
fn the_worst_of_several_domains_is_told() {
    let elsewhere = |name: &str, domain: &str, mut layout: NodeLayout| {
        layout.metadata.name = Some(name.to_owned());
        let devices = layout.status.as_mut().unwrap().devices.iter_mut();
        devices.for_each(|device| device.domain = Some(Domain { name: domain.to_owned(), nodes: None }));
        layout
    };
    let busy = edited(following("b"), |device| device.state = DeviceState::Draining);
    let failed = edited(following("c"), |device| (device.state, device.layout) = (DeviceState::Failed, None));
    let layouts = vec![following("a"), elsewhere("b", "rack.2", busy), elsewhere("c", "rack.3", failed)];
    let told = condition(&mut cluster(vec![domain_policy("p")], layouts), "p");
    assert_eq!(
        told,
        "False DeviceFailed: 1 of 3 domains are offered; domain rack.3 of gpu.nvidia.com is not offered: gpu-0 of node c could not \
         be changed"
    );
}
