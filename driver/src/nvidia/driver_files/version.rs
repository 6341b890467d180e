use std::fs;

use crate::Root;

/// The version of the loaded kernel module, as the driver's files spell it ("535.54.03"). `None` where no module is
/// loaded, or where it does not tell.
pub(in crate::nvidia) fn loaded(node: &Root) -> Option<String> {
    let read = |path: &str| fs::read_to_string(node.seen_by_agent(path)).ok();
    let module = read("/sys/module/nvidia/version").filter(|text| is_version(text.trim()));
    module
        .map(|text| text.trim().to_owned())
        // "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build …"
        .or_else(|| {
            read("/proc/driver/nvidia/version")?.split_whitespace().find(|word| is_version(word)).map(str::to_owned)
        })
}

/// Numbers between dots, at least two.
pub(super) fn is_version(text: &str) -> bool {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.contains('.') && text.split('.').all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_tells_in_one_place_or_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let node = Root::new(directory.path(), "/");
        let write = |path: &str, text: &str| {
            let path = node.seen_by_agent(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(loaded(&node), None);
        let lines =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.54.03  Release Build\nGCC version: 12.3.0\n";
        write("/proc/driver/nvidia/version", lines);
        assert_eq!(loaded(&node).as_deref(), Some("535.54.03"));
        write("/sys/module/nvidia/version", "580.65.06\n");
        assert_eq!(loaded(&node).as_deref(), Some("580.65.06"));
        write("/sys/module/nvidia/version", "unknown\n");
        assert_eq!(loaded(&node).as_deref(), Some("535.54.03"));
    }
}
