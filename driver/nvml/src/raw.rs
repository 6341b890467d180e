//! The calls that nvml-wrapper lacks, or gets wrong (its `possible_placements` gives an empty list).
//!
//! Each function here is one call of NVML with its buffers. A symbol that an old library lacks is an error of the call.

mod addressing;
mod compute_instance;
mod fabric;
mod gpu_instance;
mod nvlink;
mod profile;

use std::ffi::{CStr, c_char};

pub(crate) use addressing::addressing_mode;
pub(crate) use compute_instance::{
    ComputeInstanceInfo, ComputeProfileRow, compute_instance_by_id, compute_instance_id, compute_instance_info,
    compute_instances, compute_profile, create_compute_instance, destroy_compute_instance, gpu_instance_id,
};
pub(crate) use fabric::fabric;
pub(crate) use gpu_instance::{
    GpuInstanceHandle, create_gpu_instance, destroy_gpu_instance, gpu_instance_by_id, gpu_instance_info, gpu_instances,
};
pub(crate) use nvlink::far_end;
pub(crate) use profile::{ProfileRow, possible_placements, profile, profile_name, remaining};

/// NVML's NVML_STRUCT_VERSION: the size of the struct and its version in the top byte.
const fn version<T>(number: u32) -> u32 {
    size_of::<T>() as u32 | (number << 24)
}

/// The text in an array of a struct, up to its zero.
fn text(array: &[c_char]) -> String {
    // c_char is a byte with or without a sign; a text of NVML is ASCII.
    let bytes: Vec<u8> = array.iter().map(|byte| *byte as u8).chain([0]).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}
