use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::{Document, FileName, Invalid, Spec, Undocumentable};

/// What the names of our unfinished files start and end with. A runtime reads `*.json` and `*.yaml` only.
const UNFINISHED: (&str, &str) = (".tessera-", ".tmp");

/// Runtimes run as root, but people who look should see what is there.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// The directory of dynamic specs, usually `/var/run/cdi`. It may vanish and come back while this is held.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// Why a spec could not be written, read, listed or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused. Worth another try: the disk may have been full, or the directory read-only for a moment.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was tried, for instance `writing`.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The spec is one that no runtime would take; it stays so.
    #[error("CDI spec {}: {source}", path.display())]
    Invalid {
        /// The file that was to be written, or was read.
        path: PathBuf,
        /// What is wrong with it.
        source: Invalid,
    },
    /// The file holds no spec; it stays so.
    #[error("CDI spec {}: {source}", path.display())]
    Format {
        /// The file that was to be written, or was read.
        path: PathBuf,
        /// What is wrong with it, and where.
        source: serde_json::Error,
    },
}

/// For `map_err`: says what was tried and on what.
fn io_error<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source: source.into() }
}

impl Directory {
    /// Makes the directory, with mode 0755, if it is not there.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = Self { path: path.into() };
        directory.handle()?;
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the spec into the file, in place of what was there. When this succeeds the spec outlives a crash; when it
    /// fails, the file holds what it held before or the whole of the new spec. A runtime never sees a part of one.
    pub fn write(&self, name: &FileName, spec: &Spec) -> Result<(), Error> {
        let document = spec.document().map_err(|error| match error {
            Undocumentable::Invalid(source) => Error::Invalid { path: self.path_of(name), source },
            Undocumentable::Format(source) => Error::Format { path: self.path_of(name), source },
        })?;
        self.write_document(name, &document)
    }

    /// The same for a spec that is at hand as text.
    pub fn write_document(&self, name: &FileName, document: &Document) -> Result<(), Error> {
        let target = self.path_of(name);
        let directory = self.handle()?;
        let (unfinished, mut file) = self.create_unfinished(&directory)?;
        let written = complete(&mut file, document, &target).and_then(|()| {
            let renamed = rustix::fs::renameat(&directory, &unfinished, &directory, name.as_str());
            renamed.map_err(io_error("renaming to", &target))
        });
        if written.is_err() {
            // Best effort: `sweep` finds it again.
            let _ = rustix::fs::unlinkat(&directory, &unfinished, AtFlags::empty());
        }
        written?;
        self.sync(&directory)
    }

    /// The spec in the file; `None` if there is no file.
    pub fn read(&self, name: &FileName) -> Result<Option<Spec>, Error> {
        let path = self.path_of(name);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(io_error("reading", &path))?,
        };
        let spec: Spec =
            serde_json::from_slice(&text).map_err(|source| Error::Format { path: path.clone(), source })?;
        spec.validate().map_err(|source| Error::Invalid { path, source })?;
        Ok(Some(spec))
    }

    /// Whether the file is there and says what the document says.
    pub fn holds(&self, name: &FileName, document: &Document) -> bool {
        let path = self.path_of(name);
        let text = document.as_str().as_bytes();
        // What is there as it was written is seen by one read; what is not may be another spelling of it.
        let mut found = vec![0; text.len() + 2];
        let length = File::open(&path).and_then(|mut file| file.read(&mut found));
        let is_same = length.is_ok_and(|length| found[..length].strip_suffix(b"\n") == Some(text));
        is_same || fs::read(path).is_ok_and(|text| document.says(&text))
    }

    /// Removes the file. Says whether it was there; it is no error if not.
    pub fn remove(&self, name: &FileName) -> Result<bool, Error> {
        let directory = self.handle()?;
        match rustix::fs::unlinkat(&directory, name.as_str(), AtFlags::empty()) {
            Ok(()) => self.sync(&directory).map(|()| true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(io_error("removing", &self.path_of(name))(error)),
        }
    }

    /// The spec files whose names start with `prefix`, in the order of their names.
    pub fn list(&self, prefix: &str) -> Result<Vec<FileName>, Error> {
        let mut names: Vec<FileName> = self.entries()?.into_iter().filter_map(|name| name.try_into().ok()).collect();
        names.retain(|name| name.as_str().starts_with(prefix));
        names.sort();
        Ok(names)
    }

    /// Removes what a crash in the middle of [`Directory::write`] left behind, and says how many files that were.
    /// For a time when no other process writes here by means of this crate: a file that is being written looks the
    /// same.
    pub fn sweep(&self) -> Result<usize, Error> {
        let directory = self.handle()?;
        let mut entries = self.entries()?;
        entries.retain(|name| name.starts_with(UNFINISHED.0) && name.ends_with(UNFINISHED.1));
        for name in &entries {
            match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(io_error("removing", &self.path.join(name))(error)),
            }
        }
        Ok(entries.len())
    }

    fn path_of(&self, name: &FileName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Opened for each use, since a handle that is kept would go on naming a directory that was deleted.
    fn handle(&self) -> Result<File, Error> {
        let open = || rustix::fs::open(&self.path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let handle = match open() {
            Err(Errno::NOENT) => {
                self.make().map_err(io_error("making the directory", &self.path))?;
                open()
            }
            result => result,
        };
        handle.map(File::from).map_err(io_error("opening", &self.path))
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.path)?;
        // The mode above is subject to the umask, this one is not.
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755))
    }

    /// A new file with a name that no one else has. After a crash the names of the last run may still be taken, and in
    /// a container the process id is the same each time.
    fn create_unfinished(&self, directory: &File) -> Result<(String, File), Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{}{}-{number}{}", UNFINISHED.0, process::id(), UNFINISHED.1);
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            match rustix::fs::openat(directory, &name, flags, MODE) {
                Ok(file) => return Ok((name, file.into())),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error("creating", &self.path.join(name))(error)),
            }
        }
    }

    /// Makes the names themselves survive a crash.
    fn sync(&self, directory: &File) -> Result<(), Error> {
        rustix::fs::fsync(directory).map_err(io_error("syncing", &self.path))
    }

    /// The names of all entries that are text; ours are.
    fn entries(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(io_error("listing", &self.path))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("listing", &self.path))?.file_name();
            names.extend(name.into_string());
        }
        Ok(names)
    }
}

/// Fills the file so that it may take its name. Syncs it: otherwise a crash may leave the name on an empty file.
fn complete(file: &mut File, document: &Document, target: &Path) -> Result<(), Error> {
    let line = [document.as_str(), "\n"].concat();
    file.write_all(line.as_bytes()).map_err(io_error("writing", target))?;
    // The mode at creation is subject to the umask, this one is not.
    rustix::fs::fchmod(&*file, MODE).map_err(io_error("setting the mode of", target))?;
    rustix::fs::fsync(&*file).map_err(io_error("syncing", target))
}
