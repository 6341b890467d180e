use tessera_policy::{DeviceId, Layout, PartitionPolicySpec, Rule as Words, Which};
use tessera_vocabulary::attributes;

use crate::expression::{Device, Expression, Functions};
use crate::facts::Facts;

/// A rule of a policy that can be asked about devices.
#[derive(Debug)]
pub(crate) struct Rule {
    driver: Option<String>,
    vendor: Option<String>,
    product: Option<String>,
    /// The error is what is wrong with it.
    expression: Option<Result<Expression, String>>,
    /// On each node.
    pub(crate) at_most: usize,
    /// The error is what is wrong with it. The API server refuses such a rule; one that was stored before it knew to is held.
    pub(crate) layout: Result<Layout, String>,
}

/// What a rule says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is about the device.
    Matches,
    /// It is not.
    Differs,
    /// Nobody can know: nothing is changed about the device because of it.
    Unclear(String),
}

impl Rule {
    pub(crate) fn new(rule: &Words) -> Self {
        let Which { driver, vendor, product, cel } = rule.devices.clone();
        Self {
            driver,
            vendor,
            product,
            expression: cel.as_deref().map(Expression::compile),
            at_most: rule.max_per_node.and_then(|number| usize::try_from(number).ok()).unwrap_or(usize::MAX),
            layout: rule.layout.validate().map(|()| rule.layout.clone()),
        }
    }

    /// What is wrong with it whatever the devices are.
    pub(crate) fn fault(&self) -> Option<String> {
        let expression = self.expression.as_ref().and_then(|expression| expression.as_ref().err());
        expression
            .map(|error| format!("its expression does not compile: {error}"))
            .or_else(|| self.layout.clone().err())
    }

    /// `seen` is made once for all rules, and only if an expression asks.
    pub(crate) fn verdict(
        &self,
        functions: &Functions,
        id: &DeviceId,
        facts: &Facts,
        seen: &mut Option<Device>,
    ) -> Verdict {
        let says = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| facts.text(name) == Some(wanted))
        };
        if self.driver.as_ref().is_some_and(|driver| *driver != id.driver)
            || !says(&self.vendor, attributes::portable::VENDOR)
            || !says(&self.product, &format!("{}/{}", id.driver, attributes::nvidia::PRODUCT_NAME))
        {
            return Verdict::Differs;
        }
        if let Err(error) = &self.layout {
            return Verdict::Unclear(error.clone());
        }
        match &self.expression {
            None => Verdict::Matches,
            Some(Err(error)) => Verdict::Unclear(error.clone()),
            Some(Ok(expression)) => {
                let seen = seen.get_or_insert_with(|| Device::new(functions, id, facts));
                match expression.holds(functions, seen) {
                    Ok(true) => Verdict::Matches,
                    Ok(false) => Verdict::Differs,
                    Err(error) => Verdict::Unclear(error),
                }
            }
        }
    }
}

/// What is wrong with the expressions of a policy, by the number of the rule: such a rule matches no device.
pub fn expression_faults(spec: &PartitionPolicySpec) -> Vec<(usize, String)> {
    let expressions =
        spec.rules.iter().enumerate().filter_map(|(number, rule)| Some((number, rule.devices.cel.as_ref()?)));
    expressions.filter_map(|(number, source)| Some((number, Expression::compile(source).err()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Texts;
    use crate::testing::gpu;

    fn asked(rule: &Rule, functions: &Functions) -> Verdict {
        let mut device = gpu("gpu-0");
        let facts = Facts::take(&mut device, &mut Texts::default());
        rule.verdict(functions, &device.id, &facts, &mut None)
    }

    #[test]
    fn what_is_said_must_all_hold() {
        let functions = Functions::new();
        let which = |driver: &str, vendor: &str, product: &str, cel: &str| {
            let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Which { driver: said(driver), vendor: said(vendor), product: said(product), cel: said(cel) }
        };
        let cel = "device.attributes['tessera.dev'].model == 'H100'";
        for (devices, expected) in [
            (Which::default(), Verdict::Matches),
            (which("gpu.nvidia.com", "nvidia", "NVIDIA H100 80GB HBM3", cel), Verdict::Matches),
            (which("tpu.google.com", "", "", ""), Verdict::Differs),
            (which("", "google", "", ""), Verdict::Differs),
            (which("", "", "NVIDIA H100", ""), Verdict::Differs),
            (which("", "", "", "false"), Verdict::Differs),
            // What an expression would fail at is not asked of devices that are not meant.
            (which("tpu.google.com", "", "", "device.attributes['tpu.google.com'].tpuGen == 'v6e'"), Verdict::Differs),
            (
                which("", "", "", "device.attributes['tpu.google.com'].tpuGen == 'v6e'"),
                Verdict::Unclear("No such key: tpuGen".to_owned()),
            ),
        ] {
            let rule = Rule::new(&Words { devices: devices.clone(), max_per_node: None, layout: Layout::whole() });
            assert_eq!(asked(&rule, &functions), expected, "{devices:?}");
            assert_eq!(rule.fault(), None);
        }
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_unclear_about_all_that_it_may_mean() {
        let functions = Functions::new();
        let devices = |cel: Option<&str>| Which { cel: cel.map(str::to_owned), ..Which::default() };
        for rule in [
            Words { devices: devices(Some("device.driver ==")), max_per_node: None, layout: Layout::whole() },
            Words { devices: devices(None), max_per_node: None, layout: Layout::default() },
        ] {
            let rule = Rule::new(&rule);
            assert!(rule.fault().is_some());
            assert!(matches!(asked(&rule, &functions), Verdict::Unclear(_)));
        }
    }
}
