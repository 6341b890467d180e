//! The taints on devices: one constant key per cause, so that a toleration can name it.

/// The device is published since a claim holds it, but the hardware no longer answers.
pub const LOST: &str = "tessera.dev/lost";

/// Pods have the device without a claim, by way of the device plugin.
pub const LENT: &str = "tessera.dev/lent";

/// The device is to be offered as something else. The value is the name of the policy that says so; with the effect
/// NoExecute its deadline is over, and pods that have the device are to end.
pub const REPARTITIONING: &str = "tessera.dev/repartitioning";

/// The domain lacks a node, or a node of it lacks a device, or its agent. The value says how many nodes there are: `3-of-4`.
pub const INCOMPLETE: &str = "tessera.dev/incomplete";
