//! What the agent did to put a node right, or could not do: for the SRE in the log, in the metrics, and as an event of
//! the Node object, `kubectl describe node`.

use std::fmt;
use std::path::PathBuf;

use tessera_core::{ClaimRef, ClaimUid, LayoutRecord};
use tessera_vocabulary::{DeviceName, DriverName};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// So many events wait for the API server; what is beyond is only in the log and in the metrics.
const WAITING: usize = 64;

/// Something that a person may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    RecordSetAside { path: PathBuf, kept_as: PathBuf, reason: String },
    RecordRebuilt { claim: ClaimRef },
    FilesRewritten { claim: ClaimRef },
    StrayRemoved { file: String },
    OrphanUndone { claim: ClaimRef },
    ForgottenAfterReboot { claims: usize },
    SlicesRefused { pool: String, reason: String },
    HardwareSilent { seconds: u64 },
    NotServed { reason: String },
    LabelsNotWritten { reason: String },
    ConfigRefused { path: PathBuf, reason: String, kept: bool },
    LayoutSetAside { path: PathBuf, kept_as: PathBuf, reason: String },
    LoansSetAside { path: PathBuf, kept_as: PathBuf, reason: String },
    DeviceDraining { device: DeviceName, layout: String, policy: String },
    DeviceEvicting { device: DeviceName, policy: String },
    LayoutApplied { device: DeviceName, layout: String, policy: String },
    LayoutFailed { reason: String },
}

impl Notice {
    /// A device is kept from everybody new, since it is to be offered as something else.
    pub(crate) fn device_draining(record: &LayoutRecord) -> Self {
        let (layout, policy) = record
            .change
            .as_ref()
            .map_or_else(Default::default, |change| (change.layout.to_string(), change.desired.policy.clone()));
        Self::DeviceDraining { device: record.device.clone(), layout, policy }
    }

    /// Its time is over.
    pub(crate) fn device_evicting(record: &LayoutRecord) -> Self {
        let policy = record.change.as_ref().map(|change| change.desired.policy.clone()).unwrap_or_default();
        Self::DeviceEvicting { device: record.device.clone(), policy }
    }

    /// It is offered so by now.
    pub(crate) fn layout_applied(record: &LayoutRecord) -> Self {
        let (device, policy) = (record.device.clone(), record.policy.clone());
        Self::LayoutApplied { device, layout: record.layout.to_string(), policy }
    }

