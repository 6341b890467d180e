//! `tessera-hook`: a `createContainer` hook of the OCI runtime specification. See `tessera-hook --help`.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tessera_hook::{Arguments, create_container};

fn main() -> ExitCode {
    match create_container(io::stdin().lock(), &Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Runtimes put this into the reason why the container did not start.
            eprintln!("tessera-hook: {error}");
            ExitCode::FAILURE
        }
    }
}
