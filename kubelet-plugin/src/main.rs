//! `tessera-agent`: the node agent. See `tessera-agent --help`.

use std::process::ExitCode;

use clap::Parser;
use tessera_agent::cli::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.command {
        Command::Run(options) => tessera_agent::run(&arguments.hardware, options),
        Command::Inspect(options) => tessera_agent::inspect(&arguments.hardware, options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tessera-agent: {}", tessera_agent::told(&error));
            ExitCode::FAILURE
        }
    }
}
