//! What GPU instances a GPU can be cut into.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use super::{text, version};
use crate::Placement;

/// One profile, as the first version of the call tells it: every driver that knows MIG has that one.
pub(crate) struct ProfileRow {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) instance_count: u32,
    pub(crate) multiprocessors: u32,
    pub(crate) copy_engines: u32,
    pub(crate) decoders: u32,
    pub(crate) encoders: u32,
    pub(crate) jpeg_engines: u32,
    pub(crate) ofa_engines: u32,
    pub(crate) memory_mib: u64,
}

/// `nvmlDeviceGetGpuInstanceProfileInfo`, by query index, which is not the id.
pub(crate) fn profile(nvml: &Nvml, device: &Device<'_>, index: u32) -> Result<ProfileRow, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceProfileInfo.as_ref())?;
    let mut info = bindings::nvmlGpuInstanceProfileInfo_t {
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
    };
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the call only fills `info`.
    nvml_try(unsafe { call(device.handle(), index, &raw mut info) })?;
    Ok(ProfileRow {
        id: info.id,
        slices: info.sliceCount,
        instance_count: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
        copy_engines: info.copyEngineCount,
        decoders: info.decoderCount,
        encoders: info.encoderCount,
        jpeg_engines: info.jpegCount,
        ofa_engines: info.ofaCount,
        memory_mib: info.memorySizeMB,
    })
}

/// The name that version 2 of the struct has, "MIG 1g.10gb" (driver 515 and later).
pub(crate) fn profile_name(nvml: &Nvml, device: &Device<'_>, index: u32) -> Result<String, NvmlError> {
    type Info = bindings::nvmlGpuInstanceProfileInfo_v2_t;
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceProfileInfoV.as_ref())?;
    let mut info = Info {
        version: version::<Info>(2),
        id: 0,
        isP2pSupported: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        copyEngineCount: 0,
        decoderCount: 0,
        encoderCount: 0,
        jpegCount: 0,
        ofaCount: 0,
        memorySizeMB: 0,
        name: [0; 96],
    };
    // SAFETY: as above; `info` names its version, and the call fills no more than a struct of that version.
    nvml_try(unsafe { call(device.handle(), index, &raw mut info) })?;
    Ok(text(&info.name))
}

/// `nvmlDeviceGetGpuInstancePossiblePlacements_v2`: where an instance could lie on an empty GPU.
pub(crate) fn possible_placements(nvml: &Nvml, device: &Device<'_>, id: u32) -> Result<Vec<Placement>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstancePossiblePlacements_v2.as_ref())?;
    let mut count = 0;
    // SAFETY: the handle belongs to `nvml`; without an array the call only counts.
    nvml_try(unsafe { call(device.handle(), id, std::ptr::null_mut(), &raw mut count) })?;
    let mut places = vec![bindings::nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
    if places.is_empty() {
        return Ok(Vec::new());
    }
    // SAFETY: as above; the array has room for as many as the call has counted, and placements of a profile never
    // change.
    nvml_try(unsafe { call(device.handle(), id, places.as_mut_ptr(), &raw mut count) })?;
    places.truncate(count as usize);
    Ok(places.into_iter().map(|place| Placement { start: place.start, size: place.size }).collect())
}

/// `nvmlDeviceGetGpuInstanceRemainingCapacity`
pub(crate) fn remaining(nvml: &Nvml, device: &Device<'_>, id: u32) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceRemainingCapacity.as_ref())?;
    let mut count = 0;
    // SAFETY: the handle belongs to `nvml`; the call only fills `count`.
    nvml_try(unsafe { call(device.handle(), id, &raw mut count) })?;
    Ok(count)
}
