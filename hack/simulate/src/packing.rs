//! How well the order in which devices are published packs partitions: the scheduler takes the first device of the pool
//! that fits, and knows nothing of places.
//!
//! Requests come at random (exponential pauses, exponential holding times) and stay where they were put; one that finds
//! no room is turned away. The same requests go to three allocators: the scheduler's first fit over the slices that
//! `tessera_core` publishes, first fit over a naive order (GPU by GPU, first slice first), and a best fit that looks at
//! the state of the whole node, which no static order can.

mod board;
mod life;
mod mix;
mod node;

use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};

use self::board::Board;
use self::life::{Accepted, life};
use self::mix::MIXES;
use self::node::{Allocator, Node};

/// How many GPUs the nodes have.
const NODES: [u8; 2] = [1, 8];
/// What is asked for at once on average, as a part of the memory slices that there are.
const LOADS: [f64; 3] = [0.5, 0.8, 1.2];

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Packing {
    /// How many requests come to each node.
    pub requests: usize,
    /// What the requests are made of: the same seed, the same requests.
    pub seed: u64,
}

/// The part of the requests that each allocator could place, over all boards, nodes, mixes and loads.
#[derive(Clone, Debug)]
pub struct Packed {
    rows: Vec<Row>,
}

/// One node under one load.
#[derive(Clone, Debug)]
struct Row {
    board: &'static str,
    gpus: u8,
    mix: &'static str,
    load: f64,
    /// In the order of [`Allocator::ALL`].
    accepted: [Accepted; 3],
}

/// Runs all of it.
///
/// # Errors
/// When the simulated hardware has no such boards.
pub fn pack(options: Packing) -> Result<Packed> {
    let mut rows = Vec::new();
    for board in Board::all()? {
        for gpus in NODES {
            let node = Node::new(&board, gpus);
            for mix in MIXES {
                let wishes = mix.wishes(&node);
                for load in LOADS {
                    let accepted = Allocator::ALL.map(|allocator| life(&node, allocator, &wishes, load, options));
                    rows.push(Row { board: board.name, gpus, mix: mix.name, load, accepted });
                }
            }
        }
    }
    Ok(Packed { rows })
}

impl Packed {
    /// The means over all rows, as parts of 1: of requests, and of their memory slices, in the order published, naive,
    /// best fit.
    pub fn means(&self) -> [(f64, f64); 3] {
        let rows = self.rows.len().max(1) as f64;
        [0, 1, 2].map(|allocator| {
            let of = |part: fn(&Accepted) -> f64| {
                self.rows.iter().map(|row| part(&row.accepted[allocator])).sum::<f64>() / rows
            };
            (of(Accepted::requests), of(Accepted::slices))
        })
    }
}

impl std::fmt::Display for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["board", "GPUs", "mix", "load", "published", "naive", "best fit"]);
        for row in &self.rows {
            let load = format!("{:.1}", row.load);
            let mut cells = vec![row.board.to_owned(), row.gpus.to_string(), row.mix.to_owned(), load];
            cells.extend(row.accepted.iter().map(|one| percent(one.requests(), one.slices())));
            table.add_row(cells);
        }
        let mut means = vec!["mean".to_owned(), String::new(), String::new(), String::new()];
        means.extend(self.means().map(|(requests, slices)| percent(requests, slices)));
        table.add_row(means);
        let mut text = String::new();
        for mix in MIXES {
            writeln!(text, "{}: {}", mix.name, mix.about)?;
        }
        write!(f, "{text}\nAccepted requests / accepted memory slices, in percent:\n{table}")
    }
}

fn percent(requests: f64, slices: f64) -> String {
    format!("{:.1} / {:.1}", requests * 100.0, slices * 100.0)
}
