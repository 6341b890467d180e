//! What each product can be cut into, as NVML tells it.

use nvml_wrapper_sys::bindings as sys;
use simulated_hardware::{GpuInstanceProfile, Profile};

use super::calls::{Client, FUNCTION_NOT_FOUND, INVALID_ARGUMENT, NOT_SUPPORTED, VERSION_MISMATCH, text, zeroed};
use crate::support::Node;

/// Every machine has the GPUs that its data files describe, and the mode need not be on for that.
#[test]
fn every_product_tells_its_table() {
    for name in Profile::names_with_gpus() {
        let node = Node::new(name);
        let client = Client::new(&node);
        let hardware = node.machine.hardware().unwrap();
        for (index, gpu) in (0..).zip(&hardware.gpus) {
            let device = client.gpu(index).unwrap();
            let rows: &[GpuInstanceProfile] = hardware.mig_table(gpu).map_or(&[], |table| &table.profiles);
            for index in 0..18 {
                let told = client.profile(device, index);
                let Some(row) = rows.iter().find(|row| row.index == index) else {
                    assert_eq!(told.unwrap_err(), NOT_SUPPORTED, "{name} {index}");
                    continue;
                };
                let told = told.unwrap();
                assert_eq!((told.id, told.sliceCount, told.instanceCount), (row.id, row.slices, row.max));
                assert_eq!((told.memorySizeMB, told.multiprocessorCount), (row.memory_mib, row.multiprocessors));
                let engines =
                    [told.copyEngineCount, told.decoderCount, told.encoderCount, told.jpegCount, told.ofaCount];
                assert_eq!(engines, [row.copy_engines, row.decoders, row.encoders, row.jpeg, row.ofa]);
                let places: Vec<_> = row.starts.iter().map(|start| (*start, row.size)).collect();
                assert_eq!(client.placements(device, row.id).unwrap(), places, "{name} {}", row.name);
            }
            assert_eq!(client.profile(device, 18).unwrap_err(), INVALID_ARGUMENT);
        }
    }
}

/// One struct type for all versions of the call: its name is where its version has it.
fn versioned(client: &Client, version: u32) -> Result<String, u32> {
    let mut info: sys::nvmlGpuInstanceProfileInfo_v2_t = zeroed();
    // Versions 2 and 3 have the same size.
    info.version = size_of::<sys::nvmlGpuInstanceProfileInfo_v2_t>() as u32 | version << 24;
    // SAFETY: the struct is as large as the largest version.
    let code = unsafe { client.library.nvmlDeviceGetGpuInstanceProfileInfoV(client.gpu(0).unwrap(), 7, &mut info) };
    if code != 0 {
        return Err(code);
    }
    // SAFETY: as large as the other version, for which every bit pattern is a value.
    let third: sys::nvmlGpuInstanceProfileInfo_v3_t = unsafe { std::mem::transmute(info) };
    Ok(if version == 3 { text(&third.name) } else { text(&info.name) })
}

#[test]
fn structs_come_in_versions_and_drivers_too() {
    let node = Node::new("dgx-h100");
    let client = Client::new(&node);
    for (driver, expected) in [
        ("550.163.01", [Ok(()), Ok(()), Err(VERSION_MISMATCH)]),
        ("525.60.13", [Ok(()), Err(VERSION_MISMATCH), Err(VERSION_MISMATCH)]),
        ("470.256.02", [Err(FUNCTION_NOT_FOUND); 3]),
    ] {
        node.run(&format!("set driver.version={driver}"));
        for (version, expected) in (2..).zip(expected) {
            let told = versioned(&client, version);
            assert_eq!(told, expected.map(|()| "MIG 1g.10gb+me".to_owned()), "{driver} {version}");
        }
        assert!(client.profile(client.gpu(0).unwrap(), 7).is_ok(), "{driver}: the first version is always there");
    }
}

#[test]
fn compute_profiles_of_a_gpu_instance() {
    let node = Node::cut("dgx-a100");
    let client = Client::new(&node);
    let parent = client.create(client.gpu(0).unwrap(), 9).unwrap();
    let rows: Vec<_> = (0..9).map(|index| client.compute_profile(parent, index, 0)).collect();
    let told: Vec<_> =
        rows.iter().flatten().map(|row| (row.id, row.sliceCount, row.instanceCount, row.multiprocessorCount)).collect();
    assert_eq!(told, [(0, 1, 3, 14), (1, 2, 1, 28), (2, 3, 1, 42)]);
    assert!(rows.iter().filter_map(|row| row.as_ref().err()).all(|error| *error == NOT_SUPPORTED));
    assert_eq!(client.compute_profile(parent, 9, 0).unwrap_err(), INVALID_ARGUMENT);
    assert_eq!(client.compute_profile(parent, 0, 1).unwrap_err(), INVALID_ARGUMENT, "engines are shared");

    let mut info: sys::nvmlComputeInstanceProfileInfo_v2_t = zeroed();
    info.version = size_of::<sys::nvmlComputeInstanceProfileInfo_v2_t>() as u32 | 2 << 24;
    // SAFETY: the struct is the one that this version fills.
    let code = unsafe { client.library.nvmlGpuInstanceGetComputeInstanceProfileInfoV(parent, 1, 0, &mut info) };
    assert_eq!((code, text(&info.name).as_str(), info.sharedCopyEngineCount), (0, "MIG 2c.3g.20gb", 3));
    let (mut count, mut places) = (0, [sys::nvmlComputeInstancePlacement_t { start: 9, size: 9 }; 8]);
    // SAFETY: there is more room than any profile needs.
    let code = unsafe {
        client.library.nvmlGpuInstanceGetComputeInstancePossiblePlacements(parent, 0, places.as_mut_ptr(), &mut count)
    };
    let starts: Vec<u32> = places[..count as usize].iter().map(|place| place.start).collect();
    assert_eq!((code, starts), (0, vec![0, 1, 2]));
}
