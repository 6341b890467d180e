//! Brings a cluster up, detached, and says how to use it: `cargo run -p cluster --example up -- NAME [VERSION]`.
//! With `down` before the name, takes it down.

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let name = |index: usize| arguments.get(index).context("give a name")?.parse();
    if arguments.first().is_some_and(|word| word == "down") {
        return cluster::Cluster::open(&name(1)?)?.down();
    }
    let mut options = cluster::Options::new(name(0)?);
    options.mode = cluster::Mode::Detached;
    if let Some(version) = arguments.get(1) {
        options.version = version.parse()?;
    }
    let cluster = cluster::Cluster::up(&options, &mut |progress| eprintln!("{progress}"))?;
    println!("{:?}", cluster.kubectl(&["get", "nodes"]));
    Ok(())
}
