//! What the node sees of the host's files: everything, but on directories of its own wherever something is written.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change, mount_remount};

use crate::layout::{INSIDE, RunDirectory};
use crate::record::Bind;

/// The directories that belong to the cluster: what is made below them never reaches the host.
const OWN: &[&str] = &["/dev", "/etc", "/run", "/var/lib", "/var/log"];

/// Opens the sources of the binds before anything is mounted over them.
pub(super) fn open_sources(binds: &[Bind]) -> Result<Vec<(OwnedFd, &Bind)>> {
    binds.iter().map(|bind| Ok((open_path(&bind.source)?, bind))).collect()
}

pub(super) fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .with_context(|| format!("opening {}", path.display()))
}

/// Gives the calling process mounts of its own, to be called in a new mount namespace.
pub(super) fn isolate(directory: &RunDirectory) -> Result<()> {
    // First of all, or every mount below would appear on the host.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("making mounts private")?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", plain, None).context("mounting /proc")?;

    let own = open_path(directory.path())?;
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755"))
        .context("mounting /run")?;
    bind(&own, Path::new(INSIDE))?;
    for name in ["var-lib/kubelet", "var-lib/cni", "var-log/pods", "var-log/containers", "etc/upper", "etc/work", "tmp"]
    {
        make_directory(&Path::new(INSIDE).join(name))?;
    }
    bind(&open_path(&Path::new(INSIDE).join("var-lib"))?, Path::new("/var/lib"))?;
    bind(&open_path(&Path::new(INSIDE).join("var-log"))?, Path::new("/var/log"))?;
    overlay_etc()?;
    make_directory(Path::new("/etc/cdi"))?;
    make_directory(Path::new("/run/cdi"))
}

/// The host's /etc, with the cluster's changes on top: programs need what is in there, and the host must not see /etc/cdi.
fn overlay_etc() -> Result<()> {
    let options = CString::new(format!("lowerdir=/etc,upperdir={INSIDE}/etc/upper,workdir={INSIDE}/etc/work"))?;
    mount("overlay", "/etc", "overlay", MountFlags::empty(), Some(options.as_c_str())).with_context(|| {
        format!("mounting an overlay on /etc (is the file system of {} an overlay itself?)", crate::layout::RUN_ROOT)
    })
}

/// Makes `source` appear at `target`.
pub(super) fn bind(source: &OwnedFd, target: &Path) -> Result<()> {
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", source.as_raw_fd()));
    prepare_target(&by_descriptor, target)?;
    mount_bind_recursive(&by_descriptor, target).with_context(|| format!("binding {}", target.display()))
}

fn prepare_target(source: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    if !OWN.iter().any(|own| target.starts_with(own)) {
        bail!(
            "bind target {}: does not exist, and making it would change the host; use one below {}",
            target.display(),
            OWN.join(", ")
        );
    }
    if source.is_dir() {
        return make_directory(target);
    }
    if let Some(parent) = target.parent() {
        make_directory(parent)?;
    }
    fs::write(target, "").with_context(|| format!("making {}", target.display()))
}

/// Makes the host's root file system read-only for the node, but for `/tmp`. To be called when every bind is made, as
/// later ones would be read-only too.
pub(super) fn protect_host() -> Result<()> {
    mount_bind_recursive("/tmp", "/tmp").context("keeping /tmp writable")?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "").context("making / read-only")
}

/// The kubelet and the runtime expect to pass mounts on to their containers.
pub(super) fn share() -> Result<()> {
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).context("sharing mounts")
}

pub(super) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))
}
