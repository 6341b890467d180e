use serde_json::Value;

use crate::{DeviceType, Place};

/// Why a config is refused: where it stands, its kind where that is known, and what is wrong with it.
///
/// The text is shorter than 200 bytes and holds no control characters, whatever the config holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} in the {place}: {problem}", kind.unwrap_or("config"))]
pub struct ConfigError {
    /// Where the config stands.
    pub place: Place,
    /// Its kind, once that was found to be one that is known.
    pub kind: Option<&'static str>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a config. Paths are those of fields below `parameters`, joined by dots: `iommu.backendPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A field has a value, or a type, that it cannot have.
    #[error("{path} is {found}; allowed: {allowed}")]
    Value {
        /// The field, or `parameters` itself.
        path: String,
        /// What it has.
        found: String,
        /// What it may have.
        allowed: String,
    },
    /// A field that must be there is not, or is null.
    #[error("{path} is missing; allowed: {allowed}")]
    Missing {
        /// The field.
        path: String,
        /// What it may have.
        allowed: String,
    },
    /// There is no such field.
    #[error("unknown field {path}; allowed: {allowed}")]
    UnknownField {
        /// The field.
        path: String,
        /// The fields that there are.
        allowed: String,
    },
    /// The value is known, and what it asks for is not offered.
    #[error("{path} {value} is not offered yet; remove {remove}")]
    NotOffered {
        /// The field.
        path: String,
        /// What it has.
        value: &'static str,
        /// What to take out of the config.
        remove: &'static str,
    },
    /// A claim has what is for a DeviceClass alone.
    #[error("{path} is {found}; that is for the cluster's admin to say, in the DeviceClass")]
    ForClassAlone {
        /// The field.
        path: String,
        /// What it has.
        found: String,
    },
    /// The config names a request, and the devices of that request are of another type.
    #[error("it is for a {wanted}, and request {request} has a {found}; name other requests")]
    WrongDevice {
        /// The request, as the config names it.
        request: String,
        /// The type of its device, or of the first of them.
        found: DeviceType,
        /// The type that the config is for.
        wanted: DeviceType,
    },
    /// What acts on a whole container is said differently of two of the claim's requests.
    #[error(transparent)]
    Disagreement(Box<Disagreement>),
}

impl Problem {
    /// The field that it is about, below `parameters`. None where it is about the config as a whole.
    pub fn path(&self) -> Option<&str> {
        match self {
            // No kind has a field of that name.
            Self::Value { path, .. } if path == WHOLE => None,
            Self::Value { path, .. }
            | Self::Missing { path, .. }
            | Self::UnknownField { path, .. }
            | Self::NotOffered { path, .. }
            | Self::ForClassAlone { path, .. } => Some(path),
            Self::WrongDevice { .. } => None,
            Self::Disagreement(disagreement) => Some(disagreement.path),
        }
    }
}

/// How a text calls a config as a whole.
pub(crate) const WHOLE: &str = "parameters";

/// Two requests of a claim for whose devices a setting has different values, where one container has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is {one} for request {request} and {another} for request {other}; say one, or use two claims")]
pub struct Disagreement {
    /// The field.
    pub path: &'static str,
    /// A request, as the allocation has it.
    pub request: String,
    /// What holds for its devices.
    pub one: String,
    /// Another request.
    pub other: String,
    /// What holds for that one's.
    pub another: String,
}

/// A value as a text shows it: in a few words, whatever its size and depth.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => clipped(&number.to_string()),
        Value::String(text) => format!("\"{}\"", clipped(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The beginning of a user's word, at most 40 bytes, without characters that a terminal or a log takes for more than text.
pub(crate) fn clipped(text: &str) -> String {
    const LIMIT: usize = 40;
    const MORE: &str = "...";
    let mut kept = String::new();
    for character in text.chars() {
        let before = kept.len();
        kept.extend(character.escape_debug());
        if kept.len() > LIMIT {
            kept.truncate(before);
            while kept.len() > LIMIT - MORE.len() {
                kept.pop();
            }
            kept.push_str(MORE);
            break;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_names_the_field_that_it_is_about() {
        let value =
            |path: &str| Problem::Value { path: path.to_owned(), found: "1".to_owned(), allowed: "2".to_owned() };
        let wrong = Problem::WrongDevice { request: "a".to_owned(), found: DeviceType::Gpu, wanted: DeviceType::Tpu };
        assert_eq!(value("iommu.backendPolicy").path(), Some("iommu.backendPolicy"));
        assert_eq!(value("parameters").path(), None);
        assert_eq!(wrong.path(), None);
    }

    #[test]
    fn a_users_word_is_clipped_and_harmless() {
        let cases = [
            ("LegacyOnly", "LegacyOnly"),
            ("", ""),
            ("a\nb\u{202e}\"", "a\\nb\\u{202e}\\\""),
            (&"x".repeat(40), &"x".repeat(40)),
            (&"x".repeat(41), "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."),
            (&"ä".repeat(21), "ääääääääääääääääää..."),
        ];
        for (text, expected) in cases {
            assert_eq!(clipped(text), expected);
        }
    }
}
