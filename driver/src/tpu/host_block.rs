use super::{Bounds, Generation};

/// The block that the chips of a host form together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostBlock {
    bounds: Bounds,
}

/// Some of a host's chips, in their order, and what libtpu is told of their form.
type Part = (&'static [u32], Bounds);

/// How hosts with so many chips are wired, and which of their chips one process can use together besides one alone and all.
/// What libtpu supports; no host has other numbers of chips.
const HOSTS: [(Bounds, &[Part]); 4] = [
    (Bounds([1, 1, 1]), &[]),
    (Bounds([1, 2, 1]), &[]),
    (Bounds([2, 2, 1]), &[(&[0, 1], Bounds([1, 2, 1])), (&[2, 3], Bounds([1, 2, 1]))]),
    (Bounds([2, 4, 1]), &[(&[0, 1, 2, 3], Bounds([2, 2, 1])), (&[4, 5, 6, 7], Bounds([2, 2, 1]))]),
];

/// Of one chip.
const ONE: Bounds = Bounds([1, 1, 1]);

impl HostBlock {
    /// That of a host with so many chips. `told` is what the instance says of itself. `None` where that does not agree, or
    /// no such host is known: some chips may be missing, and nobody knows which.
    pub fn new(chips: usize, told: Option<Bounds>) -> Option<Self> {
        let has = |bounds: &Bounds| u64::try_from(chips).is_ok_and(|chips| bounds.volume() == chips);
        match told {
            Some(told) => Some(told).filter(has),
            None => HOSTS.iter().map(|(bounds, _)| *bounds).find(has),
        }
        .map(|bounds| Self { bounds })
    }

    /// Chips along each axis.
    pub fn bounds(self) -> Bounds {
        self.bounds
    }

    /// The blocks that can be used alone, by the numbers of their chips: the small ones first, the whole host last. One
    /// chip is no block.
    pub fn blocks(self) -> Vec<Vec<u32>> {
        let all: Vec<u32> = (0..u32::try_from(self.bounds.volume()).unwrap_or_default()).collect();
        let parts = self.parts().iter().map(|(chips, _)| chips.to_vec());
        parts.chain([all]).filter(|block| block.len() > 1).collect()
    }

    /// The form of these chips, in ascending order. `None` of chips that form no block.
    pub fn form(self, chips: &[u32]) -> Option<Bounds> {
        if let [_] = chips {
            return Some(ONE);
        }
        if chips.iter().copied().eq(0..u32::try_from(self.bounds.volume()).ok()?) {
            return Some(self.bounds);
        }
        self.parts().iter().find(|(block, _)| *block == chips).map(|(_, form)| *form)
    }

    /// None of a host that is wired otherwise than is known.
    fn parts(self) -> &'static [Part] {
        HOSTS.iter().find(|(bounds, _)| *bounds == self.bounds).map_or(&[], |(_, parts)| parts)
    }
}

/// The form of these chips where the host's is not known: one chip is always one.
pub(super) fn form(host: Option<HostBlock>, chips: &[u32]) -> Option<Bounds> {
    match (host, chips) {
        (Some(host), chips) => host.form(chips),
        (None, [_]) => Some(ONE),
        (None, _) => None,
    }
}

/// As it is published: `2x2`.
pub(super) fn shape(generation: Generation, host: Option<HostBlock>, chips: &[u32]) -> Option<String> {
    form(host, chips).map(|form| form.shape(generation.is_flat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_used_together() {
        let blocks = |chips| HostBlock::new(chips, None).map(HostBlock::blocks);
        assert_eq!(blocks(1), Some(vec![]));
        assert_eq!(blocks(4), Some(vec![vec![0, 1], vec![2, 3], vec![0, 1, 2, 3]]));
        assert_eq!(blocks(8), Some(vec![vec![0, 1, 2, 3], vec![4, 5, 6, 7], (0..8).collect()]));
        assert_eq!(blocks(7), None, "one is missing");
        assert_eq!(blocks(0), None);
    }

    #[test]
    fn what_the_instance_says_must_agree() {
        let told = |chips, bounds| HostBlock::new(chips, Some(Bounds(bounds))).map(|host| host.bounds().to_string());
        assert_eq!(told(8, [2, 4, 1]).as_deref(), Some("2,4,1"));
        assert_eq!(told(8, [2, 2, 1]), None);
        // Wired in a way of which no parts are known: whole or single.
        let other = HostBlock::new(8, Some(Bounds([4, 2, 1]))).unwrap();
        assert_eq!(other.blocks(), [(0..8).collect::<Vec<_>>()]);
    }

    #[test]
    fn forms_as_libtpu_is_told() {
        let form = |chips, of: &[u32]| HostBlock::new(chips, None)?.form(of).map(|form| form.to_string());
        for (host, chips, expected) in [
            (8, &[5][..], Some("1,1,1")),
            (8, &[4, 5, 6, 7], Some("2,2,1")),
            (8, &[2, 3, 4, 5], None),
            (8, &[0, 1], None),
            (8, &[0, 1, 2, 3, 4, 5, 6, 7], Some("2,4,1")),
            (4, &[2, 3], Some("1,2,1")),
            (4, &[1, 2], None),
            (4, &[0, 1, 2, 3], Some("2,2,1")),
            (1, &[0], Some("1,1,1")),
        ] {
            assert_eq!(form(host, chips).as_deref(), expected, "{chips:?} of {host}");
        }
    }
}
