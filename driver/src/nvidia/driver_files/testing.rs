//! Driver roots of several distributions, with libraries that hold nothing but what a loader goes by.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tessera_hook::{Architecture, Cache, Entry};

use crate::Root;

pub(in crate::nvidia) const VERSION: &str = "580.65.06";

/// A machine and its driver root, which others see at `/run/nvidia/driver` or at `/`.
pub(in crate::nvidia) struct Tree {
    directory: TempDir,
    pub(in crate::nvidia) at: &'static str,
}

impl Tree {
    pub(in crate::nvidia) fn new(at: &'static str) -> Self {
        let tree = Self { directory: tempfile::tempdir().unwrap(), at };
        tree.node_file("/sys/module/nvidia/version", &format!("{VERSION}\n"));
        tree
    }

    pub(in crate::nvidia) fn node(&self) -> Root {
        Root::new(self.directory.path(), "/")
    }

    pub(in crate::nvidia) fn driver(&self) -> Root {
        Root::new(self.node().seen_by_agent(self.at), self.at)
    }

    fn place(path: PathBuf) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn path(&self, path: &str) -> PathBuf {
        Self::place(self.driver().seen_by_agent(path))
    }

    pub(in crate::nvidia) fn node_file(&self, path: &str, text: &str) -> &Self {
        fs::write(Self::place(self.node().seen_by_agent(path)), text).unwrap();
        self
    }

    pub(in crate::nvidia) fn file(&self, path: &str) -> &Self {
        fs::write(self.path(path), path).unwrap();
        self
    }

    pub(in crate::nvidia) fn link(&self, path: &str, target: &str) -> &Self {
        symlink(target, self.path(path)).unwrap();
        self
    }

    pub(in crate::nvidia) fn socket(&self, path: &str) -> &Self {
        UnixListener::bind(self.path(path)).unwrap();
        self
    }

    pub(in crate::nvidia) fn library(&self, path: &str, architecture: Architecture, soname: &str) -> &Self {
        fs::write(self.path(path), shared_object(architecture, soname)).unwrap();
        self
    }

    /// Libraries as the installer puts them into a directory, with the link of each.
    pub(in crate::nvidia) fn libraries(&self, directory: &str, architecture: Architecture, sonames: &[&str]) -> &Self {
        for soname in sonames {
            let (name, _) = soname.split_once(".so").unwrap();
            let file = format!("{name}.so.{VERSION}");
            self.library(&format!("{directory}/{file}"), architecture, soname);
            if *soname != file {
                self.link(&format!("{directory}/{soname}"), &file);
            }
        }
        self
    }

    pub(in crate::nvidia) fn cache(&self, entries: &[(&str, &str)]) -> &Self {
        let mut cache = Cache::default();
        cache.put_first(entries.iter().map(|(name, path)| Entry::new(Architecture::X86_64, name, path)));
        fs::write(self.path("/etc/ld.so.cache"), cache.to_bytes().unwrap()).unwrap();
        self
    }

    pub(in crate::nvidia) fn remove(&self, path: &str) -> &Self {
        fs::remove_file(self.driver().seen_by_agent(path)).unwrap();
        self
    }

    /// As if nothing had changed for years, and not since this was last called.
    pub(in crate::nvidia) fn aged(&self) -> &Self {
        let mut left = vec![self.directory.path().to_owned()];
        while let Some(path) = left.pop() {
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
            if data.is_dir() || data.is_file() {
                let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
                fs::File::open(&path).unwrap().set_modified(before).unwrap();
            }
        }
        self
    }
}

const X86_64: &str = "/usr/lib/x86_64-linux-gnu";

/// What compute needs, and two libraries that only others of the driver open.
pub(in crate::nvidia) const COMPUTE: &[&str] = &[
    "libcuda.so.1",
    "libcudadebugger.so.1",
    "libnvidia-allocator.so.1",
    "libnvidia-glcore.so.580.65.06",
    "libnvidia-ml.so.1",
    "libnvidia-opticalflow.so.1",
    "libnvidia-ptxjitcompiler.so.1",
];

