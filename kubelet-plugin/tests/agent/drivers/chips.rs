//! TPU chips of generation v4 as the kernel shows them, below the root of a node.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// The chips of a host.
pub(super) struct Chips {
    root: PathBuf,
}

impl Chips {
    /// Plugs them in: each with Google's driver, which makes it `/dev/accel<n>`.
    pub(super) fn plug_in(root: &Path, number: usize) -> Self {
        let chips = Self { root: root.to_owned() };
        (0..number).for_each(|chip| chips.add(chip));
        chips
    }

    /// Pulls one out.
    pub(super) fn pull_out(&self, chip: usize) {
        fs::remove_file(self.on_the_bus(chip)).unwrap();
        fs::remove_dir_all(self.directory(chip)).unwrap();
        fs::remove_file(self.node(chip)).unwrap();
    }

    /// Puts back one that was pulled out.
    pub(super) fn plug_back(&self, chip: usize) {
        self.add(chip);
    }

    fn add(&self, chip: usize) {
        let directory = self.directory(chip);
        fs::create_dir_all(directory.join(format!("accel/accel{chip}"))).unwrap();
        for (name, content) in [("vendor", "0x1ae0"), ("device", "0x005e"), ("class", "0x120000"), ("numa_node", "0")] {
            fs::write(directory.join(name), format!("{content}\n")).unwrap();
        }
        let drivers = self.root.join("sys/bus/pci/drivers/gasket");
        fs::create_dir_all(&drivers).unwrap();
        symlink(&drivers, directory.join("driver")).unwrap();
        fs::create_dir_all(self.root.join("dev")).unwrap();
        fs::write(self.node(chip), "").unwrap();
        // Last, as a look may come at any time.
        let bus = self.on_the_bus(chip);
        fs::create_dir_all(bus.parent().unwrap()).unwrap();
        symlink(&directory, bus).unwrap();
    }

    fn directory(&self, chip: usize) -> PathBuf {
        self.root.join(format!("sys/devices/pci0000:f0/0000:f0:{chip:02x}.0"))
    }

    fn on_the_bus(&self, chip: usize) -> PathBuf {
        self.root.join(format!("sys/bus/pci/devices/0000:f0:{chip:02x}.0"))
    }

    fn node(&self, chip: usize) -> PathBuf {
        self.root.join(format!("dev/accel{chip}"))
    }
}
