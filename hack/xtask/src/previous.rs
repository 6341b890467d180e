//! An earlier revision's agent, for tests of upgrades from it and of ways back to it.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use images::Programs;
use simulated_node::Previous;

use crate::builds;
use crate::report::heading;

/// Builds the agent, the hook and the image of a revision that Git knows, beside the usual builds; once for each commit.
pub(crate) fn build(revision: &str) -> Result<Previous> {
    let commit = git(&["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])
        .with_context(|| format!("{revision:?} is no revision"))?;
    let directory = builds::directory("previous")?;
    let source = directory.join(commit.get(..12).unwrap_or(&commit));
    let previous = Previous::at(source.clone());
    if previous.is_made() {
        return Ok(previous);
    }
    heading(&format!("Building the agent of {revision}, {commit}"));
    unpack(&commit, &source)?;
    // Of all revisions, so that each builds no more than differs from the one before.
    let target = directory.join("build");
    let (hook_target, hook_flags) = simulated_node::static_target();
    let mut hook = cargo(&source, &target, "tessera-hook");
    hook.args(["--target", &hook_target]).envs(hook_flags.map(|flags| ("RUSTFLAGS", flags)));
    for command in [&mut cargo(&source, &target, "tessera-agent"), &mut hook] {
        let status = command.status().context("cannot run cargo")?;
        if !status.success() {
            bail!("{command:?} failed ({status}); what it said stands above");
        }
    }
    let agent = target.join("debug/tessera-agent");
    let hook = target.join(hook_target).join("debug/tessera-hook");
    previous.make(&Programs { agent: &agent, hook: &hook })?;
    Ok(previous)
}

/// The files of a commit. Not a worktree: Git would remember it after `target` was removed.
fn unpack(commit: &str, source: &Path) -> Result<()> {
    if source.exists() {
        fs::remove_dir_all(source).with_context(|| format!("removing {}", source.display()))?;
    }
    fs::create_dir_all(source).with_context(|| format!("making {}", source.display()))?;
    let archive = source.join("source.tar");
    let path = archive.to_str().context("the target directory's path is not UTF-8")?;
    git(&["archive", "--format=tar", "--output", path, commit])?;
    builds::run(Command::new("tar").arg("--extract").arg("--file").arg(&archive).arg("--directory").arg(source))?;
    fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))
}

fn cargo(source: &Path, target: &Path, package: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(source).args(["build", "--quiet", "--locked", "--package", package, "--target-dir"]).arg(target);
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo
}

/// What Git prints in this repository, without the line's end.
fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git").current_dir(crate::root()?).args(arguments).stdin(Stdio::null()).output();
    let output = output.context("cannot run git")?;
    if !output.status.success() {
        bail!("`git {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
