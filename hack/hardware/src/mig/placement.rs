//! Where GPU instances can lie.

use super::instance::{GpuInstance, Placement};
use crate::model::{GpuInstanceProfile, MigTable};

impl GpuInstanceProfile {
    /// Every place where an instance could lie on an empty GPU.
    pub fn placements(&self) -> impl Iterator<Item = Placement> {
        self.starts.iter().map(|start| Placement { start: *start, size: self.size })
    }

    /// What there is a limited number of, in one order for all profiles.
    fn engines(&self) -> [u32; 5] {
        [self.copy_engines, self.decoders, self.encoders, self.jpeg, self.ofa]
    }
}

impl MigTable {
    /// The row with this profile id.
    pub fn profile(&self, id: u32) -> Option<&GpuInstanceProfile> {
        self.profiles.iter().find(|row| row.id == id)
    }

    /// The id that the driver gives an instance. It names a node of the tree whose root is the whole memory and whose
    /// leaves are the slices: 0, its halves 1 and 2, quarters 3 to 6, eighths 7 to 14. So it is in NVIDIA's MIG guide
    /// and in most captures; boards with other parts fused off number otherwise, and clients must not count on it.
    pub fn instance_id(&self, placement: Placement) -> u32 {
        self.memory_slices / placement.size - 1 + placement.start / placement.size
    }

    /// The places where an instance of this profile can be made now.
    pub fn free(&self, instances: &[GpuInstance], profile: &GpuInstanceProfile) -> Vec<Placement> {
        if self.room(instances, profile) == 0 {
            return Vec::new();
        }
        let taken = |place: &Placement| instances.iter().any(|instance| instance.placement.overlaps(*place));
        profile.placements().filter(|place| !taken(place)).collect()
    }

    /// How many instances of this profile can be made now.
    pub fn remaining(&self, instances: &[GpuInstance], profile: &GpuInstanceProfile) -> u32 {
        // Places of one profile never overlap each other, so each free one counts.
        self.room(instances, profile).min(self.free(instances, profile).len() as u32)
    }

    /// The place that the driver chooses: the one that spoils the fewest other places, the first of equals. A rule that
    /// explains every captured order (13, 11, 12, 7, 8, 9, 10 for seven 1g; 2 then 1 for two 3g; 5, 3, 4 for three 2g).
    pub fn choose(&self, instances: &[GpuInstance], profile: &GpuInstanceProfile) -> Option<Placement> {
        let places: Vec<Placement> = self.profiles.iter().flat_map(|row| self.free(instances, row)).collect();
        let spoilt = |place: &Placement| places.iter().filter(|other| other.overlaps(*place)).count();
        self.free(instances, profile).into_iter().min_by_key(|place| (spoilt(place), place.start))
    }

    /// How many more instances of this profile its own limit and the GPU's engines allow, wherever they would lie.
    fn room(&self, instances: &[GpuInstance], profile: &GpuInstanceProfile) -> u32 {
        let rows: Vec<_> = instances.iter().filter_map(|instance| self.profile(instance.profile)).collect();
        let own = rows.iter().filter(|row| row.id == profile.id).count() as u32;
        let limit = profile.max.saturating_sub(own);
        profile.engines().iter().enumerate().filter(|(_, needed)| **needed > 0).fold(
            limit,
            |limit, (engine, needed)| {
                // What the whole GPU has is what the largest profile gives.
                let all = self.profiles.iter().map(|row| row.engines()[engine]).max().unwrap_or(0);
                let used: u32 = rows.iter().map(|row| row.engines()[engine]).sum();
                limit.min(all.saturating_sub(used) / needed)
            },
        )
    }
}
