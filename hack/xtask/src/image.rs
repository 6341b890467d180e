//! `cargo xtask image`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use images::{Archive, Programs};

use crate::builds;
use crate::report::heading;

/// What the image of the agent may hold, in bytes, unpacked.
const LIMIT: u64 = 30 * 1024 * 1024;

/// Which image.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the archive and its bill of materials go.
    #[arg(long, default_value = "target/images", value_name = "DIR")]
    output: PathBuf,
    /// Of a build that is not optimised: quicker to make, and larger than a release may be.
    #[arg(long)]
    debug: bool,
    /// Build everything a second time, from nothing and in another directory, and compare.
    #[arg(long)]
    twice: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = crate::root()?;
    // Beside the usual builds, whose flags are others.
    let target = builds::directory("image")?;
    heading("Building the agent and the hook");
    let (archive, bill) = make(&root, &target, options.debug)?;
    let mebibytes = archive.size as f64 / f64::from(1 << 20);
    println!("{}:{}  {}  {mebibytes:.1} MiB", images::AGENT, images::version(), archive.digest);
    if !options.debug {
        check_size(archive.size)?;
    }
    if options.twice {
        heading("Building them once more");
        let other = tempfile::tempdir().context("no temporary directory")?;
        let (again, _) = make(&root, other.path(), options.debug)?;
        if archive.bytes != again.bytes {
            bail!("the second build gave another image, {}", again.digest);
        }
        println!("the second build gave the same {} bytes", again.bytes.len());
    }
    let output = root.join(&options.output);
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    let name = format!("tessera-agent-{}", images::version());
    for (ending, content) in [("tar", &archive.bytes), ("cdx.json", &bill)] {
        let path = output.join(format!("{name}.{ending}"));
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Every node downloads it, and keeps it.
fn check_size(bytes: u64) -> Result<()> {
    if bytes > LIMIT {
        bail!("the image holds {:.1} MiB, and may hold {} MiB", bytes as f64 / f64::from(1 << 20), LIMIT >> 20);
    }
    Ok(())
}

/// Builds the programs into a target directory and makes the image of them.
fn make(root: &Path, target: &Path, debug: bool) -> Result<(Archive, Vec<u8>)> {
    let profile = if debug { "debug" } else { "release" };
    let glibc = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let (hook_target, hook_flags) = simulated_node::hook_target();
    let builds = [("tessera-agent", &glibc, None), ("tessera-hook", &hook_target, hook_flags)];
    let mut programs = Vec::new();
    for (package, triple, flags) in builds {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", package, "--target", triple]);
        cargo.arg("--target-dir").arg(target).args((!debug).then_some("--release"));
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags_of(root, target, flags)).env_remove("RUSTFLAGS");
        builds::run(&mut cargo)?;
        programs.push(target.join(triple).join(profile).join(package));
    }
    let (image, bill) = images::agent(root, &Programs { agent: &programs[0], hook: &programs[1] })?;
    Ok((image.archive()?, bill))
}

/// Nothing of where a build was made may get into it: paths are in the texts of panics.
fn flags_of(root: &Path, target: &Path, more: Option<&str>) -> OsString {
    let mut flags: Vec<OsString> = more.into_iter().flat_map(|flags| flags.split(' ')).map(OsString::from).collect();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    // The last one that fits counts, so the target directory comes after the workspace, which it may be in.
    for (from, to) in [(home.as_deref(), "/cargo"), (Some(root), "/tessera"), (Some(target), "/target")] {
        let Some(from) = from else { continue };
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    flags.join(std::ffi::OsStr::new("\u{1f}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_too_large_is_refused_with_its_size() {
        assert!(check_size(LIMIT).is_ok());
        let refused = check_size(LIMIT + (1 << 19)).unwrap_err().to_string();
        assert_eq!(refused, "the image holds 30.5 MiB, and may hold 30 MiB");
    }
}
