//! Owns a cluster for as long as it lives. Started by the `cluster` library, never by hand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("run") => cluster::supervisor::run(),
        Some("init") => cluster::supervisor::run_init(),
        _ => {
            eprintln!("cluster-supervisor is started by the cluster library: see hack/cluster");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-supervisor: {error:#}");
            ExitCode::FAILURE
        }
    }
}
