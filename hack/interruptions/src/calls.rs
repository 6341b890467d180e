//! The system calls that change files.

use nix::libc;

use crate::Change;

/// A system call that may change files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: libc::c_long,
    pub(crate) name: &'static str,
    pub(crate) change: Change,
    pub(crate) places: &'static [Place],
}

/// Where a call says what it changes. The numbers are those of its arguments, from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// A path.
    Path(usize),
    /// A directory's descriptor and a path from there; the descriptor itself where the path is empty or null.
    At(usize, usize),
    /// A file's descriptor.
    Descriptor(usize),
}

/// When a call changes nothing although it could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    /// It always does.
    Always,
    /// With these flags (see [`WRITING`]) in an argument.
    Opened(usize),
    /// With these flags at the start of the structure that an argument points to.
    OpenedAs(usize),
    /// If the mapping of a file is shared and can be written.
    Shared,
}

/// The flags of open(2) that change a file or lead to it.
pub(crate) const WRITING: u64 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;

impl Call {
    /// The call with a number, if it may change files.
    pub(crate) fn of(number: libc::c_long) -> Option<Self> {
        let row = CALLS.iter().find(|(known, ..)| *known == number)?;
        let (number, name, change, places) = *row;
        Some(Self { number, name, change, places })
    }

    /// When it does.
    pub(crate) fn only(&self) -> Only {
        match self.number {
            libc::SYS_open => Only::Opened(1),
            libc::SYS_openat => Only::Opened(2),
            libc::SYS_openat2 => Only::OpenedAs(2),
            libc::SYS_mmap => Only::Shared,
            _ => Only::Always,
        }
    }
}

use Change::{Attributes, Hidden, Make, Mount, Name, Open, Remove, Sync, Write};
use Place::{At, Descriptor, Path};

/// By sort of change. The whole of syscalls(2) was gone through for it, as of Linux 6.18.
const CALLS: &[(libc::c_long, &str, Change, &[Place])] = &[
    (libc::SYS_open, "open", Open, &[Path(0)]),
    (libc::SYS_openat, "openat", Open, &[At(0, 1)]),
    (libc::SYS_openat2, "openat2", Open, &[At(0, 1)]),
    (libc::SYS_creat, "creat", Open, &[Path(0)]),
    (libc::SYS_write, "write", Write, &[Descriptor(0)]),
    (libc::SYS_pwrite64, "pwrite64", Write, &[Descriptor(0)]),
    (libc::SYS_writev, "writev", Write, &[Descriptor(0)]),
    (libc::SYS_pwritev, "pwritev", Write, &[Descriptor(0)]),
    (libc::SYS_pwritev2, "pwritev2", Write, &[Descriptor(0)]),
    (libc::SYS_sendfile, "sendfile", Write, &[Descriptor(0)]),
    (libc::SYS_splice, "splice", Write, &[Descriptor(2)]),
    (libc::SYS_copy_file_range, "copy_file_range", Write, &[Descriptor(2)]),
    (libc::SYS_truncate, "truncate", Write, &[Path(0)]),
    (libc::SYS_ftruncate, "ftruncate", Write, &[Descriptor(0)]),
    (libc::SYS_fallocate, "fallocate", Write, &[Descriptor(0)]),
    (libc::SYS_mmap, "mmap", Write, &[Descriptor(4)]),
    (libc::SYS_ioctl, "ioctl", Write, &[Descriptor(0)]),
    (libc::SYS_mkdir, "mkdir", Make, &[Path(0)]),
    (libc::SYS_mkdirat, "mkdirat", Make, &[At(0, 1)]),
    (libc::SYS_mknod, "mknod", Make, &[Path(0)]),
    (libc::SYS_mknodat, "mknodat", Make, &[At(0, 1)]),
    (libc::SYS_rename, "rename", Name, &[Path(0), Path(1)]),
    (libc::SYS_renameat, "renameat", Name, &[At(0, 1), At(2, 3)]),
    (libc::SYS_renameat2, "renameat2", Name, &[At(0, 1), At(2, 3)]),
    (libc::SYS_link, "link", Name, &[Path(0), Path(1)]),
    (libc::SYS_linkat, "linkat", Name, &[At(0, 1), At(2, 3)]),
    (libc::SYS_symlink, "symlink", Name, &[Path(1)]),
    (libc::SYS_symlinkat, "symlinkat", Name, &[At(1, 2)]),
    (libc::SYS_unlink, "unlink", Remove, &[Path(0)]),
    (libc::SYS_unlinkat, "unlinkat", Remove, &[At(0, 1)]),
    (libc::SYS_rmdir, "rmdir", Remove, &[Path(0)]),
    (libc::SYS_chmod, "chmod", Attributes, &[Path(0)]),
    (libc::SYS_fchmod, "fchmod", Attributes, &[Descriptor(0)]),
    (libc::SYS_fchmodat, "fchmodat", Attributes, &[At(0, 1)]),
    (libc::SYS_fchmodat2, "fchmodat2", Attributes, &[At(0, 1)]),
    (libc::SYS_chown, "chown", Attributes, &[Path(0)]),
    (libc::SYS_lchown, "lchown", Attributes, &[Path(0)]),
    (libc::SYS_fchown, "fchown", Attributes, &[Descriptor(0)]),
    (libc::SYS_fchownat, "fchownat", Attributes, &[At(0, 1)]),
    (libc::SYS_utime, "utime", Attributes, &[Path(0)]),
    (libc::SYS_utimes, "utimes", Attributes, &[Path(0)]),
    (libc::SYS_futimesat, "futimesat", Attributes, &[At(0, 1)]),
    (libc::SYS_utimensat, "utimensat", Attributes, &[At(0, 1)]),
    (libc::SYS_setxattr, "setxattr", Attributes, &[Path(0)]),
    (libc::SYS_lsetxattr, "lsetxattr", Attributes, &[Path(0)]),
    (libc::SYS_fsetxattr, "fsetxattr", Attributes, &[Descriptor(0)]),
    (libc::SYS_removexattr, "removexattr", Attributes, &[Path(0)]),
    (libc::SYS_lremovexattr, "lremovexattr", Attributes, &[Path(0)]),
    (libc::SYS_fremovexattr, "fremovexattr", Attributes, &[Descriptor(0)]),
    (libc::SYS_fsync, "fsync", Sync, &[Descriptor(0)]),
    (libc::SYS_fdatasync, "fdatasync", Sync, &[Descriptor(0)]),
    (libc::SYS_syncfs, "syncfs", Sync, &[Descriptor(0)]),
    (libc::SYS_mount, "mount", Mount, &[Path(1)]),
    (libc::SYS_umount2, "umount2", Mount, &[Path(0)]),
    (libc::SYS_move_mount, "move_mount", Mount, &[At(0, 1), At(2, 3)]),
    (libc::SYS_mount_setattr, "mount_setattr", Mount, &[At(0, 1)]),
    (libc::SYS_io_uring_enter, "io_uring_enter", Hidden, &[]),
];