/// Ubuntu with the driver of its own packages, for 32-bit programs too.
pub(in crate::nvidia) fn ubuntu() -> Tree {
    let tree = Tree::new("/");
    tree.libraries(X86_64, Architecture::X86_64, COMPUTE)
        .libraries(X86_64, Architecture::X86_64, &["libGLX_nvidia.so.0"])
        .library(&format!("{X86_64}/libnvidia-egl-gbm.so.1.1.2"), Architecture::X86_64, "libnvidia-egl-gbm.so.1")
        .link(&format!("{X86_64}/libnvidia-egl-gbm.so.1"), "libnvidia-egl-gbm.so.1.1.2")
        .libraries(&format!("{X86_64}/vdpau"), Architecture::X86_64, &["libvdpau_nvidia.so.1"])
        .libraries("/usr/lib/i386-linux-gnu", Architecture::I386, &["libcuda.so.1", "libnvidia-ml.so.1"])
        .library(&format!("{X86_64}/libcuda.so.550.54.14"), Architecture::X86_64, "libcuda.so.1")
        .library(&format!("{X86_64}/libother.so.1"), Architecture::X86_64, "libother.so.1")
        .file(&format!("{X86_64}/libnvidia-broken.so.{VERSION}"))
        .link("/lib", "usr/lib")
        .link("/bin", "usr/bin")
        .cache(&[
            ("libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.1"),
            ("libother.so.1", "/lib/x86_64-linux-gnu/libother.so.1"),
        ])
        .library("/usr/lib/xorg/modules/drivers/nvidia_drv.so", Architecture::X86_64, "nvidia_drv.so")
        .library(
            &format!("/usr/lib/xorg/modules/extensions/libglxserver_nvidia.so.{VERSION}"),
            Architecture::X86_64,
            "libglxserver_nvidia.so",
        )
        .file("/usr/bin/nvidia-smi")
        .file("/usr/bin/nvidia-persistenced")
        .file("/usr/lib/firmware/nvidia/580.65.06/gsp_ga10x.bin")
        .file("/usr/lib/firmware/nvidia/580.65.06/gsp_tu10x.bin")
        .file("/usr/lib/firmware/nvidia/550.54.14/gsp_ga10x.bin")
        .file("/usr/share/glvnd/egl_vendor.d/10_nvidia.json")
        .file("/usr/share/nvidia/nvoptix.bin")
        .file("/etc/vulkan/icd.d/nvidia_icd.json")
        .file("/etc/OpenCL/vendors/nvidia.icd")
        .socket("/run/nvidia-persistenced/socket")
        .link("/var/run", "/run");
    tree
}

/// A shared library with a loadable segment, at another address than its offset, a dynamic section and its name.
pub(in crate::nvidia) fn shared_object(architecture: Architecture, soname: &str) -> Vec<u8> {
    const ADDRESS: u64 = 0x1000;
    let (wide, machine) = match architecture {
        Architecture::X86_64 => (true, 62_u16),
        Architecture::I386 => (false, 3),
        Architecture::Aarch64 => (true, 183),
        Architecture::ArmHardFloat => (false, 40),
    };
    // The width of an address, and the sizes of the headers and of an entry of the dynamic section.
    let (word, header, segment) = if wide { (8, 64, 56) } else { (4, 52, 32) };
    let dynamic = header + 2 * segment;
    let strings = dynamic + 3 * 2 * word;
    let text = [b"\0".as_slice(), soname.as_bytes(), b"\0"].concat();
    let size = strings + text.len();
    let word = |value: u64| value.to_le_bytes()[..word].to_vec();
    let number = |value: usize| word(u64::try_from(value).unwrap());

    let mut bytes = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    bytes.resize(16, 0);
    bytes.extend([3_u16, machine].map(u16::to_le_bytes).concat());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([word(0), number(header), word(0)].concat());
    bytes.extend(0_u32.to_le_bytes());
    let sizes = [header, segment, 2, 0, 0, 0].map(|size| u16::try_from(size).unwrap().to_le_bytes());
    bytes.extend(sizes.concat());
    for (kind, offset, length) in [(1_u32, 0, size), (2, dynamic, strings - dynamic)] {
        let address = word(ADDRESS + u64::try_from(offset).unwrap());
        let flags = 4_u32.to_le_bytes().to_vec();
        let before = if wide { flags.clone() } else { Vec::new() };
        let after = if wide { Vec::new() } else { flags };
        let kind = kind.to_le_bytes().to_vec();
        let places = [number(offset), address.clone(), address, number(length), number(length)].concat();
        bytes.extend([kind, before, places, after, word(8)].concat());
    }
    for (tag, value) in [(14, 1), (5, ADDRESS + u64::try_from(strings).unwrap()), (0, 0)] {
        bytes.extend([word(tag), word(value)].concat());
    }
    bytes.extend(text);
    bytes
}
