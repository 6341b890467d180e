use tessera_hook::FileKind;

use super::File;
use super::search::Search;

/// The daemons' sockets, with the directory of each below one of [`RUN`].
const SOCKETS: &[(&str, &str)] = &[("nvidia-persistenced", "socket"), ("nvidia-fabricmanager", "socket")];
const RUN: &[&str] = &["/run", "/var/run"];

/// Where CUDA's multi-process service has its pipes when nobody says otherwise.
const MPS: (&str, &str) = ("/tmp", "nvidia-mps");

pub(super) fn find(search: &mut Search<'_>) -> Vec<File> {
    let mut sockets = Vec::new();
    for (directory, name) in SOCKETS {
        let found = RUN.iter().find_map(|run| {
            let path = format!("{run}/{directory}");
            let found = search.entry(&path, name).filter(|found| found.kind == FileKind::Socket)?;
            Some(search.handed_out(&found, format!("{path}/{name}")))
        });
        sockets.extend(found);
    }
    let (directory, name) = MPS;
    // Not through a link: this directory is everybody's.
    let path = format!("{directory}/{name}");
    let mps = search.resolve(&path).filter(|found| found.kind == FileKind::Directory && found.path == path);
    sockets.extend(mps.map(|found| search.handed_out(&found, path)));
    sockets
}
