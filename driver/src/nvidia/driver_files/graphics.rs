//! What graphics opens by path rather than by name.

use tessera_hook::{FileKind, Link};

use super::search::Search;
use super::{File, FileLink, Library, elf};

/// Directories of X's modules, on Debian, Red Hat and where only X 1.20 and older look.
const X_DRIVERS: &[&str] =
    &["/usr/lib/xorg/modules/drivers", "/usr/lib64/xorg/modules/drivers", "/usr/lib/x86_64-linux-gnu/nvidia/xorg"];
const X_EXTENSIONS: &[&str] = &[
    "/usr/lib/xorg/modules/extensions",
    "/usr/lib64/xorg/modules/extensions",
    "/usr/lib/x86_64-linux-gnu/nvidia/xorg",
];

#[derive(Default)]
pub(super) struct Graphics {
    pub(super) files: Vec<File>,
    pub(super) links: Vec<FileLink>,
}

pub(super) fn find(search: &mut Search<'_>, version: &str, libraries: &[Library]) -> Graphics {
    let mut found = Graphics::default();
    found.x_modules(search, version);
    for library in
        libraries.iter().filter(|library| library.names.iter().any(|name| name == "libnvidia-allocator.so.1"))
    {
        found.gbm(library);
    }
    let mut directories: Vec<&str> = libraries.iter().map(|library| directory(&library.file.inside)).collect();
    directories.dedup();
    for directory in directories {
        found.vdpau(search, directory, version);
    }
    found
}

impl Graphics {
    fn x_modules(&mut self, search: &mut Search<'_>, version: &str) {
        self.files.extend(search.first_file(X_DRIVERS, "nvidia_drv.so", None));
        let extension = format!("libglxserver_nvidia.so.{version}");
        if let Some(file) = search.first_file(X_EXTENSIONS, &extension, None) {
            self.name(&file, "libglxserver_nvidia.so");
            self.files.push(file);
        }
    }

    /// Mesa's buffer management looks for its backend in a directory beside the libraries.
    fn gbm(&mut self, allocator: &Library) {
        let path = format!("{}/gbm/nvidia-drm_gbm.so", directory(&allocator.file.inside));
        let target = format!("../{}", file_name(&allocator.file.inside));
        self.links.push(FileLink { link: Link { target, path }, on_host: allocator.file.on_host.clone() });
    }

    /// The library of VDPAU opens its backends in a directory of their own.
    fn vdpau(&mut self, search: &mut Search<'_>, directory: &str, version: &str) {
        let name = format!("libvdpau_nvidia.so.{version}");
        let directory = format!("{directory}/vdpau");
        let Some(found) = search.entry(&directory, &name).filter(|found| found.kind == FileKind::Regular) else {
            return;
        };
        let file = search.handed_out(&found, format!("{directory}/{name}"));
        let soname = search.open(&found.path).and_then(elf::shared_object).and_then(|object| object.soname);
        if let Some(soname) = soname.filter(|soname| *soname != name && !soname.contains('/')) {
            self.name(&file, &soname);
        }
        self.files.push(file);
    }

    /// Another name beside the file.
    fn name(&mut self, file: &File, name: &str) {
        let link =
            Link { target: file_name(&file.inside).to_owned(), path: format!("{}/{name}", directory(&file.inside)) };
        self.links.push(FileLink { link, on_host: file.on_host.clone() });
    }
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}
