//! The name of a cluster: part of paths, of cgroups and of what people type.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// The longest name. Sockets lie below a directory of this name, and the kernel takes 107 bytes for a socket's path.
const LONGEST: usize = 24;

/// A checked cluster name: 1 to 24 of `a-z`, `0-9` and `-`, with a letter or a digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let ends_are_plain = bytes.first().copied().is_some_and(plain) && bytes.last().copied().is_some_and(plain);
        if bytes.len() > LONGEST || !ends_are_plain || !bytes.iter().all(|&byte| plain(byte) || byte == b'-') {
            bail!(
                "cluster name {text:?}: use 1 to {LONGEST} of a-z, 0-9 and '-', beginning and ending with a letter or a digit"
            );
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ClusterName {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<ClusterName> for String {
    fn from(name: ClusterName) -> Self {
        name.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_and_names_that_do_not() {
        for good in ["a", "e2e", "mig-1", "0", "abcdefghijklmnopqrstuvwx"] {
            assert!(good.parse::<ClusterName>().is_ok(), "{good}");
        }
        for bad in ["", "-", "-a", "a-", "A", "a_b", "a/b", "..", "ü", "abcdefghijklmnopqrstuvwxy"] {
            let error = bad.parse::<ClusterName>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("cluster name {bad:?}: use 1 to 24")), "{error}");
        }
    }
}