    /// The reason of the event and the label of the metric.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::RecordSetAside { .. } => "RecordSetAside",
            Self::RecordRebuilt { .. } => "RecordRebuilt",
            Self::FilesRewritten { .. } => "ClaimFilesRewritten",
            Self::StrayRemoved { .. } => "StrayFileRemoved",
            Self::OrphanUndone { .. } => "OrphanedClaimUndone",
            Self::ForgottenAfterReboot { .. } => "ClaimsForgottenAfterReboot",
            Self::SlicesRefused { .. } => "ResourceSlicesRefused",
            Self::HardwareSilent { .. } => "HardwareSilent",
            Self::NotServed { .. } => "DriverNotServed",
            Self::LabelsNotWritten { .. } => "FeatureLabelsNotWritten",
            Self::ConfigRefused { .. } => "DevicePluginConfigRefused",
            Self::LayoutSetAside { .. } => "LayoutSetAside",
            Self::LoansSetAside { .. } => "LoansSetAside",
            Self::DeviceDraining { .. } => "DeviceDraining",
            Self::DeviceEvicting { .. } => "DeviceEvicting",
            Self::LayoutApplied { .. } => "LayoutApplied",
            Self::LayoutFailed { .. } => "LayoutFailed",
        }
    }

    /// Whether a person should look; else it is good news or routine.
    pub(crate) fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::RecordRebuilt { .. }
                | Self::ForgottenAfterReboot { .. }
                | Self::DeviceDraining { .. }
                | Self::LayoutApplied { .. }
        )
    }

    /// The claim that it is about.
    pub(crate) fn claim(&self) -> Option<&ClaimRef> {
        match self {
            Self::RecordRebuilt { claim } | Self::FilesRewritten { claim } | Self::OrphanUndone { claim } => {
                Some(claim)
            }
            _ => None,
        }
    }

    /// The UID of the claim in the name of the file that it is about, where nothing else is known of the claim.
    pub(crate) fn uid_in_name(&self) -> Option<&str> {
        match self {
            Self::RecordSetAside { path, .. } => path.file_stem()?.to_str(),
            Self::StrayRemoved { file } => file.rsplit_once('_')?.1.strip_suffix(".json"),
            _ => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |claim: &ClaimRef| -> (String, ClaimUid) { (claim.to_string(), claim.uid.clone()) };
        match self {
            Self::RecordSetAside { path, kept_as, reason } => write!(
                f,
                "the record {} of a claim cannot be read: {reason}; kept as {}, and made anew if a pod uses the claim",
                path.display(),
                kept_as.display()
            ),
            Self::RecordRebuilt { claim } => {
                let (name, uid) = named(claim);
                write!(f, "the record of claim {name} ({uid}), which a pod uses, was lost and was made anew")
            }
            Self::FilesRewritten { claim } => {
                let (name, uid) = named(claim);
                write!(f, "lost or damaged files of claim {name} ({uid}) were written again")
            }
            Self::StrayRemoved { file } => write!(f, "the CDI spec {file}, which belongs to no claim, was removed"),
            Self::OrphanUndone { claim } => {
                let (name, uid) = named(claim);
                write!(f, "claim {name} ({uid}) is gone and no pod of the node uses it; what it held is free again")
            }
            Self::ForgottenAfterReboot { claims } => {
                write!(f, "{claims} claims that were prepared before the reboot were forgotten")
            }
            Self::SlicesRefused { pool, reason } => {
                write!(f, "the API server refuses the slices of pool {pool}: {reason}")
            }
            Self::HardwareSilent { seconds } => write!(
                f,
                "a look at the hardware has not ended for {seconds} s; the driver hangs, and changes go unseen until it \
                 answers"
            ),
            Self::NotServed { reason } => {
                write!(f, "the driver cannot be served and is tried again, while others of the node are: {reason}")
            }
            Self::LabelsNotWritten { reason } => {
                write!(f, "the labels of the node's GPUs are not as they should be, and are tried again: {reason}")
            }
            Self::ConfigRefused { path, reason, kept } => {
                let instead = if *kept { "what was in force stays" } else { "nothing is offered by count" };
                write!(f, "the device plugin's config {} is not followed, and {instead}: {reason}", path.display())
            }
            Self::LayoutSetAside { path, kept_as, reason } => write!(
                f,
                "the layout {} of a device cannot be read: {reason}; kept as {}; partitions that are there count as made by \
                 hand, or as its policy's if they are just what that wants",
                path.display(),
                kept_as.display()
            ),
            Self::LoansSetAside { path, kept_as, reason } => write!(
                f,
                "the file {} of what pods have by count cannot be read: {reason}; kept as {}, and made anew of what the kubelet \
                 tells",
                path.display(),
                kept_as.display()
            ),
            Self::DeviceDraining { device, layout, policy } => {
                let policy = by(policy);
                write!(
                    f,
                    "{device} is to be offered as {layout}{policy}; nobody new gets it, and who has it is waited for"
                )
            }
            Self::DeviceEvicting { device, policy } => {
                let policy = by(policy);
                write!(f, "{device} was waited for long enough{policy}; pods that have it by a claim are evicted")
            }
            Self::LayoutApplied { device, layout, policy } => {
                write!(f, "{device} is offered as {layout}{}", by(policy))
            }
            Self::LayoutFailed { reason } => f.write_str(reason),
        }
    }
}

/// Whose word it is, where it is a policy's.
fn by(policy: &str) -> String {
    if policy.is_empty() { String::new() } else { format!(" by policy {policy}") }
}

/// A notice of a driver, on the way to the API server.
pub(crate) type Told = (DriverName, Notice);

/// The way of all notices of the node to the API server, and its end at which they are waited for.
pub(crate) fn way() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(WAITING)
}

/// Where the notices of one driver go; clones share the way.
#[derive(Clone, Debug)]
pub(crate) struct Notices {
    driver: DriverName,
    metrics: Metrics,
    events: mpsc::Sender<Told>,
}

impl Notices {
    /// The way of one driver's.
    pub(crate) fn new(driver: DriverName, metrics: Metrics, events: mpsc::Sender<Told>) -> Self {
        Self { driver, metrics, events }
    }

