//! The driver and its versions.

use std::ffi::{c_int, c_uint};

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::abi::{Out, TextOut};
use crate::call;

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: TextOut, length: c_uint) -> nvmlReturn_t {
    call::machine("nvmlSystemGetDriverVersion", |machine| version.set(length, &machine.hardware.driver.version))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(version: TextOut, length: c_uint) -> nvmlReturn_t {
    call::machine("nvmlSystemGetNVMLVersion", |machine| version.set(length, &machine.hardware.driver.nvml_version()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion(version: Out<c_int>) -> nvmlReturn_t {
    call::machine("nvmlSystemGetCudaDriverVersion", |machine| {
        version.set(machine.hardware.driver.cuda.number() as c_int)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: Out<c_int>) -> nvmlReturn_t {
    call::machine("nvmlSystemGetCudaDriverVersion_v2", |machine| {
        version.set(machine.hardware.driver.cuda.number() as c_int)
    })
}
