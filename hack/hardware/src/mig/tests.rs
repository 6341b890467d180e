//! The rules by which GPUs are cut, held against what was captured on real ones.

use std::sync::LazyLock;

use super::*;
use crate::hardware::Hardware;
use crate::model::{GpuInstanceProfile, MigTable};
use crate::{NvmlError, Process, Profile};

/// A machine whose first GPU with a table of this name is ready to be cut, and its position.
fn machine(profile: &str, model: &str) -> (Hardware, usize) {
    let mut hardware = Profile::named(profile).unwrap().hardware();
    let gpu = hardware.gpus.iter().position(|gpu| gpu.model == model).unwrap();
    hardware.set_mig_mode(gpu, true).unwrap();
    hardware.reset_gpu(gpu).unwrap();
    assert!(hardware.gpus[gpu].mig.mode);
    (hardware, gpu)
}

/// Every product that can be cut, with a machine that has one.
fn products() -> Vec<(&'static str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for profile in Profile::names() {
        for (name, model) in Profile::named(profile).unwrap().models {
            if model.mig.is_some() && found.iter().all(|(_, known)| *known != name) {
                found.push((profile, name));
            }
        }
    }
    found
}

fn table(hardware: &Hardware, gpu: usize) -> MigTable {
    hardware.mig_table(&hardware.gpus[gpu]).unwrap().clone()
}

/// The id that the driver gives the next instance of a profile, where it chooses the place.
fn next(hardware: &mut Hardware, gpu: usize, profile: u32) -> Result<u32, NvmlError> {
    let serial = hardware.create_gpu_instance(gpu, profile, None)?;
    Ok(hardware.gpu_instance(serial).unwrap().1.id)
}

/// From NVIDIA's MIG guide and captures of `nvidia-smi mig -cgi` (A100, H100): profiles in order, and the ids they got.
#[test]
fn the_driver_chooses_as_captured() {
    for (profiles, ids) in [
        (&[19, 14, 5][..], &[13, 5, 1][..]),
        (&[19, 19, 19, 19, 19, 19, 19], &[13, 11, 12, 7, 8, 9, 10]),
        (&[9, 9], &[2, 1]),
        (&[9, 19, 14, 19], &[2, 7, 4, 8]),
        (&[14, 14, 14, 20], &[5, 3, 4, 13]),
        (&[0], &[0]),
    ] {
        for (profile, model) in [("dgx-a100", "a100-sxm4-40gb"), ("dgx-h100", "h100-sxm5-80gb")] {
            let (mut hardware, gpu) = machine(profile, model);
            let given: Vec<_> = profiles.iter().map(|id| next(&mut hardware, gpu, *id).unwrap()).collect();
            assert_eq!(given, ids, "{model} {profiles:?}");
        }
    }
    let (mut hardware, gpu) = machine("dgx-a100", "a100-sxm4-40gb");
    let given = [19, 19, 14].map(|id| next(&mut hardware, gpu, id).unwrap());
    assert_eq!(given, [13, 11, 3]);
    assert_eq!(next(&mut hardware, gpu, 9), Err(NvmlError::INSUFFICIENT_RESOURCES), "as the guide warns");
}

/// Ids, names and places of each product, as `nvidia-smi mig -lgip` and `-lgipp` print them.
#[test]
fn tables_of_products() {
    let seven = [(19, 7), (14, 3), (9, 2), (5, 1), (0, 1), (20, 1), (15, 4)];
    let four = [(14, 4), (5, 2), (0, 1), (21, 1), (6, 1)];
    for (profile, model) in products() {
        let (hardware, gpu) = machine(profile, &model);
        let table = table(&hardware, gpu);
        let ids: Vec<_> = table.profiles.iter().map(|row| (row.id, row.max)).collect();
        if table.memory_slices == 8 {
            assert_eq!(ids, seven, "{model}");
        } else {
            assert_eq!(ids[..5], four, "{model}");
        }
        for row in &table.profiles {
            let places: Vec<String> = row.placements().map(|place| place.to_string()).collect();
            let expected: &[&str] = match (table.memory_slices, row.slices, row.size) {
                (8, 1, 1) => &["0:1", "1:1", "2:1", "3:1", "4:1", "5:1", "6:1"],
                (8, 1, 2) => &["0:2", "2:2", "4:2", "6:2"],
                (8, 2, 2) => &["0:2", "2:2", "4:2"],
                (8, 3, 4) => &["0:4", "4:4"],
                (8, 4, 4) => &["0:4"],
                (8, 7, 8) => &["0:8"],
                (4, 1, 1) => &["0:1", "1:1", "2:1", "3:1"],
                (4, 2, 2) => &["0:2", "2:2"],
                (4, 4, 4) => &["0:4"],
                other => panic!("{model} {} {other:?}", row.name),
            };
            assert_eq!(places, expected, "{model} {}", row.name);
        }
    }
    assert!(products().len() >= 6);
}

