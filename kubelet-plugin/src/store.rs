//! The ledger on disk: one file a claim, beside the CDI specs in a directory that a reboot empties.
//!
//! A file is a line with the format and the checksum of what follows, then the record as JSON. One that cannot be
//! read is set aside and reported: it never keeps the agent from starting.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tessera_core::{ClaimUid, Ledger, Record};
use tracing::{info, warn};

const EXTENSION: &str = "record";
const FORMAT: &str = "tessera-record/1";

/// The directory of a driver's records.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

/// A record that could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    pub(crate) fn new(path: PathBuf, source: io::Error) -> Self {
        Self { path, source }
    }
}

impl Store {
    /// Opens the directory, making it where it is missing, for root alone.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| StoreError { path: directory.clone(), source })?;
        Ok(Self { directory })
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn write(&self, record: &Record) -> Result<(), StoreError> {
        let path = self.path(&record.claim.uid);
        let aside = path.with_extension("tmp");
        let write = || {
            fs::write(&aside, encode(record)?)?;
            fs::rename(&aside, &path)
        };
        write().map_err(|source| {
            // Best effort: what is left of it is overwritten by the next try and swept at the next start.
            let _ = fs::remove_file(&aside);
            StoreError { path: path.clone(), source }
        })
    }

    /// Removes a claim's record. That there is none is fine.
    pub(crate) fn remove(&self, uid: &ClaimUid) -> Result<(), StoreError> {
        let path = self.path(uid);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(StoreError { path, source }),
            _ => Ok(()),
        }
    }

    /// Whether a record is on disk as it should be.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        fs::read(self.path(&record.claim.uid)).is_ok_and(|bytes| decode(&bytes).as_ref() == Ok(record))
    }

    /// Reads every record of this boot.
    pub(crate) fn load(&self, boot_id: &str) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        let entries =
            fs::read_dir(&self.directory).map_err(|source| StoreError { path: self.directory.clone(), source })?;
        for path in entries.flatten().map(|entry| entry.path()) {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => {}
                Some("tmp") => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            match fs::read(&path).map_err(|error| error.to_string()).and_then(|bytes| decode(&bytes)) {
                Ok(record) if record.boot_id == boot_id => ledger.insert(record),
                Ok(record) => {
                    info!(claim = %record.claim, uid = %record.claim.uid, "forgetting a claim that was prepared before the reboot");
                    let _ = fs::remove_file(&path);
                }
                Err(reason) => {
                    let aside = path.with_extension("unreadable");
                    warn!(path = %path.display(), kept_as = %aside.display(), reason, "setting aside a record that cannot be read");
                    let _ = fs::rename(&path, &aside);
                }
            }
        }
        Ok(ledger)
    }

    fn path(&self, uid: &ClaimUid) -> PathBuf {
        self.directory.join(format!("{uid}.{EXTENSION}"))
    }
}

fn encode(record: &Record) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(record)?;
    let mut bytes = format!("{FORMAT} crc32:{:08x}\n", crc32fast::hash(&json)).into_bytes();
    bytes.extend(json);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Record, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no header")?;
    let (header, json) = (&bytes[..end], &bytes[end + 1..]);
    let expected = format!("{FORMAT} crc32:{:08x}", crc32fast::hash(json));
    if header != expected.as_bytes() {
        return Err(format!("its header is {:?}, expected {expected:?}", String::from_utf8_lossy(header)));
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

/// The id of this boot of the node. Always the running kernel's, whatever root the hardware is read below.
pub(crate) fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|source| StoreError { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod testing {
    use tessera_core::{ClaimRef, Identity, Record};
    use tessera_vocabulary::DriverName;

    /// The record of a claim that was given nothing.
    pub(crate) fn record(uid: &str, boot_id: &str) -> Record {
        let identity = Identity::new(DriverName::nvidia_gpu(), "node-1".to_owned(), boot_id.to_owned()).unwrap();
        let claim = ClaimRef { namespace: "team".to_owned(), name: "training".to_owned(), uid: uid.parse().unwrap() };
        let spec = cdi::Spec::new(identity.cdi_kind().clone(), Vec::new());
        Record { boot_id: boot_id.to_owned(), claim, devices: Vec::new(), spec }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::*;

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("gpu.nvidia.com")).unwrap();
        let record = record("uid-1", "this boot");
        store.write(&record).unwrap();
        store.write(&record).unwrap();
        assert_eq!(store.load("this boot").unwrap().records().collect::<Vec<_>>(), [&record]);
        store.remove(&record.claim.uid).unwrap();
        store.remove(&record.claim.uid).unwrap();
        assert_eq!(store.load("this boot").unwrap(), Ledger::default());
    }

    #[test]
    fn a_reboot_empties_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        store.write(&record("uid-1", "the last boot")).unwrap();
        assert_eq!(store.load("this boot").unwrap(), Ledger::default());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_record_is_set_aside_and_the_others_are_read() {
        let good = encode(&record("uid-good", "b")).unwrap();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (what, damaged) in [
            ("empty", Vec::new()),
            ("cut", good[..good.len() / 2].to_vec()),
            ("a flipped bit", flipped),
            ("another format", b"tessera-record/9 crc32:00000000\n".to_vec()),
            ("garbage", vec![0xff; 300]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path().to_owned()).unwrap();
            store.write(&record("uid-good", "b")).unwrap();
            fs::write(directory.path().join("uid-bad.record"), damaged).unwrap();
            fs::write(directory.path().join("uid-half.tmp"), "half").unwrap();
            assert_eq!(store.load("b").unwrap().records().count(), 1, "{what}");
            assert!(directory.path().join("uid-bad.unreadable").exists(), "{what}: it is kept for a person to look at");
            assert!(!directory.path().join("uid-half.tmp").exists());
        }
    }
}
