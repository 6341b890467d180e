//! The agent is killed, and the system refuses it, at every single change that it makes to a file: in each kind of work,
//! one test a kind. Which changes there are is what the kernel sees (`hack/interruptions`), so that a new one is
//! interrupted without anybody thinking of it; what a kind of work must at least be seen to do is named with it. What work
//! on the hardware asks of the driver is refused call by call, by the simulated driver's own list.

mod calls;
mod ground;
mod nvml;
mod rest;
mod starts;
mod works;

use std::path::Path;

use interruptions::{Change, Errno, Point, Seen};
use testkit::{Claim, Node};

/// What is met on a disk that is full, read-only or broken.
const REASONS: [(Errno, &str); 3] = [
    (Errno::ENOSPC, "No space left on device"),
    (Errno::EROFS, "Read-only file system"),
    (Errno::EIO, "Input/output error"),
];

/// What a kind of work must be seen to do, or its test would pass with closed eyes.
#[derive(Clone, Copy, Debug)]
enum Sight {
    RecordWritten,
    RecordRemoved,
    SpecWritten,
    SpecRemoved,
    /// The driver is made to change something.
    Nvml,
    /// The kernel is made to let another driver have something.
    Drivers,
}

impl Sight {
    fn is_in(self, seen: &Seen, node: &Node, claim: &Claim) -> bool {
        let file = match self {
            Self::RecordWritten | Self::RecordRemoved => node.record_path(claim),
            Self::SpecWritten | Self::SpecRemoved => node.spec_path(claim),
            Self::Nvml => "hardware.json".into(),
            Self::Drivers => "driver_override".into(),
        };
        let removed = matches!(self, Self::RecordRemoved | Self::SpecRemoved);
        let shows = |point: &Point| {
            point.path().and_then(Path::file_name) == file.file_name() && (point.change == Change::Remove) == removed
        };
        seen.points.iter().any(shows)
    }
}

/// The whole list of points of a work that nothing interrupted.
#[track_caller]
fn assert_seen(sights: &[(Sight, &Claim)], seen: &Seen, node: &Node) {
    let points: Vec<_> = seen.points.iter().map(|point| node.anonymous(&point.to_string())).collect();
    println!("every point: {points:#?}");
    for (sight, claim) in sights {
        assert!(sight.is_in(seen, node, claim), "{sight:?} of {} is not among the points {points:#?}", claim.name);
    }
    let hidden = seen.points.iter().any(|point| point.change == Change::Hidden);
    assert!(!hidden, "changes by io_uring cannot be interrupted one by one: {points:#?}");
}

/// The points at which a write can be cut in two.
fn writes(seen: &Seen) -> Vec<usize> {
    let writes = seen.points.iter().enumerate().filter(|(_, point)| point.change == Change::Write);
    writes.map(|(at, _)| at).collect()
}

/// Whether something is done to the hardware there, and not to a file of the agent's.
fn is_hardware(point: &Point, node: &Node) -> bool {
    point.path().is_some_and(|path| path.starts_with(node.root()))
}

/// What half of a write leaves, and what is set aside.
fn unfinished(node: &Node) -> Vec<String> {
    let names = node.specs().into_iter().chain(node.records());
    names.filter(|name| !name.ends_with(".json") && !name.ends_with(".record")).collect()
}
