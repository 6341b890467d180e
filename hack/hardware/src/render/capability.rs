//! MIG capabilities: a file in `proc/` that says which device node stands for a right, and the node.
//!
//! Who may open the node of a GPU instance may use its memory and engines, who may open that of a compute instance its
//! multiprocessors; a container needs both. The files are those of NVIDIA's driver, the numbers are not
//! (`mig/node.rs`). The list of all numbers, `driver/nvidia-caps/mig-minors`, holds only those that are given out.

use super::tree::{Content, Entry};
use crate::hardware::Hardware;
use crate::mig::{CONFIG, MONITOR};

/// Only root may read who cuts; everybody may look and use what a container was given (`DeviceFileMode`, 0400 and
/// 0444).
const MODE_OF_CONFIG: u32 = 0o400;
const MODE: u32 = 0o444;

/// None on a machine on which nothing can be cut.
pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    if !hardware.gpus.iter().any(|gpu| gpu.present && hardware.mig_table(gpu).is_ok()) {
        return Vec::new();
    }
    let mut rights = vec![
        Right { below: "mig".to_owned(), name: "config", node: CONFIG, mode: MODE_OF_CONFIG },
        Right { below: "mig".to_owned(), name: "monitor", node: MONITOR, mode: MODE },
    ];
    for gpu in hardware.gpus.iter().filter(|gpu| gpu.present) {
        for instance in &gpu.mig.gpu_instances {
            let below = format!("gpu{}/mig/gi{}", gpu.minor, instance.id);
            for own in &instance.compute_instances {
                let below = format!("{below}/ci{}", own.id);
                rights.push(Right { below, name: "access", node: own.node, mode: MODE });
            }
            rights.push(Right { below, name: "access", node: instance.node, mode: MODE });
        }
    }
    let list: String = rights.iter().map(Right::line).collect();
    let list = Entry::new("proc/driver/nvidia-caps/mig-minors", Content::Text(list));
    rights.iter().flat_map(Right::entries).chain([list]).collect()
}

struct Right {
    /// Directory below `capabilities`.
    below: String,
    name: &'static str,
    node: u32,
    mode: u32,
}

impl Right {
    fn entries(&self) -> [Entry; 2] {
        let Self { below, name, node, mode } = self;
        let text = format!("DeviceFileMinor: {node}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n");
        [
            Entry::new(format!("proc/driver/nvidia/capabilities/{below}/{name}"), Content::Text(text)),
            Entry::new(format!("dev/nvidia-caps/nvidia-cap{node}"), Content::Device(*node)),
        ]
    }

    /// The list leaves the `mig` out: `gpu0/gi1/ci0/access 13`, `config 1`.
    fn line(&self) -> String {
        let path = format!("{}/{}", self.below, self.name).replace("mig/", "");
        format!("{path} {}\n", self.node)
    }
}
