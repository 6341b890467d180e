//! What the machine itself must have. On Debian and its kin, what is missing is installed.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::builds::run;
use crate::report::heading;

/// A way to see that something is there, and the Debian package that brings it.
const WANTED: &[(&[&str], &str)] = &[
    (&["gcc", "--version"], "gcc"),
    (&["pkg-config", "--version"], "pkg-config"),
    // runc is built against it: without it, every sandbox that asks for seccomp fails.
    (&["pkg-config", "--exists", "libseccomp"], "libseccomp-dev"),
    (&["ip", "-Version"], "iproute2"),
    (&["openssl", "version"], "openssl"),
    (&["unshare", "--version"], "util-linux"),
];

/// Makes sure that a cluster can be built and started on this machine.
pub(crate) fn ensure() -> Result<()> {
    if !succeeds(&["go", "version"]) {
        bail!("the cluster's parts are built from Go modules: install Go 1.26 or newer and put it on the PATH");
    }
    let missing: Vec<_> = WANTED.iter().filter(|(check, _)| !succeeds(check)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !succeeds(&["apt-get", "--version"]) {
        bail!("this machine lacks what these Debian packages bring: {}; install the like of them", missing.join(", "));
    }
    heading(&format!("Installing with apt-get: {}", missing.join(", ")));
    run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    run(Command::new("apt-get")
        .args(["install", "--quiet=2", "--yes", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn succeeds(command: &[&str]) -> bool {
    let silent = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    silent.is_ok_and(|status| status.success())
}
