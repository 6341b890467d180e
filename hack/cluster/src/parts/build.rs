//! Running `go build`, and saying what to do when it fails.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::Progress;
use super::recipe::{Recipe, source_directory};

/// Builds every program of a part into `target`.
pub(super) fn go(recipe: &Recipe, target: &Path, progress: &mut Progress<'_>) -> Result<()> {
    for (package, program) in recipe.programs {
        let mut command = Command::new("go");
        command
            .current_dir(source_directory(recipe.name))
            .args(insert_output(recipe.arguments(package), &target.join(program)))
            .env("CGO_ENABLED", if recipe.cgo { "1" } else { "0" })
            .env("GOWORK", "off");
        run(&mut command, &target.join("build.log"), progress)?;
    }
    Ok(())
}

/// `-o` must come before the package.
fn insert_output(mut arguments: Vec<String>, output: &Path) -> Vec<String> {
    let before_package = arguments.len().saturating_sub(1);
    arguments.insert(before_package, format!("-o={}", output.display()));
    arguments
}

/// Runs a build with its output in `log`, reporting as it goes.
pub(crate) fn run(command: &mut Command, log: &Path, progress: &mut Progress<'_>) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = fs::File::create(log).with_context(|| format!("making {}", log.display()))?;
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{program}` is not on PATH: install it (Go 1.26 or newer, or the Rust toolchain) and try again")
        }
        Err(error) => return Err(anyhow!(error).context(format!("starting `{program}`"))),
    };
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for `{program}`"))? {
            break status;
        }
        progress.tick(false);
        sleep(Duration::from_millis(100));
    };
    if status.success() {
        return Ok(());
    }
    let output = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<&str> = output.lines().rev().take(15).collect::<Vec<_>>().into_iter().rev().collect();
    let advice = advice(&output).map(|advice| format!("\n{advice}")).unwrap_or_default();
    bail!("`{program}` ended with {status}:\n{}{advice}", last.join("\n"))
}

/// What to do about a failed build, by what its output says.
fn advice(output: &str) -> Option<&'static str> {
    const TABLE: &[(&[&str], &str)] = &[
        (
            &["Package libseccomp was not found", "seccomp.h", "\"pkg-config\": executable file not found"],
            "runc needs the headers of libseccomp: `apt-get install libseccomp-dev pkg-config`",
        ),
        (
            &["\"gcc\": executable file not found", "C compiler"],
            "runc needs a C compiler: `apt-get install gcc libc6-dev`",
        ),
        (
            &["dial tcp", "no such host", "proxyconnect", "i/o timeout", "TLS handshake", "connection refused"],
            "the Go module proxy cannot be reached: check the network, or set GOPROXY to one that can",
        ),
        (&["requires go >=", "go.mod requires go"], "the installed Go is too old: install the version named above"),
        (&["no space left on device"], "the disk is full: a first build needs about 8 GiB for Go's caches"),
        (&["signal: killed"], "the compiler was killed, most likely for memory: a first build needs 4 GiB"),
    ];
    TABLE.iter().find(|(signs, _)| signs.iter().any(|sign| output.contains(sign))).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_says_what_to_do() {
        let cases = [
            ("cgo: exec pkg-config: exec: \"pkg-config\": executable file not found in $PATH", "pkg-config"),
            ("Package libseccomp was not found in the pkg-config search path.", "libseccomp-dev"),
            ("cgo: C compiler \"gcc\" not found: exec: \"gcc\": executable file not found in $PATH", "install gcc"),
            ("go: m@v1: Get \"x\": dial tcp: lookup proxy: no such host", "GOPROXY"),
            ("go: go.mod requires go >= 1.26.0 (running go 1.24.1)", "too old"),
        ];
        for (output, wanted) in cases {
            assert!(advice(output).is_some_and(|advice| advice.contains(wanted)), "{output}");
        }
        assert_eq!(advice("main.go:3: undefined: x"), None);
    }

    #[test]
    fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let mut report = |_: &super::super::Building| {};
        let mut progress = Progress::new("cni", 1, 1, Duration::ZERO, &mut report);
        let error =
            run(&mut Command::new("no-such-compiler"), &directory.path().join("log"), &mut progress).unwrap_err();
        assert!(error.to_string().starts_with("`no-such-compiler` is not on PATH"), "{error}");
    }
}
