use std::fmt;

/// Where a config stands, and so who wrote it.
///
/// Whoever may make a pod may make a claim; a DeviceClass is of the cluster, and its admin's. Some settings are for a
/// class alone. The order is that of precedence: what a claim says beats what its class says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A DeviceClass.
    Class,
    /// A ResourceClaim, or a ResourceClaimTemplate that claims are made of.
    Claim,
}

impl Place {
    /// From `source` of an entry in a claim's `status.allocation.devices.config`. A word that is not known yet is
    /// trusted as little as a claim.
    pub fn of_allocated(source: &str) -> Self {
        if source == "FromClass" { Self::Class } else { Self::Claim }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Class => "DeviceClass",
            Self::Claim => "claim",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_for_a_class_is_trusted_like_one() {
        for (source, expected) in [
            ("FromClass", Place::Class),
            ("FromClaim", Place::Claim),
            ("fromclass", Place::Claim),
            ("FromNamespace", Place::Claim),
            ("", Place::Claim),
        ] {
            assert_eq!(Place::of_allocated(source), expected, "{source:?}");
        }
    }
}
