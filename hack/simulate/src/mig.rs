//! What one GPU is cut into, as its driver keeps it: it survives agents, and ends with a reset or a reboot.

use tessera_driver::{Made, Partition, Partitioning, Placement, Resources, Shape};

/// Whose an instance is. Only the simulation knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    Agent,
    Admin,
    /// An agent made it, and the record that said so was damaged by a person: nobody can tell it from an admin's.
    Nobody,
}

/// What is in a GPU instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compute {
    /// Nothing yet, or nothing any more.
    None,
    /// One compute instance that has all of it.
    Whole(String),
    /// Several.
    Further,
}

/// A GPU instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) shape: u32,
    pub(crate) placement: Placement,
    pub(crate) compute: Compute,
    pub(crate) maker: Maker,
    /// A process runs on it.
    pub(crate) in_use: bool,
}

/// The driver's part of a GPU that can be cut.
#[derive(Clone, Debug)]
pub(crate) struct Mig {
    pub(crate) on: bool,
    /// Hopper and later: the mode changes without a reset, and is off after a reboot.
    pub(crate) switchable: bool,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) instances: Vec<Instance>,
    /// A process runs on the GPU as a whole.
    pub(crate) in_use: bool,
}

impl Mig {
    /// A small part like an A30: four slices, and a reset for each new mode. It is cut.
    pub(crate) fn with_reset() -> Self {
        Self::new(true, false, vec![shape(14, "1g.6gb", &[0, 1, 2, 3], 1, 4, 0), shape(5, "2g.12gb", &[0, 2], 2, 2, 0)])
    }

    /// Like an H100 with fewer profiles than it has, so that little is said of much.
    pub(crate) fn switchable() -> Self {
        let shapes = vec![
            shape(19, "1g.10gb", &[0, 1, 2, 3], 1, 4, 0),
            shape(20, "1g.10gb+me", &[0, 1, 2, 3], 1, 1, 1),
            shape(9, "3g.40gb", &[0, 4], 4, 2, 0),
            shape(0, "7g.80gb", &[0], 8, 1, 1),
        ];
        Self::new(false, true, shapes)
    }

    fn new(on: bool, switchable: bool, shapes: Vec<Shape>) -> Self {
        Self { on, switchable, shapes, instances: Vec::new(), in_use: false }
    }

    pub(crate) fn partitioning(&self) -> Partitioning {
        let partition = |one: &Instance| Partition { shape: one.shape, placement: one.placement, made: one.made() };
        Partitioning {
            cut: self.on,
            switchable: self.switchable,
            shapes: self.shapes.clone(),
            partitions: self.instances.iter().map(partition).collect(),
        }
    }

    pub(crate) fn at(&self, shape: u32, placement: Placement) -> Option<&Instance> {
        self.instances.iter().find(|one| (one.shape, one.placement) == (shape, placement))
    }

    pub(crate) fn at_mut(&mut self, shape: u32, placement: Placement) -> Option<&mut Instance> {
        self.instances.iter_mut().find(|one| (one.shape, one.placement) == (shape, placement))
    }

    /// Makes an instance that is empty, if the GPU has room for it.
    pub(crate) fn make(&mut self, shape: u32, placement: Placement, maker: Maker) -> bool {
        let Some(row) = self.shapes.iter().find(|row| row.id == shape) else { return false };
        let same = self.instances.iter().filter(|one| one.shape == shape).count();
        let room = u32::try_from(same).is_ok_and(|same| same < row.at_most);
        // Of the engine that the shapes differ in, a GPU has one.
        let with_engine = |id: u32| self.shapes.iter().any(|row| row.id == id && row.resources.ofa_engines > 0);
        let engine = !with_engine(shape) || !self.instances.iter().any(|one| with_engine(one.shape));
        let free = !self.instances.iter().any(|one| one.placement.overlaps(placement));
        let good = self.on && room && engine && free && row.placements.contains(&placement);
        if good {
            self.instances.push(Instance { shape, placement, compute: Compute::None, maker, in_use: false });
            self.instances.sort_by_key(|one| one.placement);
        }
        good
    }

    /// Switches the mode at once, if nothing is in the way.
    pub(crate) fn switch(&mut self, on: bool) -> bool {
        let idle = !self.in_use && self.instances.is_empty();
        if self.on != on && self.switchable && idle {
            self.on = on;
        }
        self.on == on
    }
}

impl Instance {
    pub(crate) fn made(&self) -> Option<Made> {
        let Compute::Whole(uuid) = &self.compute else { return None };
        Some(Made { gpu_instance: self.id(), compute_instance: 0, uuid: uuid.clone() })
    }

    /// As real drivers do, by the place: another instance in the place has the same.
    pub(crate) fn id(&self) -> u32 {
        self.placement.size * 16 + self.placement.start
    }
}

fn shape(id: u32, name: &str, starts: &[u32], size: u32, at_most: u32, engines: u32) -> Shape {
    Shape {
        id,
        name: name.to_owned(),
        placements: starts.iter().map(|start| Placement { start: *start, size }).collect(),
        at_most,
        resources: Resources {
            memory_bytes: u64::from(size) << 33,
            multiprocessors: size * 16,
            ofa_engines: engines,
            ..Resources::default()
        },
    }
}
