//! What a policy's status says of domains.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::outlook::Reason;
use super::{Domains, OfPolicy};
use crate::policy::Policy;

/// The condition that says whether the domains of a policy's devices are offered.
pub(crate) const DOMAINS_OFFERED: &str = "DomainsOffered";

/// No device that follows the policy lies in one.
const NO_DOMAINS: &str = "NoDomains";

/// Whether a policy has anything to do with domains: what it says, and what follows it.
pub(crate) fn is_wanted_by(policy: &Policy, domains: &Domains) -> bool {
    let says = policy.rules.iter().any(|rule| rule.layout.as_ref().is_ok_and(|layout| layout.domain.is_some()));
    says || domains.of_policies.contains_key(&policy.name)
}

/// Whether the condition says something that somebody must know though it was never anything else.
pub(crate) fn is_alarm(condition: &Condition) -> bool {
    // Every policy begins with these.
    let is_beginning = [NO_DOMAINS, Reason::RollingOut.word()].contains(&condition.reason.as_str());
    condition.type_ == DOMAINS_OFFERED && condition.status == "False" && !is_beginning
}

/// Status, reason and message of the condition.
pub(crate) fn told(policy: &Policy, domains: &Domains) -> (bool, &'static str, String) {
    if domains.drivers.is_empty() {
        let text = "the controller offers no domains: set controller.domains.enabled, or --domains and --drivers";
        return (false, "Disabled", text.to_owned());
    }
    let nothing = OfPolicy::default();
    let OfPolicy { offered, hindered } = domains.of_policies.get(&policy.name).unwrap_or(&nothing);
    let first = hindered.first().and_then(|(reason, domain)| Some((*reason, domain, domains.outlooks.get(domain)?)));
    if let Some((reason, domain, outlook)) = first {
        let said = outlook.obstacle.as_ref().map(|obstacle| obstacle.message.as_str()).unwrap_or_default();
        let all = offered.len() + hindered.len();
        let which = if all == 1 { String::new() } else { format!("{} of {all} domains are offered; ", offered.len()) };
        let text = format!("{which}domain {domain} of {} is not offered: {said}", domain.driver);
        return (false, reason.word(), text);
    }
    if offered.is_empty() {
        let text =
            "no device that follows the policy lies in a fabric domain that spans nodes, as far as its agent knows";
        return (false, NO_DOMAINS, text.to_owned());
    }
    let number = if offered.len() == 1 { "1 domain is".to_owned() } else { format!("{} domains are", offered.len()) };
    if domains.drops_taints {
        let text = format!("{number} offered; the API server drops taints, so a domain goes while it is not complete");
        return (true, "Offered", text);
    }
    (true, "Offered", format!("{number} offered"))
}
