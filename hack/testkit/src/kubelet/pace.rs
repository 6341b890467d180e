//! How long the kubelet waits for what. The calls' deadlines are the real ones; pauses may be shorter in a test.

use std::time::Duration;

/// The deadline of NodePrepareResources and NodeUnprepareResources (`pkg/kubelet/cm/dra/plugin/dra_plugin.go`).
pub const OPERATION: Duration = Duration::from_secs(45);
/// The deadline of GetInfo (`pkg/kubelet/pluginmanager/operationexecutor/operation_generator.go`, as the next).
pub const GET_INFO: Duration = Duration::from_secs(1);
/// The deadline of NotifyRegistrationStatus.
pub const NOTIFY: Duration = Duration::from_secs(5);
/// How long a driver may be without a connection before its slices go (`pkg/kubelet/cm/dra/manager.go`).
pub(super) const WIPING: Duration = Duration::from_secs(30);
/// The first pause after a failed registration; it doubles up to [`REGISTRATION_LAST`].
pub(super) const REGISTRATION_FIRST: Duration = Duration::from_millis(500);
pub(super) const REGISTRATION_LAST: Duration = Duration::from_secs(122);
/// The first pause after a failed connection (grpc-go's default); it grows by [`RECONNECT_FACTOR`] up to
/// [`RECONNECT_LAST`].
pub(super) const RECONNECT_FIRST: Duration = Duration::from_secs(1);
pub(super) const RECONNECT_FACTOR: f64 = 1.6;
pub(super) const RECONNECT_LAST: Duration = Duration::from_secs(120);
/// The pause after the end of a health stream.
pub(super) const HEALTH: Duration = Duration::from_secs(5);
/// The first pause after a failed wiping; it doubles up to [`WIPE_LAST`].
pub(super) const WIPE_FIRST: Duration = Duration::from_secs(1);
pub(super) const WIPE_LAST: Duration = Duration::from_secs(300);
/// The pause of a pod after a failed sync (`backOffPeriod` in `pkg/kubelet/kubelet.go`).
pub(super) const POD: Duration = Duration::from_secs(10);
/// The pause after a failed try to learn from the API server which pods there are.
pub(super) const LEARN: Duration = Duration::from_secs(1);

/// How much shorter than the real one's the kubelet's pauses are: those before it tries again what failed, and that before
/// it wipes slices. Deadlines are never shorter, since they are for the plugin, which lives in real time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(u32);

impl Pace {
    /// As the real one.
    pub const REAL: Self = Self(1);
    /// A second takes a millisecond.
    pub const TEST: Self = Self(1000);

    /// This many times faster than the real one; never zero.
    pub fn times(faster: u32) -> Self {
        Self(faster.max(1))
    }

    pub(super) fn pause(self, real: Duration) -> Duration {
        real / self.0
    }
}
