//! From the driver's files to what a container runtime is told.

use cdi::{ContainerEdits, Hook, HookName, Mount};
use tessera_hook::Arguments;

use super::LoaderCache;
use super::driver_files::{DriverFiles, Library};

/// Nobody writes to a driver's file from a container, and none of them raises privileges. A file that is mounted over
/// another on the node later must not change in the container, hence private.
const FILE: &[&str] = &["ro", "nosuid", "nodev", "rbind", "rprivate"];
const SOCKET: &[&str] = &["ro", "nosuid", "nodev", "rbind", "rprivate", "noexec"];

/// Where libraries go without a hook. NVIDIA's images have these in `LD_LIBRARY_PATH` since the days when a volume was
/// mounted there, so that in them the variable changes nothing else.
const LIBRARIES_64: &str = "/usr/local/nvidia/lib64";
const LIBRARIES_32: &str = "/usr/local/nvidia/lib";

/// Mounts, hook and environment for these files.
pub(super) fn edits(files: &DriverFiles, loader_cache: &LoaderCache) -> ContainerEdits {
    let mut edits = ContainerEdits::default();
    edits.mounts.extend(files.files.iter().map(|file| mount(&file.on_host, &file.inside, FILE)));
    edits.mounts.extend(files.sockets.iter().map(|socket| mount(&socket.on_host, &socket.inside, SOCKET)));
    match loader_cache {
        LoaderCache::Hook { path } => {
            edits.mounts.extend(files.libraries.iter().map(|one| mount(&one.file.on_host, &one.file.inside, FILE)));
            edits.hooks.push(Hook {
                hook_name: HookName::CreateContainer,
                path: path.to_string_lossy().into_owned(),
                args: arguments(files).to_args(),
                env: Vec::new(),
                timeout: None,
            });
        }
        LoaderCache::None => {
            edits.env.push(format!("LD_LIBRARY_PATH={}", search_path(&files.libraries)));
            edits.mounts.extend(files.libraries.iter().flat_map(under_every_name));
            edits.mounts.extend(files.links.iter().map(|link| mount(&link.on_host, &link.link.path, FILE)));
        }
    }
    edits.mounts.sort_by(|left, right| left.container_path.cmp(&right.container_path));
    edits.mounts.dedup_by(|later, earlier| later.container_path == earlier.container_path);
    edits
}

fn arguments(files: &DriverFiles) -> Arguments {
    let library = |one: &Library| tessera_hook::Library {
        architecture: one.architecture,
        path: one.file.inside.clone(),
        names: one.names.clone(),
    };
    Arguments {
        links: files.links.iter().map(|link| link.link.clone()).collect(),
        libraries: files.libraries.iter().map(library).collect(),
        device_files_as_given: true,
        ..Arguments::default()
    }
}

fn directory(library: &Library) -> &'static str {
    if library.is_64_bit() { LIBRARIES_64 } else { LIBRARIES_32 }
}

fn search_path(libraries: &[Library]) -> String {
    let mut directories: Vec<&str> = libraries.iter().map(directory).collect();
    // The one with the longer name is that for 64 bits.
    directories.sort_unstable_by(|left, right| right.cmp(left));
    directories.dedup();
    directories.join(":")
}

/// Real files under each name: a sandbox may show a file but not follow a link that a hook would have made.
fn under_every_name(library: &Library) -> Vec<Mount> {
    let own = library.file.inside.rsplit('/').next().unwrap_or_default().to_owned();
    let mut names = library.names.clone();
    if !names.contains(&own) {
        names.push(own);
    }
    names.iter().map(|name| mount(&library.file.on_host, &format!("{}/{name}", directory(library)), FILE)).collect()
}

fn mount(host_path: &str, container_path: &str, options: &[&str]) -> Mount {
    Mount {
        host_path: host_path.to_owned(),
        container_path: container_path.to_owned(),
        mount_type: None,
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}
