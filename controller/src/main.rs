//! `tessera-controller`: the cluster's side of Tessera. See `tessera-controller --help`.

use std::process::ExitCode;

use clap::Parser;
use tessera_controller::cli::Options;

fn main() -> ExitCode {
    let options = Options::parse();
    match tessera_controller::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tessera-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}
