use super::File;
use super::search::Search;

/// The driver's programs that are of use in a container.
const PROGRAMS: &[&str] = &[
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-imex",
    "nvidia-imex-ctl",
    "nvidia-persistenced",
    "nvidia-smi",
    "nvidia-xconfig",
];

/// Where a shell would look.
const DIRECTORIES: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// All go to one place that every image's PATH has, wherever the node keeps them.
const IN_CONTAINERS: &str = "/usr/bin";

pub(super) fn find(search: &mut Search<'_>) -> Vec<File> {
    PROGRAMS.iter().filter_map(|name| search.first_file(DIRECTORIES, name, Some(IN_CONTAINERS))).collect()
}
