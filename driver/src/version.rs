use semver::Version;

/// The strict semver of a version as drivers spell it: `535.54.03` is 535.54.3, `550.54` is 550.54.0.
/// `None` for what has no numeric beginning, since the API takes strict semver only.
pub(crate) fn strict(text: &str) -> Option<Version> {
    let numeric = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = numeric.split('.').filter(|part| !part.is_empty()).map(|part| part.parse::<u64>().ok());
    let major = parts.next()??;
    let minor = parts.next().unwrap_or(Some(0))?;
    let patch = parts.next().unwrap_or(Some(0))?;
    Some(Version::new(major, minor, patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_spell_versions_in_many_ways() {
        for (text, expected) in [
            ("535.54.03", Some("535.54.3")),
            ("550.54", Some("550.54.0")),
            ("580", Some("580.0.0")),
            ("570.124.06-grid", Some("570.124.6")),
            ("6.8.0.1.2", Some("6.8.0")),
            ("", None),
            ("unknown", None),
            ("99999999999999999999.1", None),
        ] {
            assert_eq!(strict(text).map(|version| version.to_string()).as_deref(), expected, "{text:?}");
        }
    }
}