/// Fills every GPU with every two profiles, one after the other, and counts along.
#[test]
fn what_remains_is_what_can_be_made() {
    for (profile, model) in products() {
        let (empty, gpu) = machine(profile, &model);
        let table = table(&empty, gpu);
        for first in &table.profiles {
            for second in &table.profiles {
                let mut hardware = empty.clone();
                for row in [first, second] {
                    let remaining = |hardware: &Hardware| table.remaining(&hardware.gpus[gpu].mig.gpu_instances, row);
                    for left in (0..remaining(&hardware)).rev() {
                        next(&mut hardware, gpu, row.id).unwrap();
                        // The other way round the driver may choose a place that spoils another of the same profile.
                        assert!(remaining(&hardware) <= left, "{model} {} {}", first.name, second.name);
                        if remaining(&hardware) < left {
                            break;
                        }
                    }
                    assert_eq!(remaining(&hardware), 0);
                    assert_eq!(next(&mut hardware, gpu, row.id), Err(NvmlError::INSUFFICIENT_RESOURCES));
                }
                sound(&hardware, gpu, &table);
            }
        }
    }
}

/// What must hold for every GPU however it was cut.
fn sound(hardware: &Hardware, gpu: usize, table: &MigTable) {
    let all = &hardware.gpus[gpu].mig.gpu_instances;
    let rows: Vec<&GpuInstanceProfile> = all.iter().map(|one| table.profile(one.profile).unwrap()).collect();
    for (index, one) in all.iter().enumerate() {
        assert!(one.placement.start + one.placement.size <= table.memory_slices);
        for other in &all[index + 1..] {
            assert!(!one.placement.overlaps(other.placement) && one.id != other.id && one.node != other.node);
        }
    }
    let whole = table.profiles.iter().find(|row| row.id == 0).unwrap();
    let sum = |of: fn(&GpuInstanceProfile) -> u64| rows.iter().map(|row| of(row)).sum::<u64>();
    assert!(sum(|row| row.slices.into()) <= table.max_devices.into());
    assert!(sum(|row| row.memory_mib) <= whole.memory_mib + 512, "{:?}", rows.iter().map(|row| &row.name));
    assert!(sum(|row| row.multiprocessors.into()) <= u64::from(whole.multiprocessors));
    assert!(sum(|row| row.ofa.into()) <= u64::from(whole.ofa));
}

/// A machine ready to be cut for each product.
static EMPTY: LazyLock<Vec<(Hardware, usize)>> =
    LazyLock::new(|| products().iter().map(|(profile, model)| machine(profile, model)).collect());

