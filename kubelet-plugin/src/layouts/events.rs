use tessera_core::{Layout, LayoutRecord, LayoutStep, Stage};
use tessera_policy::DeviceState;

use crate::notices::{Notice, Notices};

/// Tells of a device what a person may want to know, once: that it is waited for, that pods are evicted, what it is offered as
/// by now, and why it is not what is wanted.
pub(super) fn told(
    step: &LayoutStep,
    before: Option<&LayoutRecord>,
    kept: Option<&LayoutRecord>,
    last: &mut String,
    notices: &Notices,
) {
    let stage = |record: Option<&LayoutRecord>| record.and_then(|record| Some(record.change.as_ref()?.stage));
    if let Some(record) = kept {
        match (stage(before), stage(Some(record))) {
            (None, Some(Stage::Draining)) => notices.tell(Notice::device_draining(record)),
            (Some(Stage::Draining), Some(Stage::Evicting)) => notices.tell(Notice::device_evicting(record)),
            _ if before.map_or(&Layout::AsTold, |before| &before.layout) != &record.layout => {
                notices.tell(Notice::layout_applied(record));
            }
            _ => {}
        }
    }
    // While it is tried again and again, that is said once.
    let failed = if step.state == DeviceState::Failed { step.message.clone() } else { String::new() };
    // The end of a change says it itself.
    let is_told = before.and_then(|before| before.failure.as_ref()).is_some_and(|failure| failure.message == failed);
    if !failed.is_empty() && failed != *last && !is_told {
        notices.tell(Notice::LayoutFailed { reason: failed.clone() });
    }
    if step.state != DeviceState::Changing {
        *last = failed;
    }
}
