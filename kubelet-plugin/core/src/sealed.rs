//! What the agent keeps on disk: a line with the format and the checksum of what follows, then JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not what was kept.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The first line is missing.
    #[error("it has no header")]
    NoHeader,
    /// Another format, or damaged.
    #[error("its header is {found:?}, expected {expected:?}")]
    Header {
        /// The first line.
        found: String,
        /// What it would be for what follows.
        expected: String,
    },
    /// Whole, and yet not as it is known here.
    #[error(transparent)]
    Format(#[from] serde_json::Error),
}

/// The bytes that a value is kept as.
pub(crate) fn seal(format: &str, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut bytes = header(format, &json).into_bytes();
    bytes.push(b'\n');
    bytes.extend(json);
    Ok(bytes)
}

/// The value that was kept.
pub(crate) fn unseal<T: DeserializeOwned>(format: &str, bytes: &[u8]) -> Result<T, Unreadable> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(Unreadable::NoHeader)?;
    let (found, json) = (&bytes[..end], &bytes[end + 1..]);
    let expected = header(format, json);
    if found != expected.as_bytes() {
        return Err(Unreadable::Header { found: String::from_utf8_lossy(found).into_owned(), expected });
    }
    Ok(serde_json::from_slice(json)?)
}

pub(crate) fn header(format: &str, json: &[u8]) -> String {
    format!("{format} crc32:{:08x}", crc32fast::hash(json))
}