proptest::proptest! {
    /// Whatever clients do in whatever order: what the tables promise holds, and a refusal changes nothing.
    #[test]
    fn a_gpu_stays_sound(
        product in 0..8usize,
        steps in proptest::collection::vec((0..4u8, 0..16usize, proptest::option::of(0..8usize)), 1..40),
    ) {
        let (mut hardware, gpu) = EMPTY[product % EMPTY.len()].clone();
        let table = table(&hardware, gpu);
        for (what, which, place) in steps {
            let before = hardware.clone();
            let all = &before.gpus[gpu].mig.gpu_instances;
            let parent = (!all.is_empty()).then(|| &all[which % all.len()]);
            let row = &table.profiles[which % table.profiles.len()];
            let done = match (what, parent) {
                (0, _) => {
                    let places: Vec<_> = row.placements().collect();
                    let at = place.map(|place| places[place % places.len()]);
                    hardware.create_gpu_instance(gpu, row.id, at).map(|_| ())
                }
                (1, Some(parent)) => {
                    hardware.create_compute_instance(parent.serial, place.unwrap_or(0) as u32, None).map(|_| ())
                }
                (2, Some(parent)) => hardware.destroy_gpu_instance(parent.serial),
                (_, Some(parent)) => match parent.compute_instances.first() {
                    Some(own) => hardware.destroy_compute_instance(own.serial),
                    None => Ok(()),
                },
                (_, None) => Ok(()),
            };
            proptest::prop_assert!(done.is_ok() || hardware == before);
            sound(&hardware, gpu, &table);
        }
    }
}

/// Mixes that fill a GPU to the last slice.
#[test]
fn mixes_that_fill_a_gpu() {
    let h100 = ("dgx-h100", "h100-sxm5-80gb");
    let a30 = ("mixed", "a30-24gb");
    for ((profile, model), mix) in [
        (h100, &[(9, 0), (9, 4)][..]),
        (h100, &[(5, 0), (14, 4), (19, 6)]),
        (h100, &[(15, 0), (15, 2), (15, 4), (15, 6)]),
        (h100, &[(19, 0), (19, 1), (14, 2), (9, 4)]),
        (h100, &[(20, 3), (19, 0), (19, 1), (19, 2), (15, 4), (15, 6)]),
        (a30, &[(14, 0), (14, 1), (5, 2)]),
        (a30, &[(21, 3), (14, 2), (5, 0)]),
    ] {
        let (mut hardware, gpu) = machine(profile, model);
        let table = table(&hardware, gpu);
        for (id, start) in mix {
            let size = table.profile(*id).unwrap().size;
            let place = Some(Placement { start: *start, size });
            hardware.create_gpu_instance(gpu, *id, place).unwrap();
            assert_eq!(hardware.create_gpu_instance(gpu, *id, place), Err(NvmlError::INSUFFICIENT_RESOURCES));
        }
        sound(&hardware, gpu, &table);
        for row in &table.profiles {
            // Beside 4g, 2g and 1g the eighth slice of memory is left, which no profile can use.
            assert_eq!(
                next(&mut hardware, gpu, row.id),
                Err(NvmlError::INSUFFICIENT_RESOURCES),
                "{mix:?} {}",
                row.name
            );
        }
    }
}

#[test]
fn engines_run_out_before_slices() {
    let (mut hardware, gpu) = machine("mixed", "a30-24gb");
    next(&mut hardware, gpu, 21).unwrap();
    assert_eq!(next(&mut hardware, gpu, 6), Err(NvmlError::INSUFFICIENT_RESOURCES), "one optical flow engine");
    assert_eq!(next(&mut hardware, gpu, 21), Err(NvmlError::INSUFFICIENT_RESOURCES), "and one of each +me");
    next(&mut hardware, gpu, 5).unwrap();
}

