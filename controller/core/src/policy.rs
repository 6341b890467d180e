use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use kube_core::{Selector, SelectorExt};
use tessera_policy::{FINALIZER, PartitionPolicy, PartitionPolicySpec, PartitionPolicyStatus, Rollout};

use crate::node::Node;
use crate::rule::Rule;
use crate::{PolicyName, Revision};

/// A policy, ready to be asked.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: PolicyName,
    pub(crate) uid: String,
    pub(crate) created: Option<Timestamp>,
    pub(crate) generation: Option<i64>,
    pub(crate) revision: Revision,
    /// As it stands in the object: preconditions name it so.
    pub(crate) resource_version: String,
    pub(crate) finalizers: Vec<String>,
    /// It is deleted as soon as no device has a layout of it any more.
    pub(crate) withdrawn: bool,
    selector: Result<Selector, String>,
    pub(crate) rules: Vec<Rule>,
    pub(crate) rollout: Rollout,
    pub(crate) status: PartitionPolicyStatus,
    /// To see whether what comes later says anything else. `None` if nobody here can read it.
    spec: Option<PartitionPolicySpec>,
}

impl Policy {
    /// `None` without a name, which nothing that was stored is.
    pub(crate) fn new(policy: PartitionPolicy) -> Option<Self> {
        let (metadata, spec) = (policy.metadata, policy.spec);
        let selector = spec.node_selector.clone().map_or_else(|| Ok(Selector::default()), Selector::try_from);
        Some(Self {
            name: metadata.name.as_deref()?.into(),
            uid: metadata.uid.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            generation: metadata.generation,
            revision: Revision::read(metadata.resource_version.as_deref()),
            resource_version: metadata.resource_version.unwrap_or_default(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            withdrawn: metadata.deletion_timestamp.is_some(),
            selector: selector.map_err(|error| format!("nodeSelector cannot be read: {error}")),
            rules: spec.rules.iter().map(Rule::new).collect(),
            rollout: spec.rollout.clone(),
            status: policy.status.unwrap_or_default(),
            spec: Some(spec),
        })
    }

    /// One that is there and that nobody here can read: perhaps a later release has written it.
    pub(crate) fn unreadable(metadata: ObjectMeta, error: &str) -> Option<Self> {
        let spec = PartitionPolicySpec { node_selector: None, rules: Vec::new(), rollout: Rollout::default() };
        let selector = Err(format!("it cannot be read: {error}"));
        Some(Self { selector, spec: None, ..Self::new(PartitionPolicy { metadata, spec, status: None })? })
    }

    /// Whether it means for every node what this object says.
    pub(crate) fn says_what(&self, policy: &PartitionPolicy) -> bool {
        let metadata = &policy.metadata;
        self.spec.as_ref() == Some(&policy.spec)
            && self.withdrawn == metadata.deletion_timestamp.is_some()
            && self.uid == metadata.uid.as_deref().unwrap_or_default()
            && self.created == metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    /// Takes what else there is of an object that says the same.
    pub(crate) fn renew(&mut self, policy: PartitionPolicy) {
        let metadata = policy.metadata;
        self.generation = metadata.generation;
        self.revision = Revision::read(metadata.resource_version.as_deref());
        self.resource_version = metadata.resource_version.unwrap_or_default();
        self.finalizers = metadata.finalizers.unwrap_or_default();
        self.status = policy.status.unwrap_or_default();
    }

    /// Older ones come first.
    pub(crate) fn age(&self) -> (Option<Timestamp>, &PolicyName) {
        (self.created, &self.name)
    }

    /// Whether devices of a node may follow it.
    pub(crate) fn selects(&self, node: &Node) -> bool {
        !self.withdrawn && self.selector.as_ref().is_ok_and(|selector| selector.matches(&node.labels))
    }

    /// Nobody knows which nodes are meant, so what follows it stays.
    pub(crate) fn is_unreadable(&self) -> bool {
        !self.withdrawn && self.selector.is_err()
    }

    /// What is wrong with it whatever the devices are.
    pub(crate) fn fault(&self) -> Option<String> {
        if let Err(error) = &self.selector {
            return Some(format!("{error}; nothing is changed until it can"));
        }
        let fault = |(index, rule): (usize, &Rule)| Some(rule_fault(index, &rule.fault()?, "it is about no device"));
        self.rules.iter().enumerate().find_map(fault)
    }

    /// How many nodes may be changing or not ready at once, of so many.
    pub(crate) fn max_unavailable(&self, nodes: usize) -> usize {
        let number = match &self.rollout.max_unavailable {
            IntOrString::Int(number) => usize::try_from(*number).unwrap_or(1),
            IntOrString::String(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.parse::<usize>().ok());
                percent.map_or(1, |percent| nodes * percent.min(100) / 100)
            }
        };
        number.max(1)
    }

    /// Whether so many nodes, or devices on them, that failed keep further ones from being begun.
    pub(crate) fn is_stopped_by(&self, failed: usize) -> bool {
        failed >= usize::try_from(self.rollout.max_failed.max(1)).unwrap_or(usize::MAX)
    }

    pub(crate) fn is_finalized(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }
}

/// What is wrong with a rule, counted as a person does.
pub(crate) fn rule_fault(index: usize, error: &str, therefore: &str) -> String {
    format!("rule {}: {error}; {therefore}, and no layout is changed because of it", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::policy;

    #[test]
    fn so_many_nodes_may_be_changing() {
        for (said, nodes, expected) in [
            (IntOrString::Int(1), 10, 1),
            (IntOrString::Int(3), 2, 3),
            (IntOrString::Int(0), 10, 1),
            (IntOrString::Int(-2), 10, 1),
            (IntOrString::String("25%".to_owned()), 10, 2),
            (IntOrString::String("25%".to_owned()), 3, 1),
            (IntOrString::String("25%".to_owned()), 0, 1),
            (IntOrString::String("100%".to_owned()), 7, 7),
            (IntOrString::String("900%".to_owned()), 7, 7),
            (IntOrString::String("many".to_owned()), 10, 1),
        ] {
            let mut policy = policy("p");
            policy.spec.rollout.max_unavailable = said.clone();
            assert_eq!(Policy::new(policy).unwrap().max_unavailable(nodes), expected, "{said:?} of {nodes}");
        }
    }

    #[test]
    fn a_selector_is_read_or_holds_everything() {
        let node = |labels: &[(&str, &str)]| Node {
            uid: String::new(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            not_ready_since: None,
        };
        let read = |selector: serde_json::Value| {
            let mut policy = policy("p");
            policy.spec.node_selector = serde_json::from_value(selector).unwrap();
            Policy::new(policy).unwrap()
        };
        let expression = |operator: &str| serde_json::json!({"matchExpressions": [{"key": "a", "operator": operator, "values": ["1"]}]});
        for (selector, labels, selected) in [
            (serde_json::Value::Null, &[][..], true),
            (serde_json::json!({"matchLabels": {"a": "1"}}), &[("a", "1"), ("b", "2")], true),
            (serde_json::json!({"matchLabels": {"a": "1"}}), &[("a", "2")], false),
            (expression("NotIn"), &[], true),
            (expression("In"), &[("a", "1")], true),
        ] {
            assert_eq!(read(selector.clone()).selects(&node(labels)), selected, "{selector}");
        }
        let unreadable = read(expression("Near"));
        assert!(unreadable.is_unreadable() && !unreadable.selects(&node(&[("a", "1")])));
        assert!(unreadable.fault().unwrap().starts_with("nodeSelector cannot be read"));
    }
}
