//! The Kubernetes versions that a cluster can be made of.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

/// A minor version of Kubernetes. The patch version is pinned in `parts/kubernetes/MINOR.mod`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum KubernetesVersion {
    /// The oldest that Tessera supports: the first with `resource.k8s.io/v1`.
    V1_34,
    /// 1.35.
    V1_35,
    /// 1.36.
    V1_36,
    /// The newest, and the default.
    #[default]
    V1_37,
}

impl KubernetesVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 4] = [Self::V1_34, Self::V1_35, Self::V1_36, Self::V1_37];

    /// `1.37`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1_34 => "1.34",
            Self::V1_35 => "1.35",
            Self::V1_36 => "1.36",
            Self::V1_37 => "1.37",
        }
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for KubernetesVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wanted = text.strip_prefix('v').unwrap_or(text);
        match Self::ALL.into_iter().find(|version| version.as_str() == wanted) {
            Some(version) => Ok(version),
            None => {
                bail!("Kubernetes version {text:?}: use one of {}", Self::ALL.map(KubernetesVersion::as_str).join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_reads_back_what_it_prints() {
        for version in KubernetesVersion::ALL {
            assert_eq!(version.to_string().parse::<KubernetesVersion>().unwrap(), version);
        }
        assert_eq!("v1.36".parse::<KubernetesVersion>().unwrap(), KubernetesVersion::V1_36);
    }

    #[test]
    fn an_unknown_version_names_the_known_ones() {
        let error = "1.33".parse::<KubernetesVersion>().unwrap_err().to_string();
        assert_eq!(error, "Kubernetes version \"1.33\": use one of 1.34, 1.35, 1.36, 1.37");
    }
}
