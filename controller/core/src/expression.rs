//! CEL over `device`, as in a DeviceClass.

use std::collections::{BTreeSet, HashMap};

use kube_cel::KubeCelExt;
use kube_cel::cel::{Context, Program, Value};
use tessera_policy::DeviceId;

use crate::facts::{Fact, Facts};

/// The functions that expressions may use: those of CEL and those that Kubernetes adds to it.
pub(crate) struct Functions {
    context: Context<'static>,
    quantity: Option<Program>,
    semver: Option<Program>,
}

impl Functions {
    pub(crate) fn new() -> Self {
        let compile = |source| Program::compile(source).ok();
        Self {
            context: Context::default().with_all(),
            quantity: compile("quantity(text)"),
            semver: compile("semver(text)"),
        }
    }

    /// What a text is as a quantity or version; the values of these types can only be made by the functions themselves.
    /// What is neither stays a text.
    fn parsed(&self, parser: Option<&Program>, text: &str) -> Value {
        let parse = |program: &Program| {
            let mut scope = self.context.new_inner_scope();
            scope.add_variable_from_value("text", text);
            program.execute(&scope).ok()
        };
        parser.and_then(parse).unwrap_or_else(|| text.into())
    }
}

/// A device as expressions see it.
pub(crate) struct Device {
    driver: Value,
    /// By domain.
    attributes: HashMap<String, Value>,
    capacity: HashMap<String, Value>,
}

impl Device {
    pub(crate) fn new(functions: &Functions, id: &DeviceId, facts: &Facts) -> Self {
        let attributes = facts.attributes.iter().map(|(name, fact)| {
            let value = match fact {
                Fact::Text(text) => (**text).into(),
                Fact::Number(number) => Value::Int(*number),
                Fact::Answer(answer) => Value::Bool(*answer),
                Fact::Version(text) => functions.parsed(functions.semver.as_ref(), text),
            };
            (&**name, value)
        });
        let quantity = |text: &str| functions.parsed(functions.quantity.as_ref(), text);
        let capacity = facts.capacity.iter().map(|(name, text)| (&**name, quantity(text)));
        Self {
            driver: id.driver.as_str().into(),
            attributes: by_domain(attributes, &id.driver),
            capacity: by_domain(capacity, &id.driver),
        }
    }
}

/// A name without a domain is the driver's.
fn by_domain<'a>(named: impl Iterator<Item = (&'a str, Value)>, driver: &'a str) -> HashMap<String, Value> {
    let mut domains: HashMap<&str, HashMap<String, Value>> = HashMap::new();
    for (name, value) in named {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain).or_default().insert(name.to_owned(), value);
    }
    domains.into_iter().map(|(domain, names)| (domain.to_owned(), names.into())).collect()
}

/// An expression that can be asked.
#[derive(Debug)]
pub(crate) struct Expression {
    program: Program,
    /// Every text in it: those that are domains a device says nothing of stand for an empty map, as in the scheduler.
    texts: BTreeSet<String>,
}

impl Expression {
    /// # Errors
    /// What is wrong with it, in one line.
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        if is_too_deep(source) {
            return Err(format!("it is nested deeper than {DEPTH} times, or has more than {OPERATORS} operators"));
        }
        let program = deep(|| Program::compile(source)).map_err(|error| one_line(&error.to_string()))?;
        Ok(Self { program, texts: texts(source) })
    }

    /// Whether a device is meant.
    ///
    /// # Errors
    /// Why it does not say so, in one line.
    pub(crate) fn holds(&self, functions: &Functions, device: &Device) -> Result<bool, String> {
        let domains = |known: &HashMap<String, Value>| {
            let mut domains = known.clone();
            for text in self.texts.iter().filter(|text| !known.contains_key(*text)) {
                domains.insert(text.clone(), HashMap::<String, Value>::new().into());
            }
            Value::from(domains)
        };
        let fields = HashMap::from([
            ("driver".to_owned(), device.driver.clone()),
            ("attributes".to_owned(), domains(&device.attributes)),
            ("capacity".to_owned(), domains(&device.capacity)),
        ]);
        let mut scope = functions.context.new_inner_scope();
        scope.add_variable_from_value("device", fields);
        match deep(|| self.program.execute(&scope)) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it is of type {}, not bool", other.type_of())),
            Err(error) => Err(one_line(&error.to_string())),
        }
    }
}

/// The parser and the interpreter call themselves for each level, and have no limit of their own: a policy must not be able
/// to end the controller.
const DEPTH: usize = 24;
const OPERATORS: usize = 512;

