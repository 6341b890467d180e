//! Claims as the API server and the kubelet know them, and the scheduler that allocates them.

use cdi::FileName;
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationResult, DeviceRequestAllocationResult, ResourceClaim, ResourceClaimStatus,
};
use tessera_core::{ClaimRef, ClaimUid, Identity, PreparedDevice};
use tessera_vocabulary::DeviceName;

use crate::hardware::device_name;
use crate::invariant::complete_view;
use crate::server::{Refused, Server};

/// A claim, for as long as anybody remembers it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) reference: ClaimRef,
    pub(crate) file: FileName,
    pub(crate) wants: u8,
    pub(crate) admin: bool,
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

/// The first devices that are free and not tainted, as the scheduler takes them: out of what is published, and by what
/// the API server says is allocated.
pub(crate) fn schedule(claims: &mut [Claim], index: usize, server: &Server) {
    let claim = &claims[index];
    if !claim.exists || claim.allocation.is_some() {
        return;
    }
    let Some(view) = complete_view(server) else { return };
    let free = |name: &DeviceName| {
        claim.admin
            || !claims
                .iter()
                .filter(|other| other.exists && !other.admin)
                .flat_map(|other| other.allocation.iter().flatten())
                .any(|taken| taken == name)
    };
    let chosen: Vec<_> = view
        .iter()
        .flat_map(|slice| slice.spec.devices.iter().flatten())
        .filter(|device| device.taints.as_ref().is_none_or(Vec::is_empty))
        .filter_map(|device| device_name(&device.name))
        .filter(free)
        .take(claim.wants.into())
        .collect();
    if chosen.len() == usize::from(claim.wants) {
        claims[index].allocation = Some(chosen);
    }
}

/// The answer to a GET of the claim by its name: another one by now, perhaps.
pub(crate) fn read(
    claims: &[Claim],
    wanted: &ClaimRef,
    identity: &Identity,
    server: &Server,
) -> Result<ResourceClaim, Refused> {
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
    let mut object = ResourceClaim::default();
    object.metadata.uid = Some(claim.uid().to_string());
    object.status = claim.allocation.as_ref().map(|devices| ResourceClaimStatus {
        allocation: Some(AllocationResult {
            devices: Some(DeviceAllocationResult {
                results: Some(devices.iter().enumerate().map(result).collect()),
                ..DeviceAllocationResult::default()
            }),
            ..AllocationResult::default()
        }),
        ..ResourceClaimStatus::default()
    });
    Ok(object)
}
