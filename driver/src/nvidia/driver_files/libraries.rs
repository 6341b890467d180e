//! The shared libraries: where they are and which of them belong to the driver.

use std::collections::BTreeSet;

use tessera_hook::{Architecture, Cache, FileKind};

use super::search::Search;
use super::version::is_version;
use super::{Library, NVML, NoDriverFiles, elf};

/// The cache of the driver root's own loader, which knows where its libraries are.
const CACHE: &str = "/etc/ld.so.cache";
const LARGEST_CACHE: u64 = 64 << 20;

/// Libraries that every installation has; where the loader finds these, the others are near.
const LANDMARKS: &[&str] = &["libcuda.so.1", NVML];

/// Where distributions and driver containers put the driver's libraries, in the order of NVIDIA's own tools.
/// Those of 32-bit libraries come last.
const DIRECTORIES: &[&str] = &[
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/lib",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib32",
];

/// CUDA's library for the driver: without it no program for compute starts.
const CUDA: &str = "libcuda.so.";

/// Libraries of the driver that have versions of their own.
const OTHER_VERSIONS: &[&str] = &[
    "libnvidia-api.so.",
    "libnvidia-egl-gbm.so.",
    "libnvidia-egl-wayland.so.",
    "libnvidia-egl-wayland2.so.",
    "libnvidia-egl-xcb.so.",
    "libnvidia-egl-xlib.so.",
    "libnvidia-nvvm70.so.",
];

/// Names besides the SONAME that programs ask for. Frameworks look for CUDA and optical flow by the names that
/// developers' packages have; the library of OpenGL looks for its fallback by the third.
const FURTHER_NAMES: &[(&str, &str)] = &[
    ("libcuda.so.1", "libcuda.so"),
    ("libnvidia-opticalflow.so.1", "libnvidia-opticalflow.so"),
    ("libGLX_nvidia.so.0", "libGLX_indirect.so.0"),
];

/// The driver's version and its libraries, in the order of their paths.
pub(super) fn find(search: &mut Search<'_>, loaded: Option<&str>) -> Result<(String, Vec<Library>), NoDriverFiles> {
    let directories = directories(search);
    let listed: Vec<(String, Vec<String>)> =
        directories.into_iter().map(|directory| (directory.clone(), search.names(&directory))).collect();
    let version = version(search, &listed, loaded)?;
    let mut libraries: Vec<Library> = Vec::new();
    let mut seen = BTreeSet::new();
    for (directory, names) in &listed {
        for name in names.iter().filter(|name| belongs(name, &version)) {
            let Some(library) = library(search, directory, name).filter(|one| seen.insert(one.file.inside.clone()))
            else {
                continue;
            };
            // The first directory counts, as it does for the loader.
            let same =
                |known: &Library| known.architecture == library.architecture && known.names[0] == library.names[0];
            if !libraries.iter().any(same) {
                libraries.push(library);
            }
        }
    }
    let cuda = |library: &Library| library.is_64_bit() && library.names.iter().any(|name| name.starts_with(CUDA));
    if !libraries.iter().any(cuda) {
        return Err(no_cuda(search, &format!("{CUDA}{version}")));
    }
    libraries.sort_by(|left, right| left.file.cmp(&right.file));
    Ok((version, libraries))
}

/// The directories in which libraries may lie, each once and without links, those of the loader's cache first.
pub(super) fn directories(search: &mut Search<'_>) -> Vec<String> {
    let cache = search.read(CACHE, LARGEST_CACHE).and_then(|bytes| Cache::parse(&bytes).ok()).unwrap_or_default();
    let landmark = |name: &&std::ffi::OsStr| LANDMARKS.iter().any(|landmark| *name == *landmark);
    let known =
        cache.entries().iter().filter(|entry| landmark(&entry.name())).filter_map(|entry| entry.path().to_str());
    let mut directories = Vec::new();
    for path in known {
        // The link's own directory, and that of the file that it leads to: Debian has some libraries in each.
        let real = search.resolve(path).map(|found| found.path);
        for path in [Some(path.to_owned()), real].into_iter().flatten() {
            directories.extend(path.rsplit_once('/').and_then(|(parent, _)| search.directory(parent)));
        }
    }
    directories.extend(DIRECTORIES.iter().filter_map(|directory| search.directory(directory)));
    let mut seen = BTreeSet::new();
    directories.retain(|directory| seen.insert(directory.clone()));
    directories
}

/// The loaded version, if its CUDA library is there; without a loaded one, that of the library that is.
fn version(
    search: &Search<'_>,
    listed: &[(String, Vec<String>)],
    loaded: Option<&str>,
) -> Result<String, NoDriverFiles> {
    let found: Vec<(&str, &str)> = listed
        .iter()
        .flat_map(|(directory, names)| names.iter().map(move |name| (directory.as_str(), name.as_str())))
        .filter_map(|(directory, name)| Some((directory, name.strip_prefix(CUDA).filter(|rest| is_version(rest))?)))
        .collect();
    match loaded {
        Some(loaded) if found.iter().any(|(_, version)| *version == loaded) => Ok(loaded.to_owned()),
        Some(loaded) if !found.is_empty() => {
            let paths: Vec<_> =
                found.iter().map(|(directory, version)| format!("{directory}/{CUDA}{version}")).collect();
            let found = paths.join(", ");
            Err(NoDriverFiles::OtherVersion { loaded: loaded.to_owned(), found, root: search.root() })
        }
        _ => found.first().map(|(_, version)| (*version).to_owned()).ok_or_else(|| {
            no_cuda(search, &loaded.map_or_else(|| format!("{CUDA}1"), |loaded| format!("{CUDA}{loaded}")))
        }),
    }
}

fn no_cuda(search: &Search<'_>, wanted: &str) -> NoDriverFiles {
    NoDriverFiles::NoCuda { wanted: wanted.to_owned(), root: search.root(), looked: DIRECTORIES.join(", ") }
}

fn belongs(name: &str, version: &str) -> bool {
    let of_version = name
        .strip_prefix("lib")
        .and_then(|rest| rest.strip_suffix(version))
        .is_some_and(|rest| rest.strip_suffix(".so.").is_some_and(|rest| !rest.is_empty()));
    of_version || OTHER_VERSIONS.iter().any(|prefix| name.starts_with(prefix))
}

/// `None` for what is no library of an architecture that we know.
fn library(search: &mut Search<'_>, directory: &str, name: &str) -> Option<Library> {
    let found = search.entry(directory, name).filter(|found| found.kind == FileKind::Regular)?;
    let object = elf::shared_object(search.open(&found.path)?)?;
    let soname = object.soname.unwrap_or_else(|| name.to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    if !soname.starts_with("lib") || !soname.bytes().all(plain) {
        return None;
    }
    let further = FURTHER_NAMES.iter().filter(|(known, _)| *known == soname).map(|(_, further)| (*further).to_owned());
    let names = std::iter::once(soname.clone()).chain(further).collect();
    Some(Library { file: search.handed_out(&found, found.path.clone()), architecture: object.architecture, names })
}

impl Library {
    /// Whether it is for 64-bit programs.
    pub(in crate::nvidia) fn is_64_bit(&self) -> bool {
        matches!(self.architecture, Architecture::X86_64 | Architecture::Aarch64)
    }
}
