use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a device is to be offered as: exactly one of the fields is there.
///
/// Not an enum, since the schema of one is not structural; [`Layout::validate`] says what the rule of the schema says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.whole), has(self.dynamic), has(self.partitions), has(self.shares), has(self.domain)].filter(x, x).size() == 1",
    "message": "exactly one of whole, dynamic, partitions, shares and domain must be set",
}]))]
pub struct Layout {
    /// As a whole, for one claim or pod at a time, and never cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Anything>,
    /// As a whole and in every part that it can have; parts are made when a claim is prepared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic: Option<Anything>,
    /// In these parts, made beforehand and kept, and in nothing else (MIG).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub partitions: Option<Vec<Mix>>,
    /// As a whole, for several claims or pods at a time, which take turns (time-slicing).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shares: Option<Shares>,
    /// Together with all others of its fabric domain, on all its nodes, for one claim at a time. By itself the device is not
    /// offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Anything>,
}

/// A layout that has nothing to be said of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Anything {}

/// Equal parts of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mix {
    /// The vendor's name of the part: `1g.10gb`, `3g.40gb`, `1g.10gb+me`.
    #[schemars(length(min = 1, max = 63), pattern("^[0-9a-z][0-9a-z.+-]*$"))]
    pub profile: String,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub count: u32,
}

const fn one() -> u32 {
    1
}

/// Shares of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Shares {
    /// How many claims or pods may have the device at once.
    #[schemars(range(min = 2, max = 256))]
    pub count: u32,
}

impl Layout {
    /// Only as a whole.
    pub fn whole() -> Self {
        Self { whole: Some(Anything {}), ..Self::default() }
    }

    /// As whatever it can be.
    pub fn dynamic() -> Self {
        Self { dynamic: Some(Anything {}), ..Self::default() }
    }

    /// In these parts: profile and number of each.
    pub fn partitions<'a>(mix: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mix = mix.into_iter().map(|(profile, count)| Mix { profile: profile.to_owned(), count });
        Self { partitions: Some(mix.collect()), ..Self::default() }
    }

    /// For so many at once.
    pub fn shares(count: u32) -> Self {
        Self { shares: Some(Shares { count }), ..Self::default() }
    }

    /// Together with all others of its fabric domain.
    pub fn domain() -> Self {
        Self { domain: Some(Anything {}), ..Self::default() }
    }

    /// Whether it says one thing, as the schema demands of what is stored.
    ///
    /// # Errors
    /// A text for whoever wrote it.
    pub fn validate(&self) -> Result<(), String> {
        let Self { whole, dynamic, partitions, shares, domain } = self;
        let set = [whole.is_some(), dynamic.is_some(), partitions.is_some(), shares.is_some(), domain.is_some()];
        match set.into_iter().filter(|set| *set).count() {
            1 => Ok(()),
            number => {
                Err(format!("{number} of whole, dynamic, partitions, shares and domain are set; exactly one must be"))
            }
        }
    }
}

/// As a person would say it: `whole`, `dynamic`, `7x1g.10gb`, `3g.40gb+4g.40gb`, `4 shares`, `domain`.
impl std::fmt::Display for Layout {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self { whole: Some(_), .. } => formatter.write_str("whole"),
            Self { dynamic: Some(_), .. } => formatter.write_str("dynamic"),
            Self { domain: Some(_), .. } => formatter.write_str("domain"),
            Self { shares: Some(shares), .. } => write!(formatter, "{} shares", shares.count),
            Self { partitions: Some(mix), .. } => {
                let one = |Mix { profile, count }: &Mix| match count {
                    1 => profile.clone(),
                    count => format!("{count}x{profile}"),
                };
                formatter.write_str(&mix.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Self { .. } => formatter.write_str("nothing"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    #[test]
    fn a_layout_is_one_thing() {
        for (layout, text) in [
            (Layout::whole(), "whole"),
            (Layout::dynamic(), "dynamic"),
            (Layout::partitions([("1g.10gb", 7)]), "7x1g.10gb"),
            (Layout::partitions([("3g.40gb", 1), ("4g.40gb", 1)]), "3g.40gb, 4g.40gb"),
            (Layout::shares(4), "4 shares"),
            (Layout::domain(), "domain"),
        ] {
            assert_eq!(layout.validate(), Ok(()));
            assert_eq!(layout.to_string(), text);
        }
        let both = Layout { shares: Layout::shares(2).shares, ..Layout::whole() };
        assert!(both.validate().is_err() && Layout::default().validate().is_err());
    }
}
