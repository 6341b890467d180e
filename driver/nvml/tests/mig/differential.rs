//! Two readings of one machine must agree.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use simulated_hardware::Profile;
use tessera_nvml::{MigGpu, MigProfile, Placement};

use crate::support::Node;

/// What the data file of the model says, in this crate's words.
fn expected(model: &simulated_hardware::Model) -> Vec<MigProfile> {
    let rows = model.mig.iter().flat_map(|table| &table.profiles);
    rows.map(|row| MigProfile {
        id: tessera_nvml::MigProfileId(row.id),
        name: row.name.clone(),
        slices: row.slices,
        memory_mib: row.memory_mib,
        multiprocessors: row.multiprocessors,
        copy_engines: row.copy_engines,
        decoders: row.decoders,
        encoders: row.encoders,
        jpeg_engines: row.jpeg,
        ofa_engines: row.ofa,
        instance_count: row.max,
        placements: row.starts.iter().map(|start| Placement { start: *start, size: row.size }).collect(),
    })
    .collect()
}

#[test]
fn profiles_of_every_machine() {
    for name in Profile::names_with_gpus() {
        let node = Node::new(name);
        let library = node.library();
        let wrapper = Nvml::builder().lib_path(node.machine.library().as_os_str()).init().unwrap();
        for gpu in &node.hardware().gpus {
            let model = &node.hardware().models[&gpu.model];
            let mig = library.mig_gpu(&gpu.uuid).unwrap();
            let told = mig.profiles().unwrap();
            assert_eq!(told, expected(model), "{name} {}", model.name);
            assert_eq!(mig.mode().unwrap().is_some(), !told.is_empty(), "{name} {}", model.name);
            let device = wrapper.device_by_uuid(gpu.uuid.as_str()).unwrap();
            let others: Vec<_> = (0..18).filter_map(|index| device.profile_info(index).ok()).collect();
            assert_eq!(others.len(), told.len());
            for (other, own) in others.iter().zip(&told) {
                assert_eq!((other.id, other.slice_count), (own.id.0, own.slices));
                assert_eq!((other.memory_size_mb, other.multiprocessor_count), (own.memory_mib, own.multiprocessors));
                assert_eq!((other.instance_count, other.copy_engine_count), (own.instance_count, own.copy_engines));
            }
        }
    }
}

/// The rule for names, which drivers before 515 leave to their clients, against the names of all products.
#[test]
fn names_that_an_old_driver_does_not_tell() {
    for name in Profile::names_with_gpus() {
        let node = Node::new(name);
        node.run("set driver.version=510.39");
        let library = node.library();
        for gpu in &node.hardware().gpus {
            let told = library.mig_gpu(&gpu.uuid).unwrap().profiles().unwrap();
            assert_eq!(told, expected(&node.hardware().models[&gpu.model]), "{name}");
        }
    }
}

/// The library's view of the first GPU against the state file and nvml-wrapper.
fn agree(node: &Node, mig: &MigGpu<'_>, wrapper: &Nvml) {
    let state = node.hardware().gpus[0].clone();
    let told = mig.gpu_instances().unwrap();
    assert_eq!(told.len(), state.mig.gpu_instances.len());
    let mut uuids = Vec::new();
    for (own, kept) in told.iter().zip(&state.mig.gpu_instances) {
        assert_eq!((own.id.0, own.profile.0), (kept.id, kept.profile));
        assert_eq!((own.placement.start, own.placement.size), (kept.placement.start, kept.placement.size));
        let own: Vec<_> = own
            .compute_instances
            .iter()
            .map(|one| (one.id.0, one.profile.0, one.placement.start, one.placement.size, one.uuid.clone().unwrap()))
            .collect();
        let kept: Vec<_> = kept
            .compute_instances
            .iter()
            .map(|one| (one.id, one.profile, one.placement.start, one.placement.size, one.uuid.clone()))
            .collect();
        assert_eq!(own, kept);
        uuids.extend(kept.into_iter().map(|one| one.4));
    }
    let devices: Vec<String> = mig.devices().unwrap().into_iter().map(|device| device.uuid).collect();
    assert_eq!(devices, uuids);
    let device = wrapper.device_by_uuid(mig.uuid()).unwrap();
    let others = (0..device.mig_device_count().unwrap()).map(|index| device.mig_device_by_index(index));
    let others = others.filter(|found| !matches!(found, Err(NvmlError::NotFound)));
    assert_eq!(others.map(|found| found.unwrap().uuid().unwrap()).collect::<Vec<_>>(), uuids);
    let mode = device.mig_mode().unwrap();
    let own = mig.mode().unwrap().unwrap();
    assert_eq!((mode.current != 0, mode.pending != 0), (own.current, own.pending));
}

#[test]
fn instances_as_they_come_and_go() {
    for profile in ["dgx-a100", "dgx-h100", "h200", "hgx-b200", "gb200", "mixed", "rtx-pro"] {
        let node = Node::cut(profile);
        let library = node.library();
        let wrapper = Nvml::builder().lib_path(node.machine.library().as_os_str()).init().unwrap();
        let mig = library.mig_gpu(&node.uuid(0)).unwrap();
        agree(&node, &mig, &wrapper);
        // Whatever fits, profile by profile, place by place.
        for row in mig.profiles().unwrap() {
            for place in &row.placements {
                let remaining = mig.remaining(row.id).unwrap();
                match mig.create_gpu_instance(row.id, *place) {
                    Ok(made) => {
                        assert!(remaining > 0);
                        let own = mig.create_whole_compute_instance(made.id).unwrap();
                        let found = library.mig_device(own.uuid.as_ref().unwrap()).unwrap();
                        assert_eq!((found.gpu.as_str(), found.gpu_instance), (mig.uuid(), made.id));
                        assert_eq!(mig.gpu_instance(made.id).unwrap().compute_instances, [own]);
                    }
                    Err(error) => assert_eq!(error.class(), tessera_nvml::ErrorClass::Occupied, "{error}"),
                }
            }
            agree(&node, &mig, &wrapper);
        }
        for instance in mig.gpu_instances().unwrap() {
            for own in instance.compute_instances {
                mig.destroy_compute_instance(instance.id, own.id).unwrap();
            }
            mig.destroy_gpu_instance(instance.id).unwrap();
            agree(&node, &mig, &wrapper);
        }
        assert_eq!(mig.gpu_instances().unwrap(), []);
    }
}
