//! What `up` tells while it works.

use std::fmt;
use std::time::Duration;

use crate::parts::Building;

/// A moment of [`crate::Cluster::up`].
#[derive(Debug, Clone)]
pub enum Progress {
    /// A part is being built.
    Building(Building),
    /// The cluster is being started; what is being done now, and the time since the supervisor started.
    Starting(&'static str, Duration),
    /// Pods can be made.
    Ready(Duration),
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Building(building) => building.fmt(formatter),
            Self::Starting(what, elapsed) => write!(formatter, "{:5.1} s  {what}", elapsed.as_secs_f64()),
            Self::Ready(elapsed) => write!(formatter, "{:5.1} s  ready", elapsed.as_secs_f64()),
        }
    }
}

impl fmt::Display for Building {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, step, of, expected, elapsed, waiting } = self;
        let verb = if *waiting { "waiting for another process to build" } else { "building" };
        let (elapsed, expected) = (elapsed.as_secs(), expected.as_secs());
        write!(formatter, "{verb} {part} ({step} of {of}): {elapsed} s, up to {expected} s on two cores")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_like_a_sentence() {
        let building = Building {
            part: "etcd",
            step: 3,
            of: 6,
            expected: Duration::from_secs(35),
            elapsed: Duration::from_secs(4),
            waiting: false,
        };
        let text = Progress::Building(building).to_string();
        assert_eq!(text, "building etcd (3 of 6): 4 s, up to 35 s on two cores");
        assert_eq!(Progress::Ready(Duration::from_millis(5250)).to_string(), "  5.2 s  ready");
    }
}