#[test]
fn compute_instances_of_a_gpu_instance() {
    let (mut hardware, gpu) = machine("dgx-a100", "a100-sxm4-40gb");
    for (profile, expected) in [
        (
            0,
            &[
                (0, "1c.7g.40gb", 7, 14),
                (1, "2c.7g.40gb", 3, 28),
                (2, "3c.7g.40gb", 2, 42),
                (3, "4c.7g.40gb", 1, 56),
                (4, "7g.40gb", 1, 98),
            ][..],
        ),
        (9, &[(0, "1c.3g.20gb", 3, 14), (1, "2c.3g.20gb", 1, 28), (2, "3g.20gb", 1, 42)]),
        (5, &[(0, "1c.4g.20gb", 4, 14), (1, "2c.4g.20gb", 2, 28), (3, "4g.20gb", 1, 56)]),
        (20, &[(0, "1g.5gb", 1, 14)]),
    ] {
        let serial = hardware.create_gpu_instance(gpu, profile, None).unwrap();
        let rows = hardware.compute_instance_profiles(serial).unwrap();
        let told: Vec<_> = rows.iter().map(|row| (row.id, row.name.as_str(), row.max, row.multiprocessors)).collect();
        assert_eq!(told, expected);
        hardware.destroy_gpu_instance(serial).unwrap();
    }
    let whole = hardware.create_gpu_instance(gpu, 0, None).unwrap();
    let ids: Vec<u64> =
        [2, 2, 0].map(|profile| hardware.create_compute_instance(whole, profile, None).unwrap()).to_vec();
    assert_eq!(hardware.create_compute_instance(whole, 0, None), Err(NvmlError::INSUFFICIENT_RESOURCES));
    let places: Vec<String> =
        hardware.gpu_instance(whole).unwrap().1.compute_instances.iter().map(|own| own.placement.to_string()).collect();
    assert_eq!(places, ["0:3", "4:3", "3:1"]);
    hardware.destroy_compute_instance(ids[0]).unwrap();
    let again = hardware.create_compute_instance(whole, 2, Some(Placement { start: 0, size: 3 })).unwrap();
    assert_eq!(hardware.compute_instance(again).unwrap().2.id, 0, "the lowest free id");
}

#[test]
fn uuids_never_come_again_and_numbers_do() {
    let (mut hardware, gpu) = machine("dgx-h100", "h100-sxm5-80gb");
    let mut uuids = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let parent = hardware.create_gpu_instance(gpu, 19, None).unwrap();
        let own = hardware.create_compute_instance(parent, 0, None).unwrap();
        uuids.push(hardware.compute_instance(own).unwrap().2.uuid.clone());
        nodes.push((hardware.gpu_instance(parent).unwrap().1.node, hardware.compute_instance(own).unwrap().2.node));
        hardware.destroy_compute_instance(own).unwrap();
        hardware.destroy_gpu_instance(parent).unwrap();
        assert_eq!(hardware.destroy_gpu_instance(parent), Err(NvmlError::INVALID_ARGUMENT));
    }
    assert!(uuids.iter().all(|uuid| uuid.len() == 40 && uuid.starts_with("MIG-") && uuid.as_bytes()[18] == b'5'));
    uuids.dedup();
    assert_eq!(uuids.len(), 3);
    nodes.dedup();
    assert_eq!(nodes, [(58, 59)]);
}

#[test]
fn device_numbers_when_terminals_run_out() {
    let (mut hardware, gpu) = machine("h100x16", "h100-sxm5-80gb");
    let mut given = Vec::new();
    for gpu in gpu..gpu + 3 {
        hardware.set_mig_mode(gpu, true).unwrap();
        for _ in 0..7 {
            let parent = hardware.create_gpu_instance(gpu, 19, None).unwrap();
            let own = hardware.create_compute_instance(parent, 0, None).unwrap();
            given.extend([
                hardware.gpu_instance(parent).unwrap().1.node,
                hardware.compute_instance(own).unwrap().2.node,
            ]);
        }
    }
    assert_eq!(given.len(), 42);
    assert_eq!(given[..8], [58, 59, 60, 61, 62, 63, 13, 14]);
    // 20 to 35 are the sixteen GPUs', 52 to 57 the shared nodes'.
    assert!(
        given[..29].iter().all(|node| (13..20).contains(node) || (36..52).contains(node) || (58..64).contains(node))
    );
    assert_eq!(given[29..], (1000..1013).collect::<Vec<u32>>());
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 42);
}

#[test]
fn a_mode_comes_at_once_or_after_a_reset() {
    for (profile, model, at_once) in [
        ("dgx-a100", "a100-sxm4-40gb", false),
        ("mixed", "a30-24gb", false),
        ("dgx-h100", "h100-sxm5-80gb", true),
        ("hgx-b200", "b200-180gb", true),
    ] {
        let mut hardware = Profile::named(profile).unwrap().hardware();
        let gpu = hardware.gpus.iter().position(|gpu| gpu.model == model).unwrap();
        let expected = if at_once { Activation::Done } else { Activation::ResetRequired };
        assert_eq!(hardware.set_mig_mode(gpu, true), Ok(expected), "{model}");
        assert_eq!((hardware.gpus[gpu].mig.mode, hardware.gpus[gpu].mig.pending), (at_once, true), "{model}");
        let tried = hardware.create_gpu_instance(gpu, 0, None);
        assert_eq!(tried.err(), (!at_once).then_some(NvmlError::NOT_SUPPORTED), "{model}");
    }
    let mut hardware = Profile::named("mixed").unwrap().hardware();
    assert_eq!(hardware.set_mig_mode(1, true), Err(NvmlError::NOT_SUPPORTED));
}

