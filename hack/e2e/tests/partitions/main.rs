//! Partitions (MIG devices) on a real node: the scheduler counts, the agent cuts, the kernel keeps apart. Each test has a
//! node of its own.

mod by_hand;
mod choices;
mod containers;
mod crashes;
mod ground;
mod layouts;
mod many;
mod projection;
