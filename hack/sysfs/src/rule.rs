//! Rules: what makes an operation of the kernel fail or take long.
//!
//! ```text
//! <operation> [<address>] [driver=<name>] [latency_ms=<n>] [error=<name>] [times=<n>]
//! none
//! ```
//!
//! | operation | what it is | its error |
//! |---|---|---|
//! | `override` | a write to `driver_override` | the write's |
//! | `bind`, `unbind`, `drivers_probe` | a write to that file, before anything has happened | the write's |
//! | `probe` | a driver taking a function | `bind` fails with it; `drivers_probe` succeeds and leaves no driver, as in the kernel |
//! | `remove` | a driver letting go of a function | none: a driver cannot refuse that |
//!
//! `none` takes all rules away. Errors are `EBUSY`, `EINVAL`, `EIO`, `ENODEV`, `ENOMEM` and `EPERM`.

use std::str::FromStr;
use std::time::Duration;

use rustix::io::Errno;
use simulated_hardware::PciAddress;

/// What the kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A write to `driver_override`.
    Override,
    /// A write to `bind`.
    Bind,
    /// A write to `unbind`.
    Unbind,
    /// A write to `drivers_probe`.
    DriversProbe,
    /// A driver takes a function.
    Probe,
    /// A driver lets go of a function.
    Remove,
}

const OPERATIONS: [(&str, Operation); 6] = [
    ("override", Operation::Override),
    ("bind", Operation::Bind),
    ("unbind", Operation::Unbind),
    ("drivers_probe", Operation::DriversProbe),
    ("probe", Operation::Probe),
    ("remove", Operation::Remove),
];

const ERRORS: [(&str, Errno); 6] = [
    ("EBUSY", Errno::BUSY),
    ("EINVAL", Errno::INVAL),
    ("EIO", Errno::IO),
    ("ENODEV", Errno::NODEV),
    ("ENOMEM", Errno::NOMEM),
    ("EPERM", Errno::PERM),
];

/// A rule that makes operations fail or take long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which operation.
    pub operation: Operation,
    /// Only on this function.
    pub function: Option<PciAddress>,
    /// Only by this driver.
    pub driver: Option<String>,
    /// How long it takes before it goes on or fails.
    pub latency: Duration,
    /// What it fails with; `None` lets it go on.
    pub error: Option<Errno>,
    /// How often the rule still acts; `None` means without end.
    pub times: Option<u32>,
}

impl Rule {
    /// Every such operation, without effect until it is given one.
    pub fn new(operation: Operation) -> Self {
        Self { operation, function: None, driver: None, latency: Duration::ZERO, error: None, times: None }
    }

    fn is_about(&self, operation: Operation, function: PciAddress, driver: Option<&str>) -> bool {
        self.operation == operation
            && self.times != Some(0)
            && self.function.is_none_or(|wanted| wanted == function)
            && self.driver.as_deref().is_none_or(|wanted| Some(wanted) == driver)
    }
}

/// How long an operation takes by the rules, and what it fails with. Counts the use.
pub(crate) fn act(
    rules: &mut [Rule],
    operation: Operation,
    function: PciAddress,
    driver: Option<&str>,
) -> (Duration, Option<Errno>) {
    let mut found = (Duration::ZERO, None);
    for rule in rules.iter_mut().filter(|rule| rule.is_about(operation, function, driver)) {
        rule.times = rule.times.map(|times| times - 1);
        found = (found.0 + rule.latency, found.1.or(rule.error));
    }
    found
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let operation = named(&OPERATIONS, name).ok_or_else(|| format!("{name:?} is no operation"))?;
        let mut rule = Self::new(operation);
        for word in words {
            let Some((field, value)) = word.split_once('=') else {
                rule.function = Some(word.parse()?);
                continue;
            };
            let number = || value.parse::<u32>().map_err(|error| format!("{field}: {value:?}: {error}"));
            match field {
                "driver" => rule.driver = Some(value.to_owned()),
                "latency_ms" => rule.latency = Duration::from_millis(number()?.into()),
                "times" => rule.times = Some(number()?),
                "error" => {
                    rule.error =
                        Some(named(&ERRORS, value).ok_or_else(|| format!("{value:?} is no error known here"))?);
                }
                _ => return Err(format!("{field:?} is no field of a rule")),
            }
        }
        Ok(rule)
    }
}

fn named<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read() {
        let rule: Rule = "unbind 0000:1b:00.0 driver=nvidia latency_ms=500 error=EBUSY times=1".parse().unwrap();
        let expected = Rule {
            function: Some("0000:1b:00.0".parse().unwrap()),
            driver: Some("nvidia".to_owned()),
            latency: Duration::from_millis(500),
            error: Some(Errno::BUSY),
            times: Some(1),
            ..Rule::new(Operation::Unbind)
        };
        assert_eq!(rule, expected);
        for text in ["", "fly", "bind error=E", "bind latency_ms=-1", "bind 1b:00", "bind colour=red"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rule_acts_as_often_as_it_says() {
        let function = "0000:1b:00.0".parse().unwrap();
        let mut rules = ["probe driver=nvidia error=EIO times=1".parse().unwrap()];
        let mut failed = |driver| act(&mut rules, Operation::Probe, function, Some(driver)).1;
        assert_eq!(failed("vfio-pci"), None);
        assert_eq!(failed("nvidia"), Some(Errno::IO));
        assert_eq!(failed("nvidia"), None);
    }
}
