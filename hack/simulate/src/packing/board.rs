use anyhow::{Context, Result};
use simulated_hardware::{GpuInstanceProfile, Profile};
use tessera_driver::{Partitioning, Placement, Resources, Shape};

/// A GPU model and how it can be cut, from the tables of the simulated hardware.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) name: &'static str,
    pub(super) partitioning: Partitioning,
}

/// The name, the machine and the model in it.
const BOARDS: [(&str, &str, &str); 3] = [
    ("A100 40GB", "a100-h100", "a100-sxm4-40gb"),
    ("H100 80GB", "a100-h100", "h100-sxm5-80gb"),
    ("A30 24GB", "mixed", "a30-24gb"),
];

impl Board {
    pub(super) fn all() -> Result<Vec<Self>> {
        BOARDS.into_iter().map(|(name, machine, model)| Self::of(name, machine, model)).collect()
    }

    fn of(name: &'static str, machine: &str, model: &str) -> Result<Self> {
        let profile = Profile::named(machine)?;
        let mig = profile.models.get(model).and_then(|model| model.mig.as_ref());
        let mig = mig.with_context(|| format!("{machine} has no {model} that can be cut"))?;
        let shapes = mig.profiles.iter().map(shape).collect();
        Ok(Self { name, partitioning: Partitioning { cut: true, switchable: true, shapes, partitions: Vec::new() } })
    }
}

fn shape(profile: &GpuInstanceProfile) -> Shape {
    let place = |place: simulated_hardware::Placement| Placement { start: place.start, size: place.size };
    Shape {
        id: profile.id,
        name: profile.name.clone(),
        placements: profile.placements().map(place).collect(),
        at_most: profile.max,
        resources: Resources {
            memory_bytes: profile.memory_mib << 20,
            compute_slices: profile.slices,
            multiprocessors: profile.multiprocessors,
            copy_engines: profile.copy_engines,
            decoders: profile.decoders,
            encoders: profile.encoders,
            jpeg_engines: profile.jpeg,
            ofa_engines: profile.ofa,
        },
    }
}
