//! How a GPU can be cut by MIG, and how it is cut.

use tessera_nvml::{CallError, GpuInstance, MigGpu, MigProfile};

use crate::{Made, Partition, Partitioning, Placement, Resources, Shape};

/// `None` for a GPU that cannot be cut. `shapes` are those of the last look: they do not change while the driver runs.
pub(super) fn partitioning(gpu: &MigGpu<'_>, shapes: Option<Vec<Shape>>) -> Result<Option<Partitioning>, CallError> {
    let Some(mode) = gpu.mode()? else { return Ok(None) };
    let shapes = match shapes {
        Some(shapes) => shapes,
        None => gpu.profiles()?.into_iter().map(shape).collect(),
    };
    if shapes.is_empty() {
        return Ok(None);
    }
    let partitions = if mode.current { gpu.gpu_instances()? } else { Vec::new() };
    Ok(Some(Partitioning {
        cut: mode.current,
        switchable: gpu.switches_without_reset()?,
        shapes,
        partitions: partitions.iter().map(partition).collect(),
    }))
}

fn shape(profile: MigProfile) -> Shape {
    Shape {
        id: profile.id.0,
        name: profile.name,
        placements: profile.placements.into_iter().map(placement).collect(),
        at_most: profile.instance_count,
        resources: Resources {
            memory_bytes: profile.memory_mib << 20,
            compute_slices: profile.slices,
            multiprocessors: profile.multiprocessors,
            copy_engines: profile.copy_engines,
            decoders: profile.decoders,
            encoders: profile.encoders,
            jpeg_engines: profile.jpeg_engines,
            ofa_engines: profile.ofa_engines,
        },
    }
}

pub(super) fn partition(instance: &GpuInstance) -> Partition {
    Partition { shape: instance.profile.0, placement: placement(instance.placement), made: made(instance) }
}

/// Of an instance that is not cut further: one with several compute instances is nobody's to hand out as a whole.
pub(super) fn made(instance: &GpuInstance) -> Option<Made> {
    let [compute] = &instance.compute_instances[..] else { return None };
    Some(Made { gpu_instance: instance.id.0, compute_instance: compute.id.0, uuid: compute.uuid.clone()? })
}

pub(super) fn placement(placement: tessera_nvml::Placement) -> Placement {
    Placement { start: placement.start, size: placement.size }
}