#[test]
fn what_is_in_use_stays() {
    let (mut hardware, gpu) = machine("dgx-h100", "h100-sxm5-80gb");
    let parent = hardware.create_gpu_instance(gpu, 9, None).unwrap();
    let own = hardware.create_compute_instance(parent, 2, None).unwrap();
    hardware.gpus[gpu].processes.push(Process { pid: 7, memory_mib: 100, instance: Some((2, 0)) });
    assert_eq!(hardware.destroy_compute_instance(own), Err(NvmlError::IN_USE));
    assert_eq!(hardware.destroy_gpu_instance(parent), Err(NvmlError::IN_USE));
    assert_eq!(hardware.set_mig_mode(gpu, false), Err(NvmlError::IN_USE));
    assert_eq!(hardware.reset_gpu(gpu), Err(NvmlError::IN_USE));
    hardware.gpus[gpu].processes.clear();
    assert_eq!(hardware.destroy_gpu_instance(parent), Err(NvmlError::IN_USE), "it still has its compute instance");
    hardware.destroy_compute_instance(own).unwrap();
    hardware.destroy_gpu_instance(parent).unwrap();
    hardware.gpus[gpu].processes.push(Process { pid: 7, memory_mib: 100, instance: None });
    assert_eq!(hardware.set_mig_mode(gpu, false), Ok(Activation::InUse));
    assert_eq!((hardware.gpus[gpu].mig.mode, hardware.gpus[gpu].mig.pending), (true, false), "it waits");
    hardware.gpus[gpu].processes.clear();
    assert_eq!(hardware.set_mig_mode(gpu, false), Ok(Activation::Done));
}

#[test]
fn a_reboot_leaves_what_the_board_keeps() {
    let mut hardware = Profile::named("a100-h100").unwrap().hardware();
    for gpu in [0, 1] {
        hardware.set_mig_mode(gpu, true).unwrap();
    }
    hardware.create_gpu_instance(1, 19, None).unwrap();
    hardware.gpus[1].processes.push(Process { pid: 7, memory_mib: 100, instance: None });
    hardware.gpus[1].lost = true;
    hardware.reboot();
    let modes: Vec<_> = hardware.gpus.iter().map(|gpu| (gpu.mig.mode, gpu.mig.pending)).collect();
    assert_eq!(modes, [(true, true), (false, false)], "Ampere keeps the mode in its InfoROM, Hopper does not");
    assert!(hardware.gpus.iter().all(|gpu| gpu.mig.gpu_instances.is_empty() && gpu.processes.is_empty() && !gpu.lost));
    assert_eq!(hardware.last_instance, 1, "old handles stay old");
}

#[test]
fn what_a_gpu_does_not_have_is_no_valid_argument() {
    let (mut hardware, gpu) = machine("dgx-h100", "h100-sxm5-80gb");
    for (profile, place) in [(99, None), (9, Some((2, 4))), (9, Some((0, 3))), (19, Some((7, 1)))] {
        let place = place.map(|(start, size)| Placement { start, size });
        let answer = hardware.create_gpu_instance(gpu, profile, place);
        assert_eq!(answer, Err(NvmlError::INVALID_ARGUMENT), "{profile} {place:?}");
    }
    let parent = hardware.create_gpu_instance(gpu, 9, None).unwrap();
    for (profile, place) in [(3, None), (2, Some((1, 3))), (0, Some((3, 1)))] {
        let place = place.map(|(start, size)| Placement { start, size });
        let answer = hardware.create_compute_instance(parent, profile, place);
        assert_eq!(answer, Err(NvmlError::INVALID_ARGUMENT), "{profile} {place:?}");
    }
}
