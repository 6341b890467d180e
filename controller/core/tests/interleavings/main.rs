//! Two controllers that know different things, are killed and come back, and whose writes arrive late; agents that are slow,
//! succeed and fail; an admin who changes their mind. Never are more nodes changing than the policy allows, and once all
//! calm down, everything is as the policies say and nobody writes any more.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod agent;
mod controller;
mod server;
mod world;

use proptest::prelude::*;
use world::{Action, World};

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn never_are_more_nodes_changing_than_allowed_and_nothing_is_forgotten(
        nodes in 1_usize..6,
        allowed in 1_usize..3,
        actions in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..300),
    ) {
        let mut world = World::new(nodes, allowed);
        for raw in actions {
            world.act(Action::from(raw));
            world.check()?;
        }
        world.calm_down()?;
    }
}
