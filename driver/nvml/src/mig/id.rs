//! The numbers that MIG is spoken of in.

use std::fmt;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $name(pub u32);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.0.fmt(f)
                }
            }
        )*
    };
}

ids! {
    /// A GPU instance on its GPU. Given again once it is destroyed, maybe for another place; says nothing about where
    /// the instance lies.
    GpuInstanceId,
    /// A compute instance in its GPU instance. Given again once it is destroyed.
    ComputeInstanceId,
    /// A GPU instance profile of one product, as `nvidia-smi mig -lgip` prints it: 19 is the smallest of most. Another
    /// number than the index that NVML is queried by, and another profile on other products.
    MigProfileId,
    /// A compute instance profile of a GPU instance, as `nvidia-smi mig -lcip` prints it.
    ComputeProfileId,
}

/// Where an instance lies: a GPU instance in memory slices of its GPU (8, or 4 on small parts), a compute instance in
/// compute slices of its GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// The first slice.
    pub start: u32,
    /// How many slices.
    pub size: u32,
}

impl Placement {
    /// Whether both have a slice in common: then only one of them can be there.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.start.saturating_add(other.size) && other.start < self.start.saturating_add(self.size)
    }
}

/// As `nvidia-smi mig -lgi` prints it, `4:2`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_share_a_slice() {
        let place = |start, size| Placement { start, size };
        for (one, two, expected) in [
            (place(0, 4), place(4, 4), false),
            (place(0, 4), place(3, 1), true),
            (place(0, 8), place(6, 1), true),
            (place(4, 2), place(6, 2), false),
        ] {
            assert_eq!((one.overlaps(two), two.overlaps(one)), (expected, expected), "{one} {two}");
        }
    }
}
