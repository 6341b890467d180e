//! Claims as the API server and the kubelet know them, and the scheduler that allocates them.

use cdi::FileName;
use k8s_openapi::api::resource::v1::{AllocationResult, Device, DeviceAllocationResult, DeviceRequestAllocationResult};
use tessera_core::{ClaimObject, ClaimRef, ClaimUid, Identity, PreparedDevice};
use tessera_vocabulary::DeviceName;
use tessera_vocabulary::attributes::nvidia;

use crate::hardware::device_name;
use crate::invariant::complete_view;
use crate::offers;
use crate::server::{Refused, Server};

/// A claim, for as long as anybody remembers it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) reference: ClaimRef,
    pub(crate) file: FileName,
    pub(crate) wants: u8,
    pub(crate) admin: bool,
    /// Which kind of device it wants, of those that are published.
    pub(crate) kind: u8,
    /// Whether the object is there.
    pub(crate) exists: bool,
    pub(crate) allocation: Option<Vec<DeviceName>>,
    /// Whether the kubelet has called for it and has to end it.
    pub(crate) called: bool,
    /// What the kubelet was answered: pods may run with it.
    pub(crate) answer: Option<Vec<PreparedDevice>>,
    /// A person damaged its record.
    pub(crate) tampered: bool,
}

impl Claim {
    pub(crate) fn uid(&self) -> &ClaimUid {
        &self.reference.uid
    }

    /// Whether anybody remembers it.
    pub(crate) fn is_known(&self) -> bool {
        self.exists || self.called
    }
}

/// The first devices that are free, not tainted and of the right kind, and for which the counters suffice, as the
/// scheduler takes them: out of what is published, and by what the API server says is allocated.
pub(crate) fn schedule(claims: &mut [Claim], index: usize, server: &Server) {
    let claim = &claims[index];
    if !claim.exists || claim.allocation.is_some() {
        return;
    }
    let Some(view) = complete_view(server) else { return };
    let taken = offers::allocated(claims);
    let mut left = offers::left(&view, &taken);
    // One counter below zero, and nothing of the pool is given away that has counters.
    let blocked = left.values().any(|left| *left < 0);
    let devices = || view.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
    // Where there is none of the kind, anything will do.
    let kind = KINDS[usize::from(claim.kind) % KINDS.len()];
    let kind = if devices().any(|device| is_kind(device, kind)) { kind } else { "" };
    let mut chosen = Vec::new();
    for device in devices().filter(|device| device.taints.as_ref().is_none_or(Vec::is_empty) && is_kind(device, kind)) {
        let Some(name) = device_name(&device.name).filter(|name| claim.admin || !taken.contains(name)) else {
            continue;
        };
        let mut rest = left.clone();
        if !claim.admin && device.consumes_counters.is_some() && (blocked || !offers::take(&mut rest, device)) {
            continue;
        }
        left = rest;
        chosen.push(name);
        if chosen.len() == usize::from(claim.wants) {
            claims[index].allocation = Some(chosen);
            return;
        }
    }
}

/// What claims want: anything, wholes, a partition whose profile begins so, a GPU for user space, groups.
const KINDS: [&str; 9] = ["", "gpu", "1g", "2g", "3g", "vfio", "group-2", "group-4", "group-8"];

fn is_kind(device: &Device, kind: &str) -> bool {
    let profile = device.attributes.as_ref().and_then(|attributes| attributes.get(nvidia::PROFILE)?.string.as_deref());
    profile.unwrap_or(&device.name).starts_with(kind)
}

/// The answer to a GET of the claim by its name: another one by now, perhaps.
pub(crate) fn read(
    claims: &[Claim],
    wanted: &ClaimRef,
    identity: &Identity,
    server: &Server,
) -> Result<ClaimObject, Refused> {
    if server.down {
        return Err(Refused::Away);
    }
    let claim = claims.iter().find(|claim| claim.exists && claim.reference.name == wanted.name);
    let claim = claim.ok_or(Refused::NotFound)?;
    let result = |(index, device): (usize, &DeviceName)| DeviceRequestAllocationResult {
        request: format!("gpu-{index}"),
        driver: identity.driver.to_string(),
        pool: identity.pool(),
        device: device.to_string(),
        admin_access: claim.admin.then_some(true),
        ..DeviceRequestAllocationResult::default()
    };
    let allocation = claim.allocation.as_ref().map(|devices| AllocationResult {
        devices: Some(DeviceAllocationResult {
            results: Some(devices.iter().enumerate().map(result).collect()),
            ..DeviceAllocationResult::default()
        }),
        ..AllocationResult::default()
    });
    Ok(ClaimObject::new(claim.uid().to_string(), allocation))
}
