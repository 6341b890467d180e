//! `cargo xtask image`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use images::{Archive, Image, Programs};

use crate::builds;
use crate::report::heading;

/// What an image may hold, in bytes, unpacked.
const LIMIT: u64 = 30 * 1024 * 1024;

/// How they are made.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the archives and their bills of materials go.
    #[arg(long, default_value = "target/images", value_name = "DIR")]
    output: PathBuf,
    /// Of a build that is not optimised: quicker to make, and larger than a release may be.
    #[arg(long)]
    debug: bool,
    /// Build everything a second time, from nothing and in another directory, and compare.
    #[arg(long)]
    twice: bool,
}

/// An image, as it is made.
struct Made {
    name: &'static str,
    archive: Archive,
    bill: Vec<u8>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = crate::root()?;
    // Beside the usual builds, whose flags are others.
    let target = builds::directory("image")?;
    heading("Building the agent, the hook and the controller");
    let images = make(&root, &target, options.debug)?;
    for Made { name, archive, .. } in &images {
        let mebibytes = archive.size as f64 / f64::from(1 << 20);
        println!("{name}:{}  {}  {mebibytes:.1} MiB", images::version(), archive.digest);
        if !options.debug {
            check_size(name, archive.size)?;
        }
    }
    if options.twice {
        heading("Building them once more");
        let other = tempfile::tempdir().context("no temporary directory")?;
        for (first, again) in images.iter().zip(make(&root, other.path(), options.debug)?) {
            if first.archive.bytes != again.archive.bytes {
                bail!("the second build gave another image {}, {}", again.name, again.archive.digest);
            }
            println!("the second build gave the same {} bytes of {}", again.archive.bytes.len(), again.name);
        }
    }
    let output = root.join(&options.output);
    fs::create_dir_all(&output).with_context(|| format!("making {}", output.display()))?;
    for Made { name, archive, bill } in &images {
        let name = format!("{}-{}", name.replace(".dev/", "-"), images::version());
        for (ending, content) in [("tar", &archive.bytes), ("cdx.json", bill)] {
            let path = output.join(format!("{name}.{ending}"));
            fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
            println!("{}", path.display());
        }
    }
    Ok(())
}

/// Every node downloads it, and keeps it.
fn check_size(name: &str, bytes: u64) -> Result<()> {
    if bytes > LIMIT {
        bail!("the image {name} holds {:.1} MiB, and may hold {} MiB", bytes as f64 / f64::from(1 << 20), LIMIT >> 20);
    }
    Ok(())
}

/// Builds the programs into a target directory and makes the images of them.
fn make(root: &Path, target: &Path, debug: bool) -> Result<[Made; 2]> {
    let profile = if debug { "debug" } else { "release" };
    let glibc = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let (static_target, static_flags) = simulated_node::static_target();
    let build = |package: &str, triple: &str, flags: Option<&str>| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--package", package, "--target", triple]);
        cargo.arg("--target-dir").arg(target).args((!debug).then_some("--release"));
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags_of(root, target, flags)).env_remove("RUSTFLAGS");
        cargo.envs(simulated_node::static_compiler(triple));
        builds::run(&mut cargo)?;
        anyhow::Ok(target.join(triple).join(profile).join(package))
    };
    let agent = build("tessera-agent", &glibc, None)?;
    let hook = build("tessera-hook", &static_target, static_flags)?;
    let controller = build("tessera-controller", &static_target, static_flags)?;
    let made = |name, (image, bill): (Image, Vec<u8>)| anyhow::Ok(Made { name, archive: image.archive()?, bill });
    Ok([
        made(images::AGENT, images::agent(root, &Programs { agent: &agent, hook: &hook })?)?,
        made(images::CONTROLLER, images::controller(root, &controller)?)?,
    ])
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
        assert!(check_size("agent", LIMIT).is_ok());
        let refused = check_size("agent", LIMIT + (1 << 19)).unwrap_err().to_string();
        assert_eq!(refused, "the image agent holds 30.5 MiB, and may hold 30 MiB");
    }
}
