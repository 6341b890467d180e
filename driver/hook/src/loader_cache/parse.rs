use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::{
    Cache, EXTENSION_HWCAPS, EXTENSION_MAGIC, EXTENSION_SECTION, Entry, NEW_ALIGNMENT, NEW_ENTRY, NEW_HEADER,
    NEW_MAGIC, OLD_ENTRY, OLD_HEADER, OLD_MAGIC,
};

/// What is read is no cache, or one that its own loader would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no loader cache of glibc, or a damaged one, or one of another byte order")]
pub struct Damaged;

impl Cache {
    /// Reads a cache, in either format.
    ///
    /// # Errors
    /// See [`Damaged`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Damaged> {
        if bytes.starts_with(NEW_MAGIC) {
            return new(bytes).ok_or(Damaged);
        }
        if !bytes.starts_with(OLD_MAGIC) {
            return Err(Damaged);
        }
        let after = old_size(bytes).ok_or(Damaged)?;
        match bytes.get(after.next_multiple_of(NEW_ALIGNMENT)..) {
            Some(rest) if rest.starts_with(NEW_MAGIC) => new(rest).ok_or(Damaged),
            _ => old(bytes, after).ok_or(Damaged),
        }
    }
}

/// Everything counts from the start of the new header.
fn new(bytes: &[u8]) -> Option<Cache> {
    let count = number(bytes, 20)?;
    let order = *bytes.get(28)?;
    // Not set before glibc 2.32.
    if order != 0 && order != BYTE_ORDER {
        return None;
    }
    let entries = bytes.get(NEW_HEADER..)?.get(..count.checked_mul(NEW_ENTRY)?)?;
    let entries = entries.chunks_exact(NEW_ENTRY).map(|entry| {
        Some(Entry {
            flags: word(entry, 0)?,
            name: string(bytes, number(entry, 4)?)?,
            path: string(bytes, number(entry, 8)?)?,
            os_version: word(entry, 12)?,
            hwcap: u64::from_ne_bytes(entry.get(16..24)?.try_into().ok()?),
        })
    });
    Some(Cache { entries: entries.collect::<Option<_>>()?, hwcaps: hwcaps(bytes)? })
}

fn hwcaps(bytes: &[u8]) -> Option<Vec<OsString>> {
    let start = number(bytes, 32)?;
    if start == 0 {
        return Some(Vec::new());
    }
    let extensions = bytes.get(start..).filter(|extensions| word(extensions, 0) == Some(EXTENSION_MAGIC))?;
    let sections = extensions.get(8..)?.get(..number(extensions, 4)?.checked_mul(EXTENSION_SECTION)?)?;
    let is_hwcaps = |section: &&[u8]| word(section, 0) == Some(EXTENSION_HWCAPS);
    let Some(section) = sections.chunks_exact(EXTENSION_SECTION).find(is_hwcaps) else { return Some(Vec::new()) };
    let offsets = bytes.get(number(section, 8)?..)?.get(..number(section, 12)?)?;
    offsets.chunks_exact(4).map(|offset| string(bytes, number(offset, 0)?)).collect()
}

/// Where the old format's entries end.
fn old_size(bytes: &[u8]) -> Option<usize> {
    number(bytes, 12)?.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEADER)
}

/// Strings count from the end of the entries.
fn old(bytes: &[u8], after: usize) -> Option<Cache> {
    let (entries, strings) = (bytes.get(OLD_HEADER..after)?, bytes.get(after..)?);
    let entries = entries.chunks_exact(OLD_ENTRY).map(|entry| {
        let (name, path) = (string(strings, number(entry, 4)?)?, string(strings, number(entry, 8)?)?);
        Some(Entry { flags: word(entry, 0)?, name, path, os_version: 0, hwcap: 0 })
    });
    Some(Cache { entries: entries.collect::<Option<_>>()?, hwcaps: Vec::new() })
}

/// How the new header says which byte order it has.
pub(super) const BYTE_ORDER: u8 = if cfg!(target_endian = "little") { 2 } else { 3 };

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn number(bytes: &[u8], offset: usize) -> Option<usize> {
    word(bytes, offset).and_then(|word| usize::try_from(word).ok())
}

fn string(bytes: &[u8], offset: usize) -> Option<OsString> {
    let rest = bytes.get(offset..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(OsStr::from_bytes(&rest[..end]).to_owned())
}
