//! The kernel's files as a FUSE file system.
//!
//! Nothing is cached: each look asks the kernel's state. What may wait (writes, and the read of `driver_override`) is
//! answered from a thread of its own, so that a driver that never lets go holds up nobody but those who asked for it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenAccMode,
    OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use rustix::io::Errno as KernelError;

use crate::control;
use crate::kernel::Kernel;
use crate::tree::{Attribute, Node};

/// How long the kernel may trust an answer: not at all.
const NO_TIME: Duration = Duration::ZERO;

/// What sysfs gives as the size of every file. Also what lets writes run side by side: the kernel takes one that goes
/// beyond the end for one that makes the file longer, and those come one by one.
const PAGE: u64 = 4096;

#[derive(Debug)]
pub(crate) struct FileSystem {
    kernel: Arc<Kernel>,
    inodes: Mutex<Inodes>,
}

/// A number for each path that was ever looked up. A path that comes back has its old number.
#[derive(Debug)]
struct Inodes {
    paths: Vec<String>,
    numbers: HashMap<String, u64>,
}

/// What a path leads to.
enum Found {
    Living(Node),
    Rendered(PathBuf, fs::Metadata),
}

impl FileSystem {
    pub(crate) fn new(kernel: Arc<Kernel>) -> Self {
        // The root directory is number 1.
        let inodes = Inodes { paths: vec![String::new()], numbers: HashMap::from([(String::new(), 1)]) };
        Self { kernel, inodes: Mutex::new(inodes) }
    }

    fn inodes(&self) -> MutexGuard<'_, Inodes> {
        self.inodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, inode: INodeNo) -> Result<String, Errno> {
        let index = usize::try_from(inode.0).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| self.inodes().paths.get(index).cloned()).ok_or(Errno::ENOENT)
    }

    fn number(&self, path: &str) -> u64 {
        let mut inodes = self.inodes();
        if let Some(number) = inodes.numbers.get(path) {
            return *number;
        }
        inodes.paths.push(path.to_owned());
        let number = inodes.paths.len() as u64;
        inodes.numbers.insert(path.to_owned(), number);
        number
    }

    fn find(&self, path: &str) -> Result<Found, Errno> {
        let tree = self.kernel.tree();
        if let Some(node) = tree.node(path) {
            return Ok(Found::Living(node.clone()));
        }
        if tree.hides(path) {
            return Err(Errno::ENOENT);
        }
        let rendered = self.kernel.rendered.join(path);
        match fs::symlink_metadata(&rendered) {
            Ok(data) => Ok(Found::Rendered(rendered, data)),
            Err(error) => Err(error.into()),
        }
    }

    fn attributes(&self, path: &str) -> Result<FileAttr, Errno> {
        let (kind, perm) = match self.find(path)? {
            Found::Living(node) => shape(&node),
            Found::Rendered(_, data) => (kind(&data), (data.mode() & 0o777) as u16),
        };
        Ok(FileAttr {
            ino: INodeNo(self.number(path)),
            size: if kind == FileType::RegularFile { PAGE } else { 0 },
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        })
    }

    /// The names in a directory, those that live over those that are rendered.
    fn entries(&self, path: &str) -> BTreeMap<String, FileType> {
        let tree = self.kernel.tree();
        let rendered = fs::read_dir(self.kernel.rendered.join(path)).into_iter().flatten().flatten();
        let rendered = rendered.filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let seen = !tree.hides(&join(path, &name));
            seen.then_some((name, kind(&entry.metadata().ok()?)))
        });
        let living = tree.children(path).map(|(name, node)| (name.to_owned(), shape(node).0));
        rendered.collect::<BTreeMap<_, _>>().into_iter().chain(living).collect()
    }
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn kind(data: &fs::Metadata) -> FileType {
    match data.file_type() {
        kind if kind.is_dir() => FileType::Directory,
        kind if kind.is_symlink() => FileType::Symlink,
        _ => FileType::RegularFile,
    }
}

fn shape(node: &Node) -> (FileType, u16) {
    match node {
        Node::Directory => (FileType::Directory, 0o755),
        Node::Link(_) => (FileType::Symlink, 0o777),
        Node::Text(_) => (FileType::RegularFile, 0o444),
        Node::Attribute(attribute) if attribute.is_readable() => (FileType::RegularFile, 0o644),
        Node::Attribute(_) => (FileType::RegularFile, 0o200),
    }
}

