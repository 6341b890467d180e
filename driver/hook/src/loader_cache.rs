//! The loader's cache of glibc, `/etc/ld.so.cache`: which file has a library of a given name.
//!
//! The format is that of glibc's `elf/dl-cache.h` and `elf/cache.c`. It is in the byte order of the machine.
//!
//! ```text
//! old, before glibc 2.2, and in front of the new one until 2.32:
//!   "ld.so-1.7.0"  pad  count  { flags  name  path } * count
//! new, at the next multiple of 8:
//!   "glibc-ld.so.cache"  "1.1"  count  size of strings  byte order  3 bytes  offset of extensions  12 bytes
//!   { flags  name  path  OS version  hardware capabilities } * count
//!   strings, each ended by a zero byte
//! extensions, since 2.33, at a multiple of 4:
//!   magic  count  { tag  flags  offset  size } * count
//! ```

mod architecture;
mod order;
mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::ffi::{OsStr, OsString};

pub use architecture::Architecture;
pub use parse::Damaged;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
/// Magic and padding, then the count.
const OLD_HEADER: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEADER: usize = 48;
const NEW_ENTRY: usize = 24;
/// The new header starts at a multiple of its alignment.
const NEW_ALIGNMENT: usize = 8;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const EXTENSION_SECTION: usize = 16;
/// The section with the names of the subdirectories of `glibc-hwcaps`: an array of offsets of strings.
const EXTENSION_HWCAPS: u32 = 1;

/// What a loader's cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    /// In the order in which the loader wants them: it searches by halving.
    entries: Vec<Entry>,
    /// The subdirectories of `glibc-hwcaps`; entries refer to them by number.
    hwcaps: Vec<OsString>,
}

/// Where a library is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    flags: u32,
    name: OsString,
    path: OsString,
    os_version: u32,
    hwcap: u64,
}

impl Entry {
    /// A library under one of its names.
    pub fn new(architecture: Architecture, name: &str, path: &str) -> Self {
        Self { flags: architecture.flags(), name: name.into(), path: path.into(), os_version: 0, hwcap: 0 }
    }

    /// The name that programs ask for.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The file.
    pub fn path(&self) -> &OsStr {
        &self.path
    }

    /// Whose loader takes it; `None` for one that this crate does not know.
    pub fn architecture(&self) -> Option<Architecture> {
        Architecture::of_flags(self.flags)
    }
}

impl Cache {
    /// The entries in the loader's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds entries that are found before what is there of the same name. One that is there already moves.
    pub fn put_first(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let mut all: Vec<Entry> = Vec::new();
        for entry in entries {
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
        self.entries.retain(|there| !all.contains(there));
        all.append(&mut self.entries);
        // A stable sort: of equal names, the first stays the first.
        all.sort_by(order::of_entries);
        self.entries = all;
    }
}
