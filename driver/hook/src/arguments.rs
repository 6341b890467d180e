use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Architecture;

/// What the hook is to do. Whoever writes the hook into a CDI spec makes the same of [`Arguments::to_args`].
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Parser)]
#[command(
    name = "tessera-hook",
    version,
    about = "Makes a driver's libraries known to a container's dynamic loader, or lifts its limit of locked memory. A \
             hook: container runtimes call it."
)]
pub struct Arguments {
    /// A link to make in the container.
    #[arg(long = "link", value_name = "TARGET::PATH")]
    pub links: Vec<Link>,
    /// A library that is mounted into the container, and the names under which the loader must find it: each becomes a
    /// link beside the library and an entry of the loader's cache.
    #[arg(long = "library", value_name = "ARCHITECTURE:PATH=NAME,NAME")]
    pub libraries: Vec<Library>,
    /// Keep NVIDIA's libraries from making nodes of devices that the container was not given.
    #[arg(long)]
    pub device_files_as_given: bool,
    /// Let the container lock as much memory as it likes, and do nothing else. For a createRuntime hook; all the rest is
    /// for createContainer.
    #[arg(long, conflicts_with_all = ["links", "libraries", "device_files_as_given"])]
    pub lift_locked_memory: bool,
    /// Put a copy of this program there and do nothing else: into a directory of the node, where container runtimes find
    /// it. An image without a shell has no other way. Not for CDI specs.
    #[arg(long, value_name = "PATH", exclusive = true)]
    pub install: Option<PathBuf>,
}

/// A link to make.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// What it says: absolute, or relative to the link's directory.
    pub target: String,
    /// Where it is, an absolute path in the container.
    pub path: String,
}

/// A library in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Whose loader takes it.
    pub architecture: Architecture,
    /// Its file, an absolute path in the container.
    pub path: String,
    /// The names under which programs ask for it, its SONAME first. The file's own name may be among them.
    pub names: Vec<String>,
}

/// An argument that is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} must be {expected}")]
pub struct InvalidArgument {
    /// What was given.
    pub given: String,
    /// What is taken.
    pub expected: &'static str,
}

impl Arguments {
    /// The arguments as a CDI hook has them, the program's name first: runtimes hand them on as they are.
    pub fn to_args(&self) -> Vec<String> {
        let links = self.links.iter().flat_map(|link| ["--link".to_owned(), link.to_string()]);
        let libraries = self.libraries.iter().flat_map(|library| ["--library".to_owned(), library.to_string()]);
        let as_given = self.device_files_as_given.then(|| "--device-files-as-given".to_owned());
        let lift = self.lift_locked_memory.then(|| "--lift-locked-memory".to_owned());
        std::iter::once("tessera-hook".to_owned()).chain(lift).chain(as_given).chain(links).chain(libraries).collect()
    }
}

impl Library {
    /// The library's directory and the file's name in it.
    pub fn place(&self) -> (&str, &str) {
        self.path.rsplit_once('/').unwrap_or(("", &self.path))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.target, self.path)
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.architecture, self.path, self.names.join(","))
    }
}

impl FromStr for Link {
    type Err = InvalidArgument;

    fn from_str(given: &str) -> Result<Self, InvalidArgument> {
        let parts = given.split_once("::").filter(|(target, path)| !target.is_empty() && names_a_file(path));
        parts.map(|(target, path)| Self { target: target.to_owned(), path: path.to_owned() }).ok_or_else(|| {
            InvalidArgument { given: given.to_owned(), expected: "TARGET::PATH, the path absolute in the container" }
        })
    }
}

impl FromStr for Library {
    type Err = InvalidArgument;

    fn from_str(given: &str) -> Result<Self, InvalidArgument> {
        let parse = || {
            let (architecture, rest) = given.split_once(':')?;
            // A path may hold this sign, a library's name does not.
            let (path, names) = rest.rsplit_once('=')?;
            let names: Vec<String> = names.split(',').map(str::to_owned).collect();
            let plain = |name: &String| !matches!(name.as_str(), "" | "." | "..") && !name.contains(['/', '\0']);
            (names_a_file(path) && names.iter().all(plain)).then_some(())?;
            Some(Self { architecture: architecture.parse().ok()?, path: path.to_owned(), names })
        };
        parse().ok_or_else(|| InvalidArgument {
            given: given.to_owned(),
            expected: "ARCHITECTURE:PATH=NAME,NAME, the architecture one of x86-64, i386, aarch64 and armhf, the path \
                       absolute in the container",
        })
    }
}

/// Whether the path is absolute and ends in a name.
fn names_a_file(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && !matches!(path.rsplit('/').next(), None | Some("" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        Arguments::command().debug_assert();
        let arguments = Arguments {
            links: vec!["../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so".parse().unwrap()],
            libraries: vec![
                "x86-64:/usr/lib/libcuda.so.580.65.06=libcuda.so.1,libcuda.so".parse().unwrap(),
                "i386:/a=b/libx.so=libx.so".parse().unwrap(),
            ],
            device_files_as_given: true,
            ..Arguments::default()
        };
        assert_eq!(arguments.libraries[1].place(), ("/a=b", "libx.so"));
        assert_eq!(Arguments::try_parse_from(arguments.to_args()).unwrap(), arguments);
        assert_eq!(Arguments::try_parse_from(["tessera-hook"]).unwrap(), Arguments::default());
        let lift = Arguments { lift_locked_memory: true, ..Arguments::default() };
        assert_eq!(Arguments::try_parse_from(lift.to_args()).unwrap(), lift);
        assert!(Arguments::try_parse_from(Arguments { lift_locked_memory: true, ..arguments }.to_args()).is_err());
        assert!(Arguments::try_parse_from(["tessera-hook", "--install=/x", "--lift-locked-memory"]).is_err());
    }

    #[test]
    fn what_names_no_file_is_refused() {
        for bad in ["", "a", "a::b", "a::", "::/b", "a::/", "a::/b/..", "a::/b/"] {
            assert!(bad.parse::<Link>().is_err(), "{bad:?}");
        }
        for bad in ["", "x86-64:/a", "x86-64:a=b", "arm:/a=b", "x86-64:/a=", "x86-64:/a=b,", "x86-64:/a=../b"] {
            let error = bad.parse::<Library>().unwrap_err().to_string();
            assert!(error.contains("must be ARCHITECTURE:PATH=NAME"), "{error}");
        }
    }
}
