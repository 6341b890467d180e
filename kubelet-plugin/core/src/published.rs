use std::sync::{Arc, OnceLock};

use k8s_openapi::api::resource::v1::Device;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// A device as it is published, as JSON: to be kept and to be published again. What a later agent says of it stays whole in the
/// hands of an earlier one. Clones share the text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Published(Arc<RawValue>);

impl Published {
    /// The text of a device.
    pub(crate) fn new(device: &Device) -> Self {
        Self(to_raw_value(device).unwrap_or_default().into())
    }

    /// The device. `None` where the text is of none that is known here.
    pub fn device(&self) -> Option<Device> {
        serde_json::from_str(self.0.get()).ok()
    }
}

impl PartialEq for Published {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// The text of a device, made when it is asked for first. It follows from the rest of what it is kept with, so it makes nothing
/// differ; and a clone, which may become something else, has none.
#[derive(Debug, Default)]
pub(crate) struct Once(OnceLock<Published>);

impl Once {
    pub(crate) fn get(&self, make: impl FnOnce() -> Published) -> Published {
        self.0.get_or_init(make).clone()
    }
}

impl Clone for Once {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Once {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Once {}
