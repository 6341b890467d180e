//! Many lives of a node, one after the other. A life is short, so that a violation in it is found again quickly.

use crate::event::{Event, events};
use crate::invariant::Violation;
use crate::setting::Setting;
use crate::tally::Tally;
use crate::world::World;

/// How many steps a life has.
const LIFE: usize = 2_000;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many steps.
    pub steps: usize,
    /// What the events are made of: the same seed, the same events.
    pub seed: u64,
    /// What is looked for.
    pub setting: Setting,
}

/// Something that did not hold, and how it came to that.
#[derive(Clone, Debug)]
pub struct Found {
    /// The step in the whole run, from 1.
    pub step: usize,
    /// The seed of the life.
    pub life: u64,
    /// What did not hold.
    pub violation: Violation,
    /// The events of the life up to it.
    pub events: Vec<Event>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What did not hold.
    pub found: Vec<Found>,
    /// What happened.
    pub tally: Tally,
}

/// Runs the simulation; a life ends with the first violation in it.
pub fn run(options: &Options) -> Outcome {
    let (mut found, mut tally) = (Vec::new(), Tally::default());
    let mut done = 0;
    while done < options.steps {
        let count = LIFE.min(options.steps - done);
        let life = life_seed(options.seed, done / LIFE);
        let mut events = events(life, count);
        let (end, of_life) = live(life, &events, options.setting);
        tally += of_life;
        if let Some((index, violation)) = end {
            events.truncate(index + 1);
            found.push(Found { step: done + index + 1, life, violation, events });
        }
        done += count;
    }
    Outcome { found, tally }
}

/// One life: the first violation with the index of its event, and what happened.
pub fn live(seed: u64, events: &[Event], setting: Setting) -> (Option<(usize, Violation)>, Tally) {
    let mut world = match World::new(seed, setting) {
        Ok(world) => world,
        Err(violation) => return (Some((0, violation)), Tally::default()),
    };
    let mut steps = events.iter().enumerate();
    let end = steps.find_map(|(index, event)| world.step(*event).err().map(|violation| (index, violation)));
    world.tally.slice_writes = world.server.writes;
    (end, world.tally)
}

/// Far apart for lives that follow each other.
fn life_seed(seed: u64, number: usize) -> u64 {
    let number = u64::try_from(number).unwrap_or(u64::MAX);
    seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
