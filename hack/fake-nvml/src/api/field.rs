//! Field values: one call for many small numbers.

use std::ffi::c_int;
use std::time::{SystemTime, UNIX_EPOCH};

use nvml_wrapper_sys::bindings::field_id::{
    NVML_FI_DEV_ECC_CURRENT, NVML_FI_DEV_ECC_DBE_AGG_TOTAL, NVML_FI_DEV_ECC_DBE_VOL_TOTAL,
    NVML_FI_DEV_ECC_SBE_AGG_TOTAL, NVML_FI_DEV_ECC_SBE_VOL_TOTAL, NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
    NVML_FI_DEV_MEMORY_TEMP, NVML_FI_DEV_NVLINK_LINK_COUNT, NVML_FI_DEV_PCIE_REPLAY_COUNTER, NVML_FI_DEV_REMAPPED_COR,
    NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC, NVML_FI_DEV_RETIRED_PENDING,
};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
    nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
};
use simulated_hardware::NvmlError;

use super::health::TEMPERATURE;
use crate::abi::{Out, Result};
use crate::call;
use crate::view::GpuView;

/// Each value carries an answer of its own; the call fails only if it cannot be made at all.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: Out<nvmlFieldValue_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetFieldValues", device, |gpu| {
        let count = usize::try_from(count).ok().filter(|count| *count > 0).ok_or(NvmlError::INVALID_ARGUMENT)?;
        if values.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        (0..count).try_for_each(|position| answer(gpu, &values.element(position)))
    })
}

fn answer(gpu: GpuView<'_>, place: &Out<nvmlFieldValue_t>) -> Result {
    let asked = place.get()?;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (nvmlReturn, valueType, value) = match value(gpu, asked.fieldId) {
        Some(Value::Small(value)) => (0, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT, u64::from(value)),
        Some(Value::Large(value)) => (0, nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, value),
        None => (NvmlError::NOT_SUPPORTED.code(), nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT, 0),
    };
    place.set(nvmlFieldValue_t {
        timestamp: since_epoch.as_micros() as i64,
        latencyUsec: 0,
        valueType,
        nvmlReturn,
        // All of the union, whose small members lie at its start on little-endian machines.
        value: nvmlValue_t { ullVal: value },
        ..asked
    })
}

enum Value {
    Small(u32),
    Large(u64),
}

/// The few fields that clients of this project ask for. A healthy GPU has no errors and needs no recovery (0).
fn value(gpu: GpuView<'_>, field: u32) -> Option<Value> {
    match field {
        NVML_FI_DEV_ECC_CURRENT => Some(Value::Small(gpu.model.ecc.into())),
        NVML_FI_DEV_ECC_SBE_VOL_TOTAL
        | NVML_FI_DEV_ECC_DBE_VOL_TOTAL
        | NVML_FI_DEV_ECC_SBE_AGG_TOTAL
        | NVML_FI_DEV_ECC_DBE_AGG_TOTAL => gpu.model.ecc.then_some(Value::Large(0)),
        NVML_FI_DEV_REMAPPED_COR
        | NVML_FI_DEV_REMAPPED_UNC
        | NVML_FI_DEV_REMAPPED_PENDING
        | NVML_FI_DEV_REMAPPED_FAILURE => super::health::remaps_rows(gpu).then_some(Value::Small(0)),
        NVML_FI_DEV_RETIRED_PENDING => (!super::health::remaps_rows(gpu)).then_some(Value::Small(0)),
        NVML_FI_DEV_MEMORY_TEMP => Some(Value::Small(TEMPERATURE)),
        NVML_FI_DEV_NVLINK_LINK_COUNT => Some(Value::Small(gpu.model.nvlinks)),
        NVML_FI_DEV_PCIE_REPLAY_COUNTER | NVML_FI_DEV_GET_GPU_RECOVERY_ACTION => Some(Value::Small(0)),
        _ => None,
    }
}
