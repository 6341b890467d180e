//! The simulation holds, finds bugs that were put in, and a violation is made short and replays.

#![allow(clippy::unwrap_used, reason = "a test may")]

use simulate::{Options, Plant, Setting, Tally, live, run, shrink};

fn holds(steps: usize, seed: u64) {
    let setting = Setting::default();
    let found = run(&Options { steps, seed, setting }).found;
    assert!(found.is_empty(), "seed {seed}: {:#?}", found.first().map(|first| shrink(first, setting)));
}

#[test]
fn ten_thousand_steps_hold() {
    holds(10_000, 1);
}

#[test]
fn a_thousand_steps_of_each_of_twenty_seeds_hold() {
    for seed in 100..120 {
        holds(1_000, seed);
    }
}

#[test]
fn each_planted_bug_is_found_shrunk_and_replayed() {
    for (plant, steps) in [
        (Plant::UndoSkipped, 10_000),
        (Plant::LockDropped, 10_000),
        (Plant::RecordLost, 10_000),
        (Plant::StaleGeneration, 10_000),
        (Plant::WorkLeft, 10_000),
        (Plant::Adopted, 20_000),
        (Plant::EndingUnmarked, 10_000),
        (Plant::UndoingUntold, 10_000),
    ] {
        let setting = Setting { plant: Some(plant) };
        let options = Options { steps, seed: 1, setting };
        let found = run(&options).found;
        let first = found.first().unwrap_or_else(|| unreachable!("{plant:?} was not found"));
        let shrunk = shrink(first, setting);
        assert!(shrunk.events.len() <= 40, "{plant:?}: {} events", shrunk.events.len());
        assert_eq!(
            live(shrunk.life, &shrunk.events, setting).0.map(|(_, violation)| violation),
            Some(shrunk.violation.clone()),
            "{plant:?}: the shrunk events do not replay"
        );
        assert_eq!(
            live(shrunk.life, &shrunk.events, Setting::default()).0,
            None,
            "{plant:?}: the violation is not the planted bug's"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let setting = Setting { plant: Some(Plant::UndoSkipped) };
    let options = Options { steps: 10_000, seed: 7, setting };
    let (one, other) = (run(&options), run(&options));
    let steps = |outcome: &simulate::Outcome| -> Vec<_> { outcome.found.iter().map(|found| found.step).collect() };
    assert_eq!((steps(&one), one.tally), (steps(&other), other.tally));
}

#[test]
fn enough_happens_in_ten_thousand_steps() {
    let tally = run(&Options { steps: 10_000, seed: 1, setting: Setting::default() }).tally;
    let Tally { prepared, repeated, cut, refused, refused_as_held, .. } = tally;
    assert!(prepared > 250 && repeated > 100 && cut > 30 && refused > 100 && refused_as_held > 10, "{tally}");
    let Tally { work_failed, by_hand, unprepared, stopped, slice_writes, settled, .. } = tally;
    assert!(work_failed > 3 && by_hand > 10 && unprepared > 100, "{tally}");
    assert!(stopped > 20 && slice_writes > 50 && settled > 50, "{tally}");
}
