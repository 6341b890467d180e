//! MIG devices: compute instances as clients see them.

use nvml_wrapper_sys::bindings as sys;

use super::calls::{Client, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, zeroed};
use crate::support::Node;

#[test]
fn a_compute_instance_is_a_device() {
    let node = Node::cut("dgx-a100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    let parent = client.create_at(gpu, 9, 4, 4).unwrap();
    assert_eq!(client.mig_device(gpu, 0), Err(NOT_FOUND), "a GPU instance alone is none");
    client.create_compute(parent, 1).unwrap();
    node.run("mig 0 create 1g.5gb+me@0");
    // By id: the GPU instance at 4 has 2, the one at 0 has 7.
    let (half, media) = (client.mig_device(gpu, 0).unwrap(), client.mig_device(gpu, 1).unwrap());
    assert_eq!((client.gpu_instance_id(half), client.compute_instance_id(half)), (Ok(2), Ok(0)));
    assert_eq!(client.gpu_instance_id(media), Ok(7));
    assert_eq!(client.name(half).unwrap(), "NVIDIA A100-SXM4-40GB MIG 2c.3g.20gb");
    assert_eq!(client.name(media).unwrap(), "NVIDIA A100-SXM4-40GB MIG 1g.5gb+me");
    assert_eq!((client.is_mig(half), client.is_mig(gpu)), (Ok(1), Ok(0)));
    assert_eq!((client.parent(half), client.parent(gpu)), (Ok(gpu), Err(INVALID_ARGUMENT)));
    assert_eq!(client.gpu_instance_id(gpu), Err(INVALID_ARGUMENT));
    assert_eq!(client.minor(half), Err(INVALID_ARGUMENT), "what is the GPU's is asked of the GPU");

    let uuid = client.uuid(half).unwrap();
    assert_eq!(uuid, node.machine.hardware().unwrap().gpus[0].mig.gpu_instances[0].compute_instances[0].uuid);
    assert_eq!(client.by_uuid(&uuid), Ok(half));
    let told = client.attributes(half).unwrap();
    assert_eq!((told.multiprocessorCount, told.sharedCopyEngineCount, told.sharedDecoderCount), (28, 3, 2));
    assert_eq!((told.gpuInstanceSliceCount, told.computeInstanceSliceCount, told.memorySizeMB), (3, 2, 19968));
    assert_eq!(client.attributes(gpu).unwrap_err(), NOT_SUPPORTED);
    assert_eq!(client.memory(half).unwrap().total, 19968 << 20);
    assert_eq!(client.memory(gpu).unwrap().total, 40960 << 20, "all of it");
}

#[test]
fn a_device_by_the_bytes_of_its_uuid() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    node.run("mig 0 create 19");
    let device = client.mig_device(client.gpu(0).unwrap(), 0).unwrap();
    let mut asked: sys::nvmlUUID_v1_t = zeroed();
    asked.version = size_of::<sys::nvmlUUID_v1_t>() as u32 | 1 << 24;
    asked.type_ = sys::nvmlUUIDType_t_NVML_UUID_TYPE_ASCII;
    let mut text = [0; 41];
    text.iter_mut().zip(client.uuid(device).unwrap().bytes()).for_each(|(place, byte)| *place = byte as _);
    asked.value.str_ = text;
    let mut found = std::ptr::null_mut();
    // SAFETY: the struct says what it holds, and the place for the answer is there.
    assert_eq!(unsafe { client.library.nvmlDeviceGetHandleByUUIDV(&asked, &mut found) }, 0);
    assert_eq!(found, device);
}

fn processes(client: &Client, device: sys::nvmlDevice_t) -> Vec<(u32, u64, u32, u32)> {
    let empty = sys::nvmlProcessInfo_t { pid: 0, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
    let (mut count, mut found) = (8, [empty; 8]);
    // SAFETY: the array is as long as the count says.
    let code =
        unsafe { client.library.nvmlDeviceGetComputeRunningProcesses_v3(device, &mut count, found.as_mut_ptr()) };
    assert_eq!(code, 0);
    let info = |one: &sys::nvmlProcessInfo_t| (one.pid, one.usedGpuMemory, one.gpuInstanceId, one.computeInstanceId);
    found[..count as usize].iter().map(info).collect()
}

#[test]
fn processes_run_on_a_gpu_or_a_part() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let (gpu, whole) = (client.gpu(0).unwrap(), client.gpu(1).unwrap());
    for command in [
        "mig 0 create 9@4",
        "mig 0 create 19@0",
        "process 0 start pid=7 memory_mib=512 gi=2 ci=0",
        "process 1 start pid=8 memory_mib=1",
    ] {
        node.run(command);
    }
    let (used, idle) = (client.mig_device(gpu, 0).unwrap(), client.mig_device(gpu, 1).unwrap());
    assert_eq!(processes(&client, used), [(7, 512 << 20, 2, 0)]);
    assert_eq!(processes(&client, idle), []);
    assert_eq!(processes(&client, gpu), [(7, 512 << 20, 2, 0)], "the GPU answers for its parts");
    assert_eq!(processes(&client, whole), [(8, 1 << 20, u32::MAX, u32::MAX)]);
    assert_eq!((client.memory(used).unwrap().used, client.memory(idle).unwrap().used), (512 << 20, 0));
    let mut count = 0;
    // SAFETY: without an array the call only counts.
    let code = unsafe { client.library.nvmlDeviceGetComputeRunningProcesses_v3(gpu, &mut count, std::ptr::null_mut()) };
    assert_eq!((code, count), (7, 1), "the room that it needs");
}