    /// Tells. Never waits.
    pub(crate) fn tell(&self, notice: Notice) {
        let (driver, reason) = (&self.driver, notice.reason());
        if notice.is_warning() {
            warn!(%driver, reason, "{notice}");
        } else {
            info!(%driver, reason, "{notice}");
        }
        self.metrics.noticed(reason);
        // Full when the API server is away for long: then the log has to do.
        let _ = self.events.try_send((self.driver.clone(), notice));
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::metrics::testing::metrics;

    /// A way of notices that ends nowhere.
    pub(crate) fn notices() -> Notices {
        Notices::new(DriverName::nvidia_gpu(), metrics(), way().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::NodeMetrics;

    #[test]
    fn every_notice_fits_an_event() {
        let claim =
            ClaimRef { namespace: "team".to_owned(), name: "training".to_owned(), uid: "uid-1".parse().unwrap() };
        let notices = [
            Notice::RecordSetAside {
                path: "/run/tessera/gpu.nvidia.com/uid-1.record".into(),
                kept_as: "/run/tessera/gpu.nvidia.com/uid-1.unreadable".into(),
                reason: "it has no header".to_owned(),
            },
            Notice::RecordRebuilt { claim: claim.clone() },
            Notice::FilesRewritten { claim: claim.clone() },
            Notice::StrayRemoved { file: "tessera.gpu.nvidia.com-claim_uid-1.json".to_owned() },
            Notice::OrphanUndone { claim },
            Notice::ForgottenAfterReboot { claims: 3 },
            Notice::SlicesRefused {
                pool: "node-1/gpu.nvidia.com".to_owned(),
                reason: "too long (422 Invalid)".to_owned(),
            },
            Notice::HardwareSilent { seconds: 60 },
            Notice::NotServed { reason: "/run/dra@kubelet.sock exists and is no socket; remove it".to_owned() },
            Notice::ConfigRefused {
                path: "/etc/tessera/device-plugin/t4".into(),
                reason: "flags.migStrategy: must be none, single or mixed".to_owned(),
                kept: true,
            },
            Notice::LayoutSetAside {
                path: "/run/tessera/gpu.nvidia.com/gpu-0000-1b-00-0.layout".into(),
                kept_as: "/run/tessera/gpu.nvidia.com/gpu-0000-1b-00-0.unreadable-layout".into(),
                reason: "it has no header".to_owned(),
            },
            Notice::LoansSetAside {
                path: "/run/tessera/gpu.nvidia.com/loans".into(),
                kept_as: "/run/tessera/gpu.nvidia.com/loans.unreadable-loans".into(),
                reason: "it has no header".to_owned(),
            },
            Notice::DeviceDraining {
                device: "gpu-0000-1b-00-0".parse().unwrap(),
                layout: "7x1g.10gb".to_owned(),
                policy: "research".to_owned(),
            },
            Notice::DeviceEvicting { device: "gpu-0000-1b-00-0".parse().unwrap(), policy: "research".to_owned() },
            Notice::LayoutApplied {
                device: "gpu-0000-1b-00-0".parse().unwrap(),
                layout: "what the agent was told at its start".to_owned(),
                policy: String::new(),
            },
            Notice::LayoutFailed {
                reason: "gpu-0000-1b-00-0: policy research cannot have its layout: it cannot be cut into partitions"
                    .to_owned(),
            },
            Notice::LabelsNotWritten { reason: "/etc/features.d/gfd cannot be written: no such directory".to_owned() },
        ];
        let texts: Vec<_> = notices.iter().map(|notice| format!("{}: {notice}", notice.reason())).collect();
        // The API takes 1 KiB in a note and 128 characters in a reason.
        assert!(texts.iter().all(|text| text.len() < 512), "{texts:#?}");
        insta::assert_json_snapshot!(texts);
    }

    #[tokio::test]
    async fn telling_never_waits() {
        let (node, (way, mut events)) = (NodeMetrics::new(), way());
        let notices = Notices::new(DriverName::nvidia_gpu(), node.driver(&DriverName::nvidia_gpu()), way);
        for claims in 0..2 * WAITING {
            notices.tell(Notice::ForgottenAfterReboot { claims });
        }
        let first = (DriverName::nvidia_gpu(), Notice::ForgottenAfterReboot { claims: 0 });
        assert_eq!(events.recv().await, Some(first));
        assert!(node.encode().unwrap().contains("ClaimsForgottenAfterReboot\"} 128"));
    }
}
