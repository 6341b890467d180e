//! What devices say of themselves, kept small: thousands of nodes say the same of thousands of devices.

use std::collections::HashSet;
use std::sync::Arc;

use tessera_policy::ReportedDevice;

/// What a device says of itself, in the order of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    pub(crate) attributes: Box<[(Arc<str>, Fact)]>,
    /// Quantities.
    pub(crate) capacity: Box<[(Arc<str>, Arc<str>)]>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    Text(Arc<str>),
    Number(i64),
    Answer(bool),
    Version(Arc<str>),
}

impl Facts {
    /// Takes them from a device. What is of a type that nobody knows here is left out.
    pub(crate) fn take(device: &mut ReportedDevice, texts: &mut Texts) -> Self {
        let attributes = std::mem::take(&mut device.attributes).into_iter().filter_map(|(name, value)| {
            let text = |field: &str| value.get(field).and_then(|value| value.as_str());
            let fact = if let Some(text) = text("string") {
                Fact::Text(texts.shared(text))
            } else if let Some(text) = text("version") {
                Fact::Version(texts.shared(text))
            } else if let Some(number) = value.get("int").and_then(serde_json::Value::as_i64) {
                Fact::Number(number)
            } else {
                Fact::Answer(value.get("bool")?.as_bool()?)
            };
            Some((texts.shared(&name), fact))
        });
        let attributes = attributes.collect();
        let capacity = std::mem::take(&mut device.capacity).into_iter();
        let capacity = capacity.map(|(name, quantity)| (texts.shared(&name), texts.shared(&quantity))).collect();
        Self { attributes, capacity }
    }

    /// What an attribute is.
    pub(crate) fn fact(&self, name: &str) -> Option<&Fact> {
        let at = self.attributes.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.attributes[at].1)
    }

    /// The text that an attribute is, if it is one.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match self.fact(name)? {
            Fact::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Texts that several devices share.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    known: HashSet<Arc<str>>,
    /// With so many, those that nobody has any more are forgotten.
    limit: usize,
}

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        if self.known.len() >= self.limit {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.limit = 2 * self.known.len() + 1024;
        }
        let text: Arc<str> = text.into();
        self.known.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::gpu;

    #[test]
    fn say_what_the_device_said() {
        let mut device = gpu("gpu-3");
        device.attributes.insert("example.com/new".to_owned(), json!({"colours": ["red"]}));
        device.attributes.insert("example.com/bool".to_owned(), json!({"bool": true}));
        let mut texts = Texts::default();
        let facts = Facts::take(&mut device, &mut texts);
        assert!(device.attributes.is_empty() && device.capacity.is_empty());
        assert_eq!((facts.text("tessera.dev/model"), facts.text("gpu.nvidia.com/index")), (Some("H100"), None));
        let fact =
            |name: &str| facts.attributes.iter().find(|(known, _)| **known == *name).map(|(_, fact)| fact.clone());
        assert_eq!(fact("gpu.nvidia.com/index"), Some(Fact::Number(3)));
        assert_eq!(fact("gpu.nvidia.com/driverVersion"), Some(Fact::Version("570.86.15".into())));
        assert_eq!((fact("example.com/bool"), fact("example.com/new")), (Some(Fact::Answer(true)), None));
    }

    #[test]
    fn what_nobody_has_any_more_is_forgotten() {
        let mut texts = Texts::default();
        let kept = texts.shared("kept");
        for number in 0..100_000 {
            texts.shared(&format!("text {number}"));
        }
        assert!(texts.known.len() < 5000, "{}", texts.known.len());
        assert!(Arc::ptr_eq(&kept, &texts.shared("kept")));
    }
}
