//! The loader and the shared libraries that a program needs, as this machine has them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::File;

/// The loader and the libraries of a program, by the paths at which it finds them.
pub fn loaded_by(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd, which comes with glibc")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    let paths: Vec<_> = listed.lines().filter_map(path).collect();
    if !output.status.success() || paths.len() < 2 {
        let trouble = String::from_utf8_lossy(&output.stderr);
        bail!("ldd names no loader and no library of {}: {listed}{trouble}", program.display());
    }
    Ok(paths)
}

/// What a program that loads other people's libraries at run time takes along.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The loader and the libraries, in the order of their paths.
    pub files: Vec<File>,
    /// What the machine's glibc calls itself: `ldd (Debian GLIBC 2.36-9+deb12u10) 2.36`.
    pub glibc: String,
}

/// Parts of glibc of their own until 2.34, and empty since: NVIDIA's libraries, which run with older ones too, ask for
/// them by name all the same.
const ASKED_FOR: [&str; 4] = ["libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1"];

impl Shared {
    /// For a program that was linked on this machine: no other glibc is sure to have all that it was linked against.
    pub fn of(program: &Path) -> Result<Self> {
        let mut paths = loaded_by(program)?;
        let libc = paths.iter().find(|path| path.ends_with("/libc.so.6"));
        let libc = libc.with_context(|| format!("{} is not linked with glibc", program.display()))?;
        let directory = Path::new(libc).parent().unwrap_or(Path::new("/")).to_owned();
        let beside = ASKED_FOR.iter().map(|name| directory.join(name)).filter(|path| path.is_file());
        paths.extend(beside.map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>());
        paths.sort_unstable();
        paths.dedup();
        let files = paths.iter().map(|path| File::of_machine(path)).collect::<Result<_>>()?;
        Ok(Self { files, glibc: glibc()? })
    }

    /// For a program that needs none of it.
    pub fn none() -> Self {
        Self { files: Vec::new(), glibc: String::new() }
    }
}

fn glibc() -> Result<String> {
    let output = Command::new("ldd").arg("--version").output().context("running ldd, which comes with glibc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).context("ldd --version says nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_takes_its_loader_its_libraries_and_what_drivers_ask_for() {
        let shared = Shared::of(&std::env::current_exe().unwrap()).unwrap();
        let has = |name: &str| shared.files.iter().any(|file| file.path.rsplit('/').next().unwrap().starts_with(name));
        for name in ["ld-linux", "libc.so.6", "libgcc_s.so.1"].iter().chain(&ASKED_FOR) {
            assert!(has(name), "{name}");
        }
        assert!(shared.glibc.contains("2."), "{}", shared.glibc);
        assert!(loaded_by(Path::new("/etc/hostname")).is_err());
    }
}
