use std::io::{self, Read};
use std::path::PathBuf;

use crate::oci::{self, StateError};
use crate::{Arguments, Cache, Entry, RootDirectory, device_files};

/// The cache that the loader of glibc reads; the path is compiled into it.
const CACHE: &str = "/etc/ld.so.cache";
/// What `ldconfig` makes the cache of, and the directory of what others add to that.
const CONFIGURATION: &str = "/etc/ld.so.conf";
const INCLUDED: &str = "/etc/ld.so.conf.d/*.conf";
/// Ours comes first: an image's own directories must not hide the node's driver.
const DIRECTORIES: &str = "/etc/ld.so.conf.d/00-tessera.conf";

/// A cache of more bytes is nobody's; one of a full desktop has 200 KiB.
const LARGEST_CACHE: u64 = 64 << 20;
const LARGEST_CONFIGURATION: u64 = 1 << 20;

/// Why a container cannot be given its libraries. The runtime does not start it then.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime does not say where the container's root is.
    #[error(transparent)]
    State(#[from] StateError),
    /// The root cannot be opened.
    #[error("the container's root {}: {source}", path.display())]
    Root {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the container could not be changed.
    #[error("{doing} {path} in the container: {source}{}", hint(source))]
    File {
        /// What was tried.
        doing: &'static str,
        /// The file, as the container sees it.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// There are more libraries than a cache can hold.
    #[error("{CACHE} in the container would be too large")]
    TooLarge,
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the root file system is read-only before the container starts: have the driver's libraries handed out \
             without a hook"
        }
        io::ErrorKind::Unsupported => "; Linux 5.6 is needed: have the driver's libraries handed out without a hook",
        io::ErrorKind::ResourceBusy => "; something is mounted there",
        _ => "",
    }
}

/// For `map_err`: says what was tried on which file.
fn file(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { doing, path: path.to_owned(), source }
}

/// Does what the arguments say in the container whose state is read from `state`. May be repeated.
///
/// # Errors
/// See [`Error`]. Each file is then as it was before, or as it should be.
pub fn create_container(state: impl Read, arguments: &Arguments) -> Result<(), Error> {
    let path = oci::container_root(state)?;
    let root = RootDirectory::open(&path).map_err(|source| Error::Root { path, source })?;
    if arguments.device_files_as_given {
        // No reason to keep a container from starting: what it was not given, it cannot open anyway.
        if let Err(error) = device_files::leave_as_given(&root) {
            eprintln!("tessera-hook: NVIDIA's libraries may make device nodes in the container: {error}");
        }
    }
    for link in &arguments.links {
        root.put_link(&link.path, &link.target).map_err(file("linking", &link.path))?;
    }
    if arguments.libraries.is_empty() {
        return Ok(());
    }
    for library in &arguments.libraries {
        let (directory, own) = library.place();
        for name in library.names.iter().filter(|name| *name != own) {
            let path = format!("{directory}/{name}");
            root.put_link(&path, own).map_err(file("linking", &path))?;
        }
    }
    configure(&root, arguments)?;
    update_cache(&root, arguments)
}

/// For an `ldconfig` that is run in the container later, when a package is installed: it forgets what it does not find
/// in the configured directories.
fn configure(root: &RootDirectory, arguments: &Arguments) -> Result<(), Error> {
    let mut directories: Vec<&str> = arguments.libraries.iter().map(|library| library.place().0).collect();
    directories.sort_unstable();
    directories.dedup();
    let text: String = directories.iter().map(|directory| format!("{directory}\n")).collect();
    put(root, DIRECTORIES, text.as_bytes(), LARGEST_CONFIGURATION)?;

    let configured = root.read(CONFIGURATION, LARGEST_CONFIGURATION).map_err(file("reading", CONFIGURATION))?;
    let configured = String::from_utf8_lossy(&configured.unwrap_or_default()).into_owned();
    let includes = |line: &str| line.trim_start().starts_with("include") && line.contains("ld.so.conf.d/");
    if configured.lines().any(includes) {
        return Ok(());
    }
    put(root, CONFIGURATION, format!("include {INCLUDED}\n{configured}").as_bytes(), LARGEST_CONFIGURATION)
}

/// Adds the libraries to what the image's cache holds. A cache that cannot be read, the loader does not read either.
fn update_cache(root: &RootDirectory, arguments: &Arguments) -> Result<(), Error> {
    let there = root.read(CACHE, LARGEST_CACHE).map_err(file("reading", CACHE))?.unwrap_or_default();
    let mut cache = Cache::parse(&there).unwrap_or_default();
    cache.put_first(arguments.libraries.iter().flat_map(|library| {
        let directory = library.place().0;
        let entry = move |name: &String| Entry::new(library.architecture, name, &format!("{directory}/{name}"));
        library.names.iter().map(entry)
    }));
    let bytes = cache.to_bytes().ok_or(Error::TooLarge)?;
    put(root, CACHE, &bytes, LARGEST_CACHE)
}

/// Writes nothing where the content is there already: a container with several devices gets the hook of each.
fn put(root: &RootDirectory, path: &str, content: &[u8], limit: u64) -> Result<(), Error> {
    match root.read(path, limit) {
        Ok(Some(there)) if there == content => Ok(()),
        _ => root.put_file(path, content).map_err(file("writing", path)),
    }
}