/// What they need for as much, several times over. Where less is left of the stack, they get another one.
const STACK_BYTES: usize = 32 << 20;

/// Runs them on a stack that is deep enough.
pub(crate) fn deep<T>(call: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, call)
}

fn is_too_deep(source: &str) -> bool {
    let (mut depth, mut deepest, mut operators) = (0_usize, 0, 0);
    for character in source.chars() {
        match character {
            '(' | '[' | '{' | '?' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '&' | '|' | '!' | '<' | '>' | '=' | '.' => operators += 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest > DEPTH || operators > OPERATORS
}

/// What stands between quotes. A text with escapes is cut wrongly, and is no domain.
fn texts(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = source;
    while let Some(start) = rest.find(['"', '\'']) {
        let (quote, after) = rest[start..].split_at(1);
        let Some(end) = after.find(quote) else { break };
        found.insert(after[..end].to_owned());
        rest = &after[end + 1..];
    }
    found
}

fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Texts;
    use crate::testing::gpu;

    fn seen(functions: &Functions) -> Device {
        let mut device = gpu("gpu-0");
        let facts = Facts::take(&mut device, &mut Texts::default());
        Device::new(functions, &device.id, &facts)
    }

    #[test]
    fn sees_what_a_device_class_sees() {
        let functions = Functions::new();
        let device = seen(&functions);
        for (source, expected) in [
            ("device.driver == 'gpu.nvidia.com'", Ok(true)),
            (r#"device.attributes["tessera.dev"].model == "H100""#, Ok(true)),
            (r#"device.attributes["gpu.nvidia.com"].productName.lowerAscii().matches("h100")"#, Ok(true)),
            (r#"device.capacity["tessera.dev"].memory.compareTo(quantity("80Gi")) >= 0"#, Ok(false)),
            (r#"device.capacity["tessera.dev"].memory.isGreaterThan(quantity("79Gi"))"#, Ok(true)),
            (r#"device.attributes["gpu.nvidia.com"].driverVersion.isGreaterThan(semver("570.0.0"))"#, Ok(true)),
            (r#"device.attributes["gpu.nvidia.com"].index in [0, 2]"#, Ok(true)),
            // A domain that the device does not have is there and is empty.
            (r#""kind" in device.attributes["example.com"]"#, Ok(false)),
            (r#"has(device.attributes["example.com"].kind)"#, Ok(false)),
            (r#"device.attributes["tessera.dev"].colour == "red""#, Err("No such key: colour")),
            (r#"device.attributes["tessera.dev"].model"#, Err("it is of type string, not bool")),
            ("gpu.driver == 'gpu.nvidia.com'", Err("Undeclared reference to 'gpu'")),
        ] {
            let answer = Expression::compile(source).unwrap().holds(&functions, &device);
            assert_eq!(answer, expected.map_err(str::to_owned), "{source}");
        }
    }

    #[test]
    fn what_is_no_expression_is_told_in_one_line() {
        for source in ["device.driver ==", "device.", "((", "{"] {
            let told = Expression::compile(source).unwrap_err();
            assert!(!told.contains('\n') && (1..=160).contains(&told.len()), "{told:?}");
        }
    }

    #[test]
    fn what_would_be_too_deep_is_refused_and_what_is_less_can_be_asked() {
        let functions = Functions::new();
        let device = seen(&functions);
        let nested = |number: usize| format!("{}true{}", "(".repeat(number), ")".repeat(number));
        let chain = |number: usize, operator: &str| vec!["true"; number].join(operator);
        for (fits, does_not) in [
            (nested(DEPTH), nested(DEPTH + 1)),
            (format!("{}true", "!".repeat(OPERATORS)), format!("{}true", "!".repeat(OPERATORS + 1))),
            (chain(OPERATORS / 2 + 1, "&&"), chain(OPERATORS / 2 + 2, "&&")),
            (format!("{} > 0", vec!["1"; OPERATORS].join("+")), format!("{} > 0", vec!["1"; OPERATORS + 1].join("+"))),
            (format!("{}true", "true?".repeat(DEPTH) + "true" + &":".repeat(DEPTH)), "true?".repeat(DEPTH + 1)),
        ] {
            if let Ok(expression) = Expression::compile(&fits) {
                expression.holds(&functions, &device).ok();
            }
            assert!(Expression::compile(&does_not).unwrap_err().starts_with("it is nested"), "{does_not}");
        }
        assert!(Expression::compile(&nested(DEPTH)).unwrap().holds(&functions, &device).unwrap());
    }
}
