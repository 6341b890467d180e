use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::json::to_json;
use crate::{Invalid, Spec};

/// A spec as text, to be kept and written again without being understood: what a later version of this crate wrote
/// stays whole in the hands of an earlier one.
///
/// Made of a valid [`Spec`]; one that is deserialised is JSON, and no more is known of it.
///
/// Clones share the text, which is some ten kilobytes long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(Arc<RawValue>);

/// Why a spec makes no document; it stays so.
#[derive(Debug, thiserror::Error)]
pub enum Undocumentable {
    /// No runtime would take it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It cannot be expressed in JSON.
    #[error(transparent)]
    Format(#[from] serde_json::Error),
}

impl Document {
    /// The JSON.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// Whether this text says the same: byte for byte, or in another spelling.
    pub(crate) fn says(&self, text: &[u8]) -> bool {
        let value = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).ok();
        text.strip_suffix(b"\n") == Some(self.as_str().as_bytes())
            || value(text).is_some_and(|found| value(self.as_str().as_bytes()) == Some(found))
    }
}

/// An empty object, for which nobody takes a spec.
impl Default for Document {
    fn default() -> Self {
        Self(serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default().into())
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Document {}

impl Spec {
    /// The text of the spec.
    ///
    /// # Errors
    /// When no runtime would take it.
    pub fn document(&self) -> Result<Document, Undocumentable> {
        self.validate()?;
        Ok(Document(RawValue::from_string(to_json(self)?)?.into()))
    }
}
