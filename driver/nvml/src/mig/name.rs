//! Names of profiles, for drivers before 515, which do not tell them.

use crate::raw::ProfileRow;

/// What NVML 515 would say. `index` is the one that NVML was queried by, `memory_bytes` all that the GPU has. The rule
/// is that of NVIDIA's go-nvlib: memory in eighths, rounded up, of the whole gigabytes.
pub(super) fn name(index: u32, row: &ProfileRow, memory_bytes: u64) -> String {
    let total_mib = (memory_bytes >> 20).max(1);
    let eighths = (row.memory_mib * 8).div_ceil(total_mib);
    let gigabytes = eighths * memory_bytes.div_ceil(1 << 30);
    // Half up, as Go rounds.
    format!("{}g.{}gb{}", row.slices, (gigabytes + 4) / 8, addition(index))
}

/// What the enumeration of nvml.h says of each index.
fn addition(index: u32) -> &'static str {
    match index {
        7 | 8 => "+me",
        10..=12 | 17 => "+gfx",
        13 | 14 => "-me",
        15 | 16 => "+me.all",
        _ => "",
    }
}
