//! The exported functions, by subject.

mod enumerate;
mod event;
mod fabric;
mod field;
mod health;
mod identity;
mod life;
mod memory;
mod mig;
mod mode;
mod nvlink;
mod pci;
mod process;
mod system;
mod topology;
