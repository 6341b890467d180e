use std::fs;

use tessera_hook::FileKind;

use super::File;
use super::search::Search;
use crate::Root;

/// The firmware of the GPUs' system processors, one file a family: `gsp_ga10x.bin`. In the first of the directories that
/// the kernel would take firmware from (`Documentation/driver-api/firmware/fw_search_path.rst`).
pub(super) fn find(search: &mut Search<'_>, node: &Root, version: &str) -> Vec<File> {
    let line = |path: &str| fs::read_to_string(node.seen_by_agent(path)).unwrap_or_default().trim().to_owned();
    let mut directories = vec!["/lib/firmware/updates".to_owned(), "/lib/firmware".to_owned()];
    let release = line("/proc/sys/kernel/osrelease");
    // A name of a directory, not a way to another.
    if !release.is_empty() && !release.contains('/') {
        directories.insert(1, format!("/lib/firmware/{release}"));
        directories.insert(0, format!("/lib/firmware/updates/{release}"));
    }
    // A driver container has the kernel look below its root, by the path that the host has for that.
    let configured = line("/sys/module/firmware_class/parameters/path");
    if let Some(inside) = configured.strip_prefix(search.seen_by_runtime().trim_end_matches('/'))
        && inside.starts_with('/')
    {
        directories.insert(0, inside.trim_end_matches('/').to_owned());
    }
    directories
        .iter()
        .map(|directory| below(search, &format!("{directory}/nvidia/{version}")))
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

fn below(search: &mut Search<'_>, directory: &str) -> Vec<File> {
    let names = search.names(directory);
    let firmware = names.iter().filter(|name| name.starts_with("gsp") && name.ends_with(".bin"));
    firmware
        .filter_map(|name| {
            let found = search.entry(directory, name).filter(|found| found.kind == FileKind::Regular)?;
            Some(search.handed_out(&found, format!("{directory}/{name}")))
        })
        .collect()
}
