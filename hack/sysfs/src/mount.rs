//! A kernel at work: its sysfs mounted in a machine, for as long as the value lives.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Config, MountOption, SessionACL};
use rustix::mount::UnmountFlags;
use simulated_hardware::SYSFS_BELOW_KERNEL;
use simulated_hardware::state_file::StateFile;

use crate::file_system::FileSystem;
use crate::kernel::Kernel;
use crate::rule::Rule;
use crate::server::Server;
use crate::setup::{RELEASE, Setup};

/// A machine's kernel at work. Dropping it takes its sysfs away and leaves the machine as it was rendered.
#[derive(Debug)]
pub struct Mounted {
    kernel: Arc<Kernel>,
    root: PathBuf,
    _server: Server,
}

/// Why a machine's sysfs cannot be made to live.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The machine's state file cannot be locked.
    #[error(transparent)]
    Machine(#[from] simulated_hardware::Error),
}

impl Error {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

impl Mounted {
    /// Boots the kernel of the machine below `root`: from now on `sys/` there lives. Needs the right to mount. What a
    /// kernel that was killed left behind is cleared up.
    pub fn boot(root: &Path, setup: Setup) -> Result<Self, Error> {
        let root = root.canonicalize().map_err(Error::file("find", root))?;
        // Who renders must not do so between the two places.
        let lock = StateFile::below(&root).lock()?;
        let (sys, rendered) = (root.join("sys"), root.join(SYSFS_BELOW_KERNEL));
        put_back(&sys, &rendered)?;
        modules(&root, &setup)?;
        fs::rename(&sys, &rendered).map_err(Error::file("move", &sys))?;
        fs::create_dir(&sys).map_err(Error::file("make", &sys))?;
        drop(lock);

        let kernel = Arc::new(Kernel::new(&root, rendered, setup));
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("simulated-sysfs".to_owned()),
            MountOption::DefaultPermissions,
            MountOption::NoDev,
            MountOption::NoExec,
        ];
        config.acl = SessionACL::All;
        let server = Server::start(FileSystem::new(Arc::clone(&kernel)), &sys, config);
        Ok(Self { kernel, root, _server: server.map_err(Error::file("mount", &sys))? })
    }

    /// The machine's root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// From now on operations fail or take long as the rule says.
    pub fn add_rule(&self, rule: Rule) {
        self.kernel.change_rules(|rules| rules.push(rule));
    }

    /// Takes all rules away.
    pub fn clear_rules(&self) {
        self.kernel.change_rules(Vec::clear);
    }

    /// What `modprobe` does for a driver of the setup.
    pub fn load(&self, driver: &str) -> io::Result<()> {
        Ok(self.kernel.load(driver)?)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.kernel.stop();
        let lock = StateFile::below(&self.root).lock();
        if let Err(error) = put_back(&self.root.join("sys"), &self.root.join(SYSFS_BELOW_KERNEL)) {
            eprintln!("simulated-sysfs: {error}");
        }
        drop(lock);
    }
}

/// Unmounts what is at `sys`, also if its kernel has died or is in use, and puts the rendered tree back there.
fn put_back(sys: &Path, rendered: &Path) -> Result<(), Error> {
    while rendered.is_dir() {
        match rustix::mount::unmount(sys, UnmountFlags::DETACH) {
            Ok(()) => {}
            // Nothing is mounted there any more.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
                match fs::remove_dir(sys) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::file("remove", sys)(error));
                    }
                    _ => {}
                }
                return fs::rename(rendered, sys).map_err(Error::file("move", rendered));
            }
            Err(error) => return Err(Error::file("unmount", sys)(error.into())),
        }
    }
    Ok(())
}

/// The files besides sysfs that say which modules the kernel has.
fn modules(root: &Path, setup: &Setup) -> Result<(), Error> {
    let aliases = setup.drivers.iter().flat_map(|driver| driver.ids.iter().map(|id| id.alias(&driver.module)));
    let aliases: String =
        std::iter::once("# Aliases extracted from modules themselves.\n".to_owned()).chain(aliases).collect();
    for (path, text) in [
        (format!("lib/modules/{RELEASE}/modules.alias"), aliases),
        ("proc/sys/kernel/osrelease".to_owned(), format!("{RELEASE}\n")),
    ] {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
        }
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(())
}
