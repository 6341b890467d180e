//! What every backend owes, as one suite over simulated machines: the seam is only worth what this finds.
//!
//! Add a backend here ([`subjects`]) before anything else serves it. That the suite finds what it should is shown by
//! backends with planted faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod checks;
mod node;
mod planted;
mod subjects;
mod tpus;

use node::Node;
use subjects::{NvidiaGpus, Subject, Tpus};

/// A check of a backend on one of its machines; the text says what it found.
type Check = fn(&Node<'_>) -> Result<(), String>;

/// Everything that is checked.
const CHECKS: [(&str, Check); 11] = [
    ("presence", checks::looks::presence),
    ("looks agree", checks::looks::agree),
    ("names survive a reload of the driver", checks::looks::names_survive_a_reload),
    ("one that is gone changes no other", checks::looks::one_that_is_gone_changes_no_other),
    ("files that are missing", checks::files::missing),
    ("files that hold garbage", checks::files::garbage),
    ("files that cannot be read", checks::files::unreadable),
    ("attributes are complete", checks::attributes::complete),
    ("counters add up", checks::counters::add_up),
    ("CDI specs are sound", checks::specs::sound),
    ("a life", checks::life::holds_true),
];

/// What a backend breaks, as `machine, check: what was found`. Stops at the first of each machine.
fn broken(subject: &dyn Subject) -> Vec<String> {
    let mut broken = Vec::new();
    for machine in subject.machines() {
        // One machine for all: each check leaves it as it was, but for the last.
        let node = Node::new(subject, machine);
        let found = CHECKS.iter().find_map(|(name, check)| Some((name, check(&node).err()?)));
        broken.extend(found.map(|(name, found)| format!("{machine}, {name}: {found}")));
    }
    broken
}

#[test]
fn nvidia_conforms() {
    assert_eq!(broken(&NvidiaGpus), Vec::<String>::new());
}

#[test]
fn tpus_conform() {
    assert_eq!(broken(&Tpus), Vec::<String>::new());
}
