//! What long work tells while it goes on.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use cluster::Progress;

/// Prints a heading, so that the parts of a long output can be told apart.
pub(crate) fn heading(text: &str) {
    println!("\n==> {text}");
}

/// Prints the progress of a cluster: on a terminal the newest line in place, else a line for each step and one every
/// half minute of a long build.
pub(crate) struct Reporter {
    in_place: bool,
    last: Option<(String, Instant)>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Self { in_place: std::io::stdout().is_terminal(), last: None }
    }

    pub(crate) fn report(&mut self, progress: &Progress) {
        let text = progress.to_string();
        if self.in_place {
            print!("\r\x1b[2K    {text}");
            if matches!(progress, Progress::Ready(_)) {
                println!();
            }
            // Progress only: that it cannot be shown is no reason to stop.
            let _ = std::io::stdout().flush();
            return;
        }
        let step = match progress {
            Progress::Building(building) => building.part.to_string(),
            _ => text.clone(),
        };
        let due = match &self.last {
            Some((last, when)) => *last != step || when.elapsed() > Duration::from_secs(30),
            None => true,
        };
        if due {
            println!("    {text}");
            self.last = Some((step, Instant::now()));
        }
    }
}
