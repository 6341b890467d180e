use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

/// Builds the hook, `tessera-hook`, if need be, and says where it is.
pub fn hook() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&BUILT, "tessera-hook")
}

/// Builds the controller, `tessera-controller`, if need be, and says where it is.
pub fn controller() -> Result<PathBuf> {
    static BUILT: Mutex<Option<PathBuf>> = Mutex::new(None);
    once(&BUILT, "tessera-controller")
}

/// Each is one file that needs nothing of the machine or of a container, as it is shipped: statically linked, with musl where
/// Rust has that, or else with the machine's own glibc. Nothing is fetched but a missing musl, and that need not succeed.
fn once(built: &Mutex<Option<PathBuf>>, package: &str) -> Result<PathBuf> {
    let mut built = built.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*built {
        return Ok(path.clone());
    }
    let path = build(package)?;
    *built = Some(path.clone());
    Ok(path)
}

/// The target for which static programs are built, and the flags for rustc that make them static there.
pub fn static_target() -> (String, Option<&'static str>) {
    let [musl, glibc] = ["musl", "gnu"].map(|libc| format!("{ARCH}-unknown-linux-{libc}"));
    if has(&musl) || add(&musl) {
        (musl, None)
    } else {
        eprintln!(
            "no {musl} for this Rust (`rustup target add {musl}`): what is static is linked with the machine's glibc"
        );
        (glibc, Some("-Ctarget-feature=+crt-static"))
    }
}

fn build(package: &str) -> Result<PathBuf> {
    let (triple, flags) = static_target();
    let target = target_directory()?;
    let mut cargo = in_workspace("cargo");
    cargo.args(["build", "--quiet", "--package", package, "--target", &triple, "--target-dir"]).arg(&target);
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    cargo.envs(flags.map(|flags| ("RUSTFLAGS", flags))).envs(static_compiler(&triple));
    let status = cargo.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("{cargo:?} failed ({status}); what it said stands above");
    }
    Ok(target.join(triple).join("debug").join(package))
}

/// The variable that names the C compiler for a target, where nobody has named one: ring has a few functions in C, which need no
/// library, so that the machine's own compiler will do. Cargo's scripts look for one of musl, which few machines have.
pub fn static_compiler(triple: &str) -> Option<(String, &'static str)> {
    let variable = format!("CC_{}", triple.replace('-', "_"));
    (triple.ends_with("-musl") && std::env::var_os(&variable).is_none()).then_some((variable, "cc"))
}

/// Whether Rust has its library for a target.
fn has(triple: &str) -> bool {
    let output = in_workspace("rustc").args(["--print", "target-libdir", "--target", triple]).output();
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

fn add(triple: &str) -> bool {
    let mut rustup = in_workspace("rustup");
    rustup.args(["target", "add", triple]).stdout(Stdio::null()).stderr(Stdio::null());
    rustup.status().is_ok_and(|status| status.success()) && has(triple)
}

/// The toolchain is that of the workspace.
fn in_workspace(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).stdin(Stdio::null());
    command
}

/// A directory of its own: a `cargo test` that waits for this build may hold the lock of the usual one.
fn target_directory() -> Result<PathBuf> {
    let running = std::env::current_exe().context("the path of the running program")?;
    // target/<profile>/<program>, or target/<profile>/deps/<test>.
    let profile = running.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    let target = profile.and_then(Path::parent).context("the running program lies in no target directory")?;
    Ok(target.join("static"))
}
