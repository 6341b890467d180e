//! The one program of the test image. As `pause` it is the sandbox of a pod; in a container it does one thing after
//! another and says what came of it, so that a test can read a container's log and exit code:
//!
//! ```text
//! probe env --then open /dev/nvidia0 --then sleep
//! ```
//!
//! The exit code is 0 when every step succeeded, 1 when one did not (the later ones still run) and 2 when the command
//! line makes no sense.

mod steps;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Between two steps on the command line.
const SEPARATOR: &str = "--then";

fn main() -> ExitCode {
    // A PID 1 without a handler is deaf to SIGTERM, and its pod would take the whole grace period to end.
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        if let Err(error) = signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::new(AtomicBool::new(true)))
        {
            eprintln!("probe: handling signal {signal}: {error}");
            return ExitCode::from(2);
        }
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let steps: Result<Vec<steps::Step>, String> =
        arguments.split(|argument| argument == SEPARATOR).map(steps::Step::parse).collect();
    match steps {
        Ok(steps) => {
            let failed = steps.iter().filter(|step| !step.run()).count();
            ExitCode::from(u8::from(failed > 0))
        }
        Err(error) => {
            eprintln!("probe: {error}\n{}", steps::USAGE);
            ExitCode::from(2)
        }
    }
}
