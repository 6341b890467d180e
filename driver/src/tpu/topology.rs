use std::fmt;
use std::str::FromStr;

/// The longest axis that is taken: longer than that of any pod.
const LONGEST: u32 = 4096;

/// The shape of a slice, `4x8` or `4x4x8`: chips along each of two or three axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology(Vec<u32>);

/// What is no topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no TPU topology; it must be two or three lengths such as 4x8 or 4x4x8")]
pub struct InvalidTopology(pub(super) String);

impl Topology {
    /// Chips along each axis.
    pub fn lengths(&self) -> &[u32] {
        &self.0
    }

    /// How many chips it has.
    pub fn chips(&self) -> u64 {
        self.0.iter().map(|length| u64::from(*length)).product()
    }
}

impl FromStr for Topology {
    type Err = InvalidTopology;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit());
            part.parse().ok().filter(|length| digits && (1..=LONGEST).contains(length))
        };
        let lengths: Option<Vec<u32>> = text.split('x').map(length).collect();
        let lengths = lengths.filter(|lengths| (2..=3).contains(&lengths.len()));
        lengths.map(Self).ok_or_else(|| InvalidTopology(text.to_owned()))
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&lengths.join("x"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_or_three_lengths() {
        for (text, chips) in [("1x1", 1), ("2x4", 8), ("16x16", 256), ("16x16x24", 6144)] {
            let topology: Topology = text.parse().unwrap();
            assert_eq!((topology.to_string().as_str(), topology.chips()), (text, chips));
        }
        for bad in ["", "4", "4x", "x4", "0x4", "2x2x2x2", "2 x 4", "+2x4", "2X4", "5000x1", "99999999999x1"] {
            assert!(bad.parse::<Topology>().is_err(), "{bad:?}");
        }
    }
}
