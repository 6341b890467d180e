use std::fmt;

/// The name of an extended resource, `nvidia.com/gpu`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceName(String);

/// The most that NVIDIA's device plugin takes, domain and all. The kubelet takes a little more.
const BYTES: usize = 63;

/// A text that names no extended resource.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResourceName {
    /// Too long with its domain.
    #[error("resource name {0} has {len} bytes, and {BYTES} is the most", len = .0.len())]
    TooLong(String),
    /// Not in the form that Kubernetes takes.
    #[error(
        "resource name {0:?}: behind the domain it must be lower-case letters, digits, - and ., and begin and end with a letter or digit"
    )]
    Form(String),
}

impl ResourceName {
    /// A name in a domain, which may stand before it already.
    ///
    /// # Errors
    /// When Kubernetes, or NVIDIA's device plugin, takes no such name.
    pub fn new(domain: &str, name: &str) -> Result<Self, InvalidResourceName> {
        let name = name.strip_prefix(domain).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name);
        let full = format!("{domain}/{name}");
        if full.len() > BYTES {
            return Err(InvalidResourceName::TooLong(full));
        }
        let is_label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            let ends = label.bytes().next().zip(label.bytes().last());
            ends.is_some_and(|(first, last)| inner(first) && inner(last))
                && label.bytes().all(|byte| inner(byte) || byte == b'-')
        };
        if name.split('.').all(is_label) { Ok(Self(full)) } else { Err(InvalidResourceName::Form(full)) }
    }

    /// The name of what several pods share, where it is to be told from what they do not.
    ///
    /// # Errors
    /// When it is too long then.
    pub fn shared(&self) -> Result<Self, InvalidResourceName> {
        let full = format!("{self}.shared");
        if full.len() > BYTES { Err(InvalidResourceName::TooLong(full)) } else { Ok(Self(full)) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_domain_once() {
        let name = |text: &str| ResourceName::new("nvidia.com", text).map(|name| name.to_string());
        for (text, expected) in [
            ("gpu", "nvidia.com/gpu"),
            ("nvidia.com/gpu", "nvidia.com/gpu"),
            ("mig-1g.10gb.me", "nvidia.com/mig-1g.10gb.me"),
        ] {
            assert_eq!(name(text).as_deref(), Ok(expected));
        }
        for text in ["", "GPU", "gpu_a", "-gpu", "gpu.", "a/b", "amd.com/gpu", "mig-1g.10gb+me", &"x".repeat(60)] {
            assert!(name(text).is_err(), "{text}");
        }
    }
}
