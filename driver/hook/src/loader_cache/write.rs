use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::parse::BYTE_ORDER;
use super::{Cache, EXTENSION_HWCAPS, EXTENSION_MAGIC, EXTENSION_SECTION, NEW_ENTRY, NEW_HEADER, NEW_MAGIC};

impl Cache {
    /// The cache in the new format, which every loader since glibc 2.2 reads. Equal caches give equal bytes. `None`
    /// where there is more than 32 bits can count.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut strings = Strings { start: NEW_HEADER + self.entries.len() * NEW_ENTRY, ..Strings::default() };
        let mut entries = Vec::with_capacity(self.entries.len() * NEW_ENTRY);
        for entry in &self.entries {
            entries.extend(entry.flags.to_ne_bytes());
            entries.extend(strings.offset(&entry.name)?.to_ne_bytes());
            entries.extend(strings.offset(&entry.path)?.to_ne_bytes());
            entries.extend(entry.os_version.to_ne_bytes());
            entries.extend(entry.hwcap.to_ne_bytes());
        }
        let hwcaps = self.hwcaps.iter().map(|name| strings.offset(name)).collect::<Option<Vec<u32>>>()?;
        let length = u32::try_from(strings.bytes.len()).ok()?;
        let extensions = (strings.start + strings.bytes.len()).next_multiple_of(4);

        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend(u32::try_from(self.entries.len()).ok()?.to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend([BYTE_ORDER, 0, 0, 0]);
        bytes.extend(if hwcaps.is_empty() { 0 } else { u32::try_from(extensions).ok()? }.to_ne_bytes());
        bytes.resize(NEW_HEADER, 0);
        bytes.extend(entries);
        bytes.extend(strings.bytes);
        if !hwcaps.is_empty() {
            bytes.resize(extensions, 0);
            let array = u32::try_from(extensions + 8 + EXTENSION_SECTION).ok()?;
            let size = u32::try_from(hwcaps.len() * 4).ok()?;
            let words = [EXTENSION_MAGIC, 1, EXTENSION_HWCAPS, 0, array, size];
            bytes.extend(words.into_iter().chain(hwcaps).flat_map(u32::to_ne_bytes));
        }
        Some(bytes)
    }
}

/// The strings of the cache, each once.
#[derive(Default)]
struct Strings<'a> {
    /// Where they start in the file.
    start: usize,
    bytes: Vec<u8>,
    known: HashMap<&'a OsStr, u32>,
}

impl<'a> Strings<'a> {
    fn offset(&mut self, string: &'a OsStr) -> Option<u32> {
        if let Some(known) = self.known.get(string) {
            return Some(*known);
        }
        let offset = u32::try_from(self.start + self.bytes.len()).ok()?;
        self.bytes.extend(string.as_bytes());
        self.bytes.push(0);
        self.known.insert(string, offset);
        Some(offset)
    }
}