fn refused(error: KernelError) -> Errno {
    Errno::from_i32(error.raw_os_error())
}

fn part(text: &str, offset: u64, size: u32) -> &[u8] {
    let bytes = text.as_bytes();
    let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
    &bytes[start..bytes.len().min(start + size as usize)]
}

impl Filesystem for FileSystem {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.path(parent).and_then(|directory| {
            let name = name.to_str().ok_or(Errno::ENOENT)?;
            self.attributes(&join(&directory, name))
        });
        match found {
            Ok(attributes) => reply.entry(&NO_TIME, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.path(inode).and_then(|path| self.attributes(&path)) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(error) => reply.error(error),
        }
    }

    /// A shell truncates what it writes to; sysfs takes that for nothing.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<fuser::TimeOrNow>,
        _mtime: Option<fuser::TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.path(inode).and_then(|path| self.attributes(&path)) {
            Ok(attributes) => reply.attr(&NO_TIME, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, inode: INodeNo, reply: ReplyData) {
        let target = self.path(inode).and_then(|path| match self.find(&path)? {
            Found::Living(Node::Link(target)) => Ok(PathBuf::from(target)),
            Found::Rendered(rendered, _) => Ok(fs::read_link(rendered)?),
            Found::Living(_) => Err(Errno::EINVAL),
        });
        match target {
            Ok(target) => reply.data(target.as_os_str().as_encoded_bytes()),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let found = self.path(inode).and_then(|path| self.find(&path));
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        match found {
            // As kernfs answers when there is no store or show function, whoever asks.
            Ok(Found::Living(Node::Text(_)) | Found::Rendered(..)) if writes => reply.error(Errno::EACCES),
            // Direct, so that a read ends where the text does and each write arrives as it was made; and side by side,
            // since all functions of a driver are unbound through one file, and one that waits must not stop the others.
            Ok(_) => {
                let flags = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
                reply.opened(FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.path(inode).and_then(|path| self.find(&path)) {
            Ok(Found::Living(Node::Text(text))) => reply.data(part(&text, offset, size)),
            Ok(Found::Living(Node::Attribute(Attribute::DriverOverride(address)))) => {
                let kernel = Arc::clone(&self.kernel);
                std::thread::spawn(move || match kernel.driver_override(address) {
                    Ok(text) => reply.data(part(&text, offset, size)),
                    Err(error) => reply.error(refused(error)),
                });
            }
            Ok(Found::Living(_)) => reply.error(Errno::EIO),
            Ok(Found::Rendered(path, _)) => match fs::read_to_string(path) {
                Ok(text) => reply.data(part(&text, offset, size)),
                Err(error) => reply.error(error.into()),
            },
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let attribute = match self.path(inode).and_then(|path| self.find(&path)) {
            Ok(Found::Living(Node::Attribute(attribute))) => attribute,
            Ok(_) => return reply.error(Errno::EIO),
            Err(error) => return reply.error(error),
        };
        let Ok(text) = String::from_utf8(data.to_owned()) else { return reply.error(Errno::EINVAL) };
        let kernel = Arc::clone(&self.kernel);
        std::thread::spawn(move || match store(&kernel, &attribute, &text) {
            Ok(()) => reply.written(u32::try_from(text.len()).unwrap_or(u32::MAX)),
            Err(error) => reply.error(refused(error)),
        });
    }

    fn readdir(&self, _: &Request, inode: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let path = match self.path(inode) {
            Ok(path) => path,
            Err(error) => return reply.error(error),
        };
        let own = [(".".to_owned(), FileType::Directory), ("..".to_owned(), FileType::Directory)];
        let entries = own.into_iter().chain(self.entries(&path));
        for (next, (name, kind)) in (1..).zip(entries).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            // Numbers matter to nobody here, but zero would make a reader skip the entry.
            if reply.add(INodeNo(self.number(&join(&path, &name))), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }
}

fn store(kernel: &Kernel, attribute: &Attribute, text: &str) -> Result<(), KernelError> {
    match attribute {
        Attribute::DriverOverride(address) => kernel.set_driver_override(*address, text),
        Attribute::Bind(driver) => kernel.bind(driver, text),
        Attribute::Unbind(driver) => kernel.unbind(driver, text),
        Attribute::NewId(driver) => kernel.new_id(driver, text),
        Attribute::DriversProbe => kernel.drivers_probe(text),
        Attribute::Control => control::run(kernel, text),
    }
}
