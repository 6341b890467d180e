//! A domain as the scheduler sees it.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceCapacity, DeviceTaint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tessera_vocabulary::attributes::{nvidia, portable};
use tessera_vocabulary::{attribute_text, format_quantity, parse_quantity};

use super::DomainId;
use super::member::Member;
use crate::facts::{Fact, Facts};

/// The API takes so many attributes and capacities of a device, together.
const AT_MOST: usize = 32;
/// What says where in its node a device lies. Of several nodes it says nothing, though it be the same on all.
const OF_A_NODE: &str = "resource.kubernetes.io/";

/// The device that stands for all devices of a domain: what they all say of themselves, and the sum of what they have.
pub(super) fn device(domain: &DomainId, members: &[Member<'_>], taints: Vec<DeviceTaint>) -> Device {
    let facts: Vec<&Facts> = members.iter().flat_map(|member| &member.parts).filter_map(|part| part.facts).collect();
    let devices = members.iter().map(|member| member.parts.len()).sum();
    let own = format!("{}/", domain.driver);
    // In slices a name without a domain is the driver's own.
    let short = |name: &str| name.strip_prefix(&own).unwrap_or(name).to_owned();
    let text = |value: &str| {
        let string = Some(attribute_text(value).to_owned());
        DeviceAttribute { string, ..DeviceAttribute::default() }
    };
    let number = |value: usize| DeviceAttribute {
        int: Some(i64::try_from(value).unwrap_or(i64::MAX)),
        ..DeviceAttribute::default()
    };
    let said_by_itself = [
        // By the same name in every vendor's drivers.
        (nvidia::TYPE.to_owned(), text(nvidia::TYPE_DOMAIN)),
        (portable::KIND.to_owned(), text(portable::KIND_DOMAIN)),
        (portable::FABRIC_DOMAIN.to_owned(), text(&domain.name)),
        (portable::NODES.to_owned(), number(members.len())),
        (portable::DEVICES.to_owned(), number(devices)),
    ];
    let capacity: BTreeMap<_, _> = sums(&facts).map(|(name, sum)| (short(name), capacity(sum))).collect();
    let mut attributes = BTreeMap::from(said_by_itself);
    let common = common(&facts).map(|(name, fact)| (short(name), attribute(fact)));
    // The portable ones first: their users know nothing of how many others there are.
    let (portable, others): (Vec<_>, Vec<_>) = common.partition(|(name, _)| name.starts_with("tessera.dev/"));
    for (name, value) in portable.into_iter().chain(others) {
        if attributes.len() + capacity.len() < AT_MOST {
            attributes.entry(name).or_insert(value);
        }
    }
    Device {
        name: domain.device().to_string(),
        attributes: Some(attributes),
        capacity: (!capacity.is_empty()).then_some(capacity),
        taints: (!taints.is_empty()).then_some(taints),
        ..Device::default()
    }
}

/// What all say alike.
fn common<'a>(facts: &'a [&'a Facts]) -> impl Iterator<Item = (&'a str, &'a Fact)> {
    let (first, rest) = facts.split_first().map_or((None, facts), |(first, rest)| (Some(*first), rest));
    let of_first = first.into_iter().flat_map(|facts| facts.attributes.iter());
    let by_all = move |(name, value): &(&'a str, &'a Fact)| {
        !name.starts_with(OF_A_NODE) && rest.iter().all(|facts| facts.fact(name) == Some(*value))
    };
    of_first.map(|(name, value)| (&**name, value)).filter(by_all)
}

/// Of each capacity that all have, how much it is together.
fn sums<'a>(facts: &'a [&'a Facts]) -> impl Iterator<Item = (&'a str, u64)> {
    let names = facts.first().into_iter().flat_map(|facts| facts.capacity.iter()).map(|(name, _)| &**name);
    let of = move |name: &str| {
        facts.iter().try_fold(0_u64, |sum, facts| {
            let (_, quantity) = facts.capacity.iter().find(|(known, _)| **known == *name)?;
            sum.checked_add(parse_quantity(quantity)?)
        })
    };
    names.filter_map(move |name| Some((name, of(name)?)))
}

fn attribute(fact: &Fact) -> DeviceAttribute {
    let none = DeviceAttribute::default();
    match fact {
        Fact::Text(value) => DeviceAttribute { string: Some(value.to_string()), ..none },
        Fact::Number(value) => DeviceAttribute { int: Some(*value), ..none },
        Fact::Answer(value) => DeviceAttribute { bool: Some(*value), ..none },
        Fact::Version(value) => DeviceAttribute { version: Some(value.to_string()), ..none },
    }
}

fn capacity(value: u64) -> DeviceCapacity {
    DeviceCapacity { value: Quantity(format_quantity(value)), request_policy: None }
}
