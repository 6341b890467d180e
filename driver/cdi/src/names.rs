use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Not a [`Kind`].
    #[error(
        "CDI kind {0:?} is not allowed: it must be vendor/class, each starting with a letter, ending with a letter or \
         digit, with letters, digits, '_', '-' and '.' between"
    )]
    Kind(String),
    /// Not a [`DeviceName`].
    #[error(
        "CDI device name {0:?} is not allowed: it must start and end with a letter or digit, with letters, digits, \
         '_', '-', '.' and ':' between"
    )]
    Device(String),
    /// Not a [`QualifiedName`]: the `=` is missing.
    #[error("qualified CDI name {0:?} is not allowed: it must be vendor/class=name")]
    Qualified(String),
    /// Not a [`FileName`](crate::FileName).
    #[error(
        "CDI file name {0:?} is not allowed: it must end in .json, be at most 255 bytes, not start with a dot and hold \
         no '/' or control characters"
    )]
    File(String),
}

/// The kind of the devices of a spec: `vendor/class`, for instance `nvidia.com/gpu`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Kind(String);

impl Kind {
    /// Puts a kind together.
    pub fn new(vendor: &str, class: &str) -> Result<Self, InvalidName> {
        Self::try_from(format!("{vendor}/{class}"))
    }

    /// The part before the slash: a domain that the vendor owns.
    pub fn vendor(&self) -> &str {
        self.parts().0
    }

    /// The part after the slash.
    pub fn class(&self) -> &str {
        self.parts().1
    }

    /// `vendor/class`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }
}

impl TryFrom<String> for Kind {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let is_name = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphabetic())
                && has_alphanumeric_ends(name)
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        };
        match text.split_once('/') {
            Some((vendor, class)) if is_name(vendor) && is_name(class) => Ok(Self(text)),
            _ => Err(InvalidName::Kind(text)),
        }
    }
}

/// The name of a device within its spec, for instance `0000-65-00-0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeviceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
        if has_alphanumeric_ends(&text) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(InvalidName::Device(text))
        }
    }
}

/// What a kubelet or a runtime calls a device: `vendor/class=name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    /// The kind of the spec that defines the device.
    pub kind: Kind,
    /// The device's name in that spec.
    pub device: DeviceName,
}

impl QualifiedName {
    /// Names a device of a kind.
    pub fn new(kind: Kind, device: DeviceName) -> Self {
        Self { kind, device }
    }
}

impl FromStr for QualifiedName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (kind, device) = text.split_once('=').ok_or_else(|| InvalidName::Qualified(text.to_owned()))?;
        Ok(Self::new(kind.parse()?, device.parse()?))
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.kind, self.device)
    }
}

impl FromStr for Kind {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl FromStr for DeviceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::try_from(text.to_owned())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Also says that the text is not empty.
pub(crate) fn has_alphanumeric_ends(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    alphanumeric(text.as_bytes().first()) && alphanumeric(text.as_bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for good in ["a/b", "nvidia.com/gpu", "A-1/b_2", "a.b/c.d", "a--b/c..d"] {
            assert_eq!(good.parse::<Kind>().map(|kind| kind.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "/", "a", "a/", "/b", "1a/b", "a/1b", "a-/b", "a/b-", "a/b/c", "a/b=c", "ä/b", "a/b c", "a/.b"]
        {
            assert_eq!(bad.parse::<Kind>(), Err(InvalidName::Kind(bad.to_owned())));
        }
        let kind = Kind::new("k8s.gpu.nvidia.com", "claim").unwrap();
        assert_eq!((kind.vendor(), kind.class()), ("k8s.gpu.nvidia.com", "claim"));
        assert!(Kind::new("a/b", "c").is_err());
    }

    #[test]
    fn device_names() {
        for good in ["0", "a", "gpu-0", "0000:65:00.0", "a_b", "MIG-1.2:3"] {
            assert_eq!(good.parse::<DeviceName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a-", ":", "a/b", "a=b", "a b", "é", "a\n"] {
            assert_eq!(bad.parse::<DeviceName>(), Err(InvalidName::Device(bad.to_owned())));
        }
    }

    #[test]
    fn qualified_names() {
        let name: QualifiedName = "nvidia.com/gpu=0000:65:00.0".parse().unwrap();
        assert_eq!((name.kind.as_str(), name.device.as_str()), ("nvidia.com/gpu", "0000:65:00.0"));
        assert_eq!(name.to_string(), "nvidia.com/gpu=0000:65:00.0");

        let refused = |text: &str| text.parse::<QualifiedName>().unwrap_err();
        assert_eq!(refused("gpu0"), InvalidName::Qualified("gpu0".to_owned()));
        assert_eq!(refused("/dev/nvidia0"), InvalidName::Qualified("/dev/nvidia0".to_owned()));
        assert_eq!(refused("gpu=0"), InvalidName::Kind("gpu".to_owned()));
        assert_eq!(refused("a/b="), InvalidName::Device(String::new()));
        assert_eq!(refused("a/b=c=d"), InvalidName::Device("c=d".to_owned()));
    }
}
