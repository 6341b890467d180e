//! Two controllers that know different things, are killed and come back, and whose writes arrive late; agents that are slow,
//! succeed and fail; an admin who changes their mind. Never are more nodes changing than the policy allows, and once all
//! calm down, everything is as the policies say and nobody writes any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod agent;
mod controller;
mod fault;
mod server;
mod world;

use fault::Fault;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use world::{Action, World};

/// How many nodes there are, how many may be changing, and what happens.
type Life = (usize, usize, Vec<(u8, u8, u8)>);

fn lives() -> impl Strategy<Value = Life> {
    (1_usize..5, 1_usize..3, proptest::collection::vec(any::<(u8, u8, u8)>(), 0..300))
}

fn live((nodes, allowed, actions): Life, fault: Option<Fault>) -> Result<(), TestCaseError> {
    let mut world = World::new(nodes, allowed, fault);
    for raw in actions {
        world.act(Action::from(raw));
        world.check()?;
    }
    world.calm_down()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn never_are_more_nodes_changing_than_allowed_and_nothing_is_forgotten(life in lives()) {
        live(life, None)?;
    }
}

/// What is found first in so many lives, which are the same each time.
fn found(fault: Fault, lives_at_most: u32) -> String {
    let config = ProptestConfig {
        cases: lives_at_most,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    match runner.run(&lives(), |life| live(life, Some(fault))) {
        Err(TestError::Fail(reason, _)) => reason.to_string(),
        other => panic!("{fault:?} is not found in {lives_at_most} lives: {other:?}"),
    }
}

#[test]
fn what_keeps_nodes_from_changing_is_missed_where_it_is_left_out() {
    for (fault, lives_at_most) in [(Fault::AnyVersionIsTaken, 200), (Fault::TurnsAreUsedBeforeTheyAreStored, 600)] {
        let found = found(fault, lives_at_most);
        assert!(found.contains("are changing"), "{fault:?}: {found}");
    }
    found(Fault::TurnsAreNotStored, 20);
}

/// Chance takes thousands of lives to come upon these: a turn is given, and before it is used it is not needed any more.
#[test]
fn a_turn_that_is_not_needed_any_more_is_ended_by_a_fence() {
    let catch_up = |controller: usize| Action::CatchUp { controller, sends: 8 };
    let (shares, whole) = (Action::Edit { what: 4 }, Action::Edit { what: 3 });
    let serve = |node: usize| Action::Serve { node };
    let begin = [catch_up(0), serve(0), serve(1), catch_up(0), catch_up(0), serve(0)];
    let change_of_mind = [shares, catch_up(0), Action::DecideAndDie { controller: 0 }, whole];
    // Another node gets its turn, and only then comes what the controller had sent that was killed.
    let next = [catch_up(1), catch_up(1), catch_up(1), Action::Observe { node: 1 }];
    let late = [Action::Late, Action::Late, Action::Late, Action::Observe { node: 0 }];
    for fault in [None, Some(Fault::TurnsEndUnfenced)] {
        let mut world = World::new(2, 1, fault);
        let mut found = None;
        for action in begin.into_iter().chain(change_of_mind).chain(next).chain(late) {
            world.act(action);
            found = found.or(world.check().err());
        }
        assert_eq!(found.is_some(), fault.is_some(), "{fault:?}: {found:?}");
    }
    // Nothing comes late: the turn is in the way of the other node's.
    for fault in [None, Some(Fault::NothingIsFenced)] {
        let mut world = World::new(2, 1, fault);
        begin.into_iter().chain([shares, catch_up(0), whole]).for_each(|action| world.act(action));
        let found = world.calm_down().err();
        assert_eq!(found.is_some(), fault.is_some(), "{fault:?}: {found:?}");
    }
}
