//! One node, simulated: the agent's own core (plan, steps, ledger, inventory, slices, reconcile) in shells that follow
//! those of `kubelet-plugin/src`, under a seeded list of random events: calls of the kubelet, pods
//! that ask by count, crashes at any operation,
//! faults of disk, hardware and API server, people's hands, reboots. After each step it is checked what must hold.
//!
//! Single-threaded and deterministic: the same seed gives the same run. Events are plain data, so a list of them that
//! breaks an invariant is made shorter and replays.

mod accelerator;
mod agent;
mod apart;
mod bench;
mod by_count;
mod call;
mod claim;
mod device_manager;
mod disk;
mod event;
mod hands;
mod hardware;
mod invariant;
mod kubelet;
mod machine;
mod mig;
mod node;
mod offers;
mod packing;
mod publisher;
mod run;
mod server;
mod setting;
mod shrink;
mod tally;
mod vfio;
mod works;
mod world;

pub use event::{ApiFault, Damage, DiskFault, DiskState, Edit, Event, GpuState, Hand, Rebind, WorkFault, events};
pub use invariant::{Invariant, Violation};
pub use packing::{Packed, Packing, pack};
pub use run::{Found, Options, Outcome, live, run};
pub use setting::{Plant, Setting};
pub use shrink::shrink;
pub use tally::Tally;
