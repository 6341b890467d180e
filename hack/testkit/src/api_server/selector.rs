use serde_json::Value;

/// A field selector: `spec.nodeName=a,spec.driver=b`, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector(Vec<(String, String)>);

impl Selector {
    /// `None` for a selector that the real server does not know.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let terms = text.split(',').filter(|term| !term.is_empty());
        let parsed = terms.map(|term| {
            let (field, value) = term.split_once('=')?;
            let known = ["spec.nodeName", "spec.driver", "metadata.name"].contains(&field);
            known.then(|| (field.replace('.', "/"), value.to_owned()))
        });
        parsed.collect::<Option<_>>().map(Self)
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        // What is not there is what is empty.
        let found = |field: &str| object.pointer(&format!("/{field}")).and_then(Value::as_str).unwrap_or_default();
        self.0.iter().all(|(field, value)| found(field) == value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selects_by_every_term() {
        let slice = json!({"spec": {"nodeName": "a", "driver": "d"}});
        for (text, expected) in [
            ("", Some(true)),
            ("spec.nodeName=a", Some(true)),
            ("spec.nodeName=a,spec.driver=d", Some(true)),
            ("spec.nodeName=a,spec.driver=e", Some(false)),
            ("spec.nodeName=", Some(false)),
            ("metadata.name=,spec.driver=d", Some(true)),
            ("spec.colour=red", None),
            ("spec.nodeName", None),
        ] {
            assert_eq!(Selector::parse(text).map(|selector| selector.matches(&slice)), expected, "{text:?}");
        }
    }
}
