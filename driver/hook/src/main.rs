//! `tessera-hook`: a hook of the OCI runtime specification. See `tessera-hook --help`.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tessera_hook::{Arguments, create_container, install, lift_locked_memory};

fn main() -> ExitCode {
    let (arguments, state) = (Arguments::parse(), io::stdin().lock());
    let done = if let Some(path) = &arguments.install {
        install(path).map_err(|error| format!("cannot be installed as {}: {error}", path.display()))
    } else if arguments.lift_locked_memory {
        lift_locked_memory(state).map_err(|error| error.to_string())
    } else {
        create_container(state, &arguments).map_err(|error| error.to_string())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Runtimes put this into the reason why the container did not start.
            eprintln!("tessera-hook: {error}");
            ExitCode::FAILURE
        }
    }
}
