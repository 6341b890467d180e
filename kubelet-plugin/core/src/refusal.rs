use tessera_config::ConfigError;
use tessera_vocabulary::DeviceName;

/// Why a claim cannot be prepared now. The texts land in events of pods: device, cause, what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The device is not there.
    #[error(
        "device {0} is not on this node any more; delete the claim's pods so that the scheduler chooses another device"
    )]
    Gone(DeviceName),
    /// The device is there and cannot be used.
    #[error("device {device} is lost: {cause}; delete the claim's pods so that the scheduler chooses another device")]
    Lost {
        /// The device.
        device: DeviceName,
        /// Why.
        cause: String,
    },
    /// It is on its way to another layout: what it can be had as is not known before it is there.
    #[error(
        "device {device} is being changed by policy {policy} and cannot be had meanwhile; this is tried again; should it \
         be refused then, delete the claim's pods"
    )]
    Changing {
        /// The device.
        device: DeviceName,
        /// The policy, cut to what leaves room for the rest.
        policy: String,
    },
    /// A policy says that its accelerator is offered as something else.
    #[error(
        "device {device} is not offered any more: policy {policy} makes the accelerator {layout}; delete the claim's pods \
         so that the scheduler chooses another device"
    )]
    NotOffered {
        /// The device.
        device: DeviceName,
        /// The policy, cut to what leaves room for the rest.
        policy: String,
        /// What it is offered as, cut likewise.
        layout: String,
    },
    /// An accelerator of this node lies in the domain and is not offered with it.
    #[error(
        "device {device} cannot be had whole: {member} is offered as {layout} instead; this is tried again; should it be \
         refused then, delete the claim's pods"
    )]
    Apart {
        /// The device.
        device: DeviceName,
        /// The accelerator, as a whole.
        member: DeviceName,
        /// What it is offered as, cut to what leaves room for the rest.
        layout: String,
    },
    /// An accelerator that is offered with the domain does not lie in it any more, or its fabric is being made anew.
    #[error(
        "device {device}: {member} is no member of that fabric domain now; see who manages the fabric on this node; this is \
         tried again"
    )]
    Left {
        /// The device.
        device: DeviceName,
        /// The accelerator, as a whole.
        member: DeviceName,
    },
    /// Another claim's pods may still use it: after a forced deletion the scheduler gives it away too early.
    #[error("device {device} is still held by claim {holder}; it is free when that claim's pods have ended")]
    Held {
        /// The device.
        device: DeviceName,
        /// The claim that holds it.
        holder: String,
    },
    /// Pods have it without a claim, by way of the device plugin.
    #[error(
        "device {device} is used by pods that asked for {resource}; delete the claim's pods so that the scheduler \
         chooses another device"
    )]
    Lent {
        /// The device.
        device: DeviceName,
        /// The extended resource that they asked for.
        resource: String,
    },
    /// The node lacks something that the container needs.
    #[error("device {device}: {cause}")]
    Unusable {
        /// The device.
        device: DeviceName,
        /// What is missing and what to do.
        cause: String,
    },
    /// The claim or its DeviceClass says how the device is to be set up, and that cannot be done.
    #[error("claim {claim}: {cause}")]
    Config {
        /// Namespace and name, cut to what leaves room for the cause.
        claim: String,
        /// Which config, and what is wrong with it.
        cause: ConfigError,
    },
    /// The names of the claim cannot be expressed in a CDI spec.
    #[error("claim {claim} cannot be described to the container runtime: {cause}")]
    Undescribable {
        /// Namespace and name.
        claim: String,
        /// What CDI does not take.
        cause: String,
    },
}

/// A name of others, cut to what leaves room for the rest of a text.
pub(crate) fn brief(text: &str) -> String {
    text.chars().take(40).collect()
}
