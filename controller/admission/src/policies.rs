//! PartitionPolicies: what the rules of their definition cannot say.

use tessera_policy::{PartitionPolicySpec, Rule, Which};

use crate::verdict::{FieldError, Verdict};

/// What else is wrong with a policy: whether its expressions compile is for whoever evaluates them to say.
pub type CheckPolicy = fn(&PartitionPolicySpec) -> Vec<FieldError>;

pub(crate) fn of_policy(spec: &PartitionPolicySpec, check: CheckPolicy) -> Verdict {
    let mut verdict = Verdict::good();
    for (index, rule) in spec.rules.iter().enumerate() {
        // The definition says the same, where it is the one that came with this version.
        if let Err(text) = rule.layout.validate() {
            verdict.refuse(format!("spec.rules[{index}].layout"), text);
        }
    }
    verdict.errors.extend(check(spec));
    if let Some(last) = spec.rules.iter().position(takes_all)
        && last + 1 < spec.rules.len()
    {
        let field = format!("spec.rules[{}]", last + 1);
        verdict.warn(field, format_args!("never followed, as rules[{last}] is for every device; put that one last"));
    }
    verdict
}

/// Whether a rule leaves no device to the rules behind it.
fn takes_all(rule: &Rule) -> bool {
    rule.devices == Which::default() && rule.max_per_node.is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judged(rules: Value) -> Verdict {
        let spec: PartitionPolicySpec = serde_json::from_value(json!({"rules": rules})).unwrap();
        of_policy(&spec, |spec| {
            let expressions =
                spec.rules.iter().enumerate().filter(|(_, rule)| rule.devices.cel.as_deref() == Some("("));
            let told =
                |(index, _)| FieldError { field: format!("spec.rules[{index}].devices.cel"), message: "no".into() };
            expressions.map(told).collect()
        })
    }

    #[test]
    fn a_policy_is_told_what_is_wrong_and_what_is_never_followed() {
        let whole = || json!({"whole": {}});
        let cases = [
            (json!([{"layout": whole()}]), "", ""),
            (json!([{"devices": {"vendor": "nvidia"}, "layout": whole()}, {"layout": {"dynamic": {}}}]), "", ""),
            (json!([{"maxPerNode": 1, "layout": whole()}, {"layout": {"dynamic": {}}}]), "", ""),
            (
                json!([{"layout": whole()}, {"devices": {"vendor": "nvidia"}, "layout": {"shares": {"count": 2}}}]),
                "",
                "spec.rules[1]: never followed, as rules[0] is for every device; put that one last",
            ),
            (
                json!([{"maxPerNode": 1, "layout": {}}, {"layout": {"whole": {}, "dynamic": {}}}]),
                "spec.rules[0].layout: 0 of whole, dynamic, partitions, shares and domain are set; exactly one must be\n\
                 spec.rules[1].layout: 2 of whole, dynamic, partitions, shares and domain are set; exactly one must be",
                "",
            ),
            (json!([{"devices": {"cel": "("}, "layout": whole()}]), "spec.rules[0].devices.cel: no", ""),
        ];
        for (rules, errors, warnings) in cases {
            let verdict = judged(rules.clone());
            let told: Vec<_> = verdict.errors.iter().map(|it| format!("{}: {}", it.field, it.message)).collect();
            assert_eq!((told.join("\n").as_str(), verdict.warnings.join("\n").as_str()), (errors, warnings), "{rules}");
        }
    }
}
