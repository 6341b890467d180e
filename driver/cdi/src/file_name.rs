use std::fmt;
use std::str::FromStr;

use crate::{InvalidName, Kind};

/// The longest name of a file, in bytes (`NAME_MAX` of Linux).
const MAX_LENGTH: usize = 255;

/// The name of a spec file within its directory. Safe as one component of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// The name for a spec that lives as long as something else, for instance a claim: `<vendor>-<class>_<id>.json`.
    /// A slash in the id becomes `_`, as in the Go module's `GenerateTransientSpecName`.
    pub fn transient(kind: &Kind, id: &str) -> Result<Self, InvalidName> {
        Self::try_from(format!("{}{}.json", Self::transient_prefix(kind), id.replace('/', "_")))
    }

    /// What the names of all transient specs of a kind start with. Names of other kinds may start with it too, where
    /// their class goes on with `_`.
    pub fn transient_prefix(kind: &Kind) -> String {
        format!("{}-{}_", kind.vendor(), kind.class())
    }

    /// The id that [`FileName::transient`] made this name from; `None` if it was made otherwise.
    pub fn transient_id(&self, kind: &Kind) -> Option<&str> {
        self.0.strip_suffix(".json")?.strip_prefix(&Self::transient_prefix(kind))
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FileName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let allowed = text.len() <= MAX_LENGTH
            && text.ends_with(".json")
            && !text.starts_with('.')
            && !text.contains(|character: char| character == '/' || character.is_control());
        if allowed { Ok(Self(text)) } else { Err(InvalidName::File(text)) }
    }
}

impl FromStr for FileName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_convention_for_transient_specs() {
        let kind = Kind::new("k8s.gpu.nvidia.com", "claim").unwrap();
        let name = FileName::transient(&kind, "4c3f8d36-2f8f-4a8e-9d0f-0d7a3c1d9d0a").unwrap();
        assert_eq!(name.as_str(), "k8s.gpu.nvidia.com-claim_4c3f8d36-2f8f-4a8e-9d0f-0d7a3c1d9d0a.json");
        assert_eq!(name.transient_id(&kind), Some("4c3f8d36-2f8f-4a8e-9d0f-0d7a3c1d9d0a"));
        assert_eq!(name.transient_id(&Kind::new("k8s.gpu.nvidia.com", "gpu").unwrap()), None);
        assert_eq!(FileName::transient(&kind, "../a").unwrap().as_str(), "k8s.gpu.nvidia.com-claim_.._a.json");
    }

    #[test]
    fn is_one_safe_component_of_a_path() {
        let longest = format!("{}.json", "a".repeat(250));
        for good in ["a.json", "a..json", "a b.json", longest.as_str()] {
            assert_eq!(good.parse::<FileName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = format!("a{longest}");
        for bad in
            ["", ".json", "..", "a", "a.yaml", "a.json/", "../a.json", "/a.json", "a\0.json", "a\n.json", &too_long]
        {
            assert_eq!(bad.parse::<FileName>(), Err(InvalidName::File(bad.to_owned())));
        }
    }
}
