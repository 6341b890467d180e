use serde_json::{Map, Value};

use crate::Problem;
use crate::error::{WHOLE, clipped, shown};

/// A JSON object of a config, its fields read by name and strictly.
///
/// Not serde's derive: that takes a list for a struct and `{"LegacyOnly": null}` for a name, says what it expects only
/// in a text that quotes all of the user's. A field that is null is one that is not there, as everywhere in Kubernetes. Nothing here follows a value further down than a kind has fields.
pub(crate) struct Object<'a> {
    path: String,
    fields: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    /// The parameters of a config.
    pub(crate) fn of_parameters(parameters: &'a Value) -> Result<Self, Problem> {
        match parameters {
            Value::Object(fields) => Ok(Self { path: String::new(), fields }),
            other => Err(wrong(WHOLE.to_owned(), other, "an object".to_owned())),
        }
    }

    /// # Errors
    /// When there is a field besides these.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        match self.fields.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(Problem::UnknownField { path: self.path_of(&spelt(name)), allowed: known.join(", ") }),
        }
    }

    /// An object inside this one.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Object<'a>>, Problem> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Object { path: self.path_of(name), fields })),
            Some(other) => Err(wrong(self.path_of(name), other, "an object".to_owned())),
        }
    }

    /// A field that is true or false.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        match self.field(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(self.path_of(name), other, "true, false".to_owned())),
        }
    }

    /// A field that has one of a few whole numbers.
    pub(crate) fn number<T: Copy>(&self, name: &str, numbers: &[(u64, T)]) -> Result<Option<T>, Problem> {
        let Some(value) = self.field(name) else { return Ok(None) };
        match numbers.iter().find(|(number, _)| value.as_u64() == Some(*number)) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let allowed: Vec<_> = numbers.iter().map(|(number, _)| number.to_string()).collect();
                Err(wrong(self.path_of(name), value, allowed.join(", ")))
            }
        }
    }

    /// A field that has one of a few names.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(value) = self.field(name) else { return Ok(None) };
        match choices.iter().find(|(choice, _)| value.as_str() == Some(choice)) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => Err(wrong(self.path_of(name), value, names(choices))),
        }
    }

    /// The same, where the field must be there.
    pub(crate) fn required<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
        let missing = || Problem::Missing { path: self.path_of(name), allowed: names(choices) };
        self.choice(name, choices)?.ok_or_else(missing)
    }

    /// The path of a field of this object.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field, unless it is null.
    pub(crate) fn field(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }
}

/// The name of a field as a path shows it, in quotes where it could be taken for more than one field or for none.
fn spelt(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
    if plain { clipped(name) } else { format!("\"{}\"", clipped(name)) }
}

fn names<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn wrong(path: String, found: &Value, allowed: String) -> Problem {
    Problem::Value { path, found: shown(found), allowed }
}
