//! Interrupts a running process at each point at which it changes files, without its help.
//!
//! A [`Watch`] traces a process (ptrace(2)) and counts the system calls with which it changes something below some
//! directories: its points. At one of them it may kill the process, or make the call fail. A test repeats some work with
//! one interruption after the other until there was none, and has then met every point that the kernel sees: nobody has
//! to think of them, or to keep a list of them as the code changes.
//!
//! What it does not see: changes by way of io_uring, of which it says that they are [`Change::Hidden`], and those of the
//! process's children.
//!
//! For x86-64 alone: how a call is read and refused differs from one architecture to the next.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod calls;
mod entry;
mod place;
mod point;
mod tracer;
mod watch;

pub use nix::errno::Errno;
pub use point::{Change, Point};
pub use watch::{Interruption, Seen, Watch};
