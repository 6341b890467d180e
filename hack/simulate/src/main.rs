//! `simulate [--steps N] [--seed S]` and `simulate --packing [--requests N] [--seed S]`: see the library.

use std::process::ExitCode;

use clap::Parser;
use simulate::{Options, Outcome, Packing, Plant, Setting, pack, run, shrink};

/// How many of the last events are shown.
const LAST: usize = 10;

/// Simulates a node under random events and checks what must hold after each.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many steps.
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// What the events are made of: the same seed, the same events.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Put this bug into the simulated agent.
    #[arg(long, hide = true)]
    plant: Option<Plant>,
    /// Instead: how many requests for MIG partitions find room with the order in which devices are published.
    #[arg(long, conflicts_with_all = ["steps", "plant"])]
    packing: bool,
    /// How many requests come to each node.
    #[arg(long, default_value_t = 20_000, requires = "packing")]
    requests: usize,
}

fn main() -> ExitCode {
    let Arguments { steps, seed, plant, packing, requests } = Arguments::parse();
    if packing {
        return show_packing(Packing { requests, seed });
    }
    let setting = Setting { plant };
    let Outcome { found, tally } = run(&Options { steps, seed, setting });
    for violation in &found {
        println!("seed {seed}, step {}: {}", violation.step, violation.violation);
    }
    let mut shown = Vec::new();
    for first in &found {
        if shown.contains(&first.violation.invariant) {
            continue;
        }
        shown.push(first.violation.invariant);
        println!("\nThe last events before step {}:", first.step);
        for event in &first.events[first.events.len().saturating_sub(LAST)..] {
            println!("  {event:?}");
        }
        let shrunk = shrink(first, setting);
        println!("\n{} events are enough (a node made with seed {}):", shrunk.events.len(), shrunk.life);
        for event in &shrunk.events {
            println!("  {event:?}");
        }
        println!("  -> {}\n", shrunk.violation);
    }
    println!("{tally}");
    println!("{steps} steps, seed {seed}, {} violations", found.len());
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show_packing(options: Packing) -> ExitCode {
    match pack(options) {
        Ok(packed) => {
            println!("{packed}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
