use std::fmt;
use std::str::FromStr;

use super::{InvalidTopology, Topology};

/// How many chips, or hosts, a block has along each of three axes: `2,4,1`, as libtpu writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds(pub [u32; 3]);

impl Bounds {
    /// How many there are in all.
    pub fn volume(self) -> u64 {
        self.0.iter().map(|length| u64::from(*length)).product()
    }

    /// Where the one with this number lies: the first axis is counted first.
    pub fn coordinates(self, index: u32) -> Self {
        let [x, y, _] = self.0.map(|length| length.max(1));
        Self([index % x, index / x % y, index / x / y])
    }

    /// How many such blocks this one is made of, along each axis. `None` if it cannot be.
    pub fn in_blocks_of(self, block: Self) -> Option<Self> {
        let mut counts = [0; 3];
        for (count, (length, of)) in counts.iter_mut().zip(self.0.into_iter().zip(block.0)) {
            *count = length.checked_div(of).filter(|count| count * of == length)?;
        }
        Some(Self(counts))
    }

    /// As a topology is written: `2x4`, or `2x4x1` where there are three dimensions.
    pub fn shape(self, flat: bool) -> String {
        let [x, y, z] = self.0;
        if flat { format!("{x}x{y}") } else { format!("{x}x{y}x{z}") }
    }
}

impl From<&Topology> for Bounds {
    fn from(topology: &Topology) -> Self {
        let mut bounds = [1; 3];
        bounds.iter_mut().zip(topology.lengths()).for_each(|(bound, length)| *bound = *length);
        Self(bounds)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.0;
        write!(f, "{x},{y},{z}")
    }
}

/// Of three lengths, `2,4,1`.
impl FromStr for Bounds {
    type Err = InvalidTopology;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let topology: Topology = text.replace(',', "x").parse().map_err(|_| InvalidTopology(text.to_owned()))?;
        if topology.lengths().len() == 3 { Ok(Self::from(&topology)) } else { Err(InvalidTopology(text.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_fill_a_topology_or_do_not() {
        let bounds = |text: &str| Bounds::from(&text.parse::<Topology>().unwrap());
        for (topology, host, expected) in [
            ("2x4", "2x4", Some("1,1,1")),
            ("16x16", "2x4", Some("8,4,1")),
            ("4x4x8", "2x2x1", Some("2,2,8")),
            ("2x2", "2x4", None),
            ("3x4", "2x2", None),
        ] {
            let found = bounds(topology).in_blocks_of(bounds(host)).map(|found| found.to_string());
            assert_eq!(found.as_deref(), expected, "{topology} of {host}");
        }
    }

    #[test]
    fn the_first_axis_is_counted_first() {
        let host = Bounds([2, 4, 1]);
        let all: Vec<_> = (0..8).map(|index| host.coordinates(index).to_string()).collect();
        assert_eq!(all, ["0,0,0", "1,0,0", "0,1,0", "1,1,0", "0,2,0", "1,2,0", "0,3,0", "1,3,0"]);
    }

    #[test]
    fn three_lengths_are_bounds() {
        assert_eq!("2,4,1".parse(), Ok(Bounds([2, 4, 1])));
        for bad in ["", "2,4", "2,4,0", "2,4,1,1", "a,b,c"] {
            assert!(bad.parse::<Bounds>().is_err(), "{bad:?}");
        }
    }
}
