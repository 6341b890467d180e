//! The ledger on disk: one file a claim, beside the CDI specs in a directory that a reboot empties.
//!
//! A file that cannot be read is set aside and reported: it never keeps the agent from starting.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tessera_core::{ClaimUid, Ledger, StoredRecord};
use tracing::info;

use crate::notices::Notice;

const EXTENSION: &str = "record";
const SET_ASIDE: &str = "unreadable";

/// The directory of a driver's records.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    directory: PathBuf,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Every record of this boot.
    pub(crate) ledger: Ledger,
    /// What was put right on the way.
    pub(crate) notices: Vec<Notice>,
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

    /// Whether there is a record in the directory, also one that was set aside. Makes nothing.
    pub(crate) fn has_records(directory: PathBuf) -> bool {
        Self { directory }.recorded().is_ok_and(|recorded| !recorded.is_empty())
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a record, whole or not at all.
    pub(crate) fn write(&self, stored: &StoredRecord) -> Result<(), StoreError> {
        let path = self.path(&stored.record().claim.uid);
        let aside = path.with_extension("tmp");
        fs::write(&aside, stored.bytes()).and_then(|()| fs::rename(&aside, &path)).map_err(|source| {
            // Best effort: what is left of it is overwritten by the next try and swept at the next start.
            let _ = fs::remove_file(&aside);
            StoreError { path, source }
        })
    }

    /// Removes a claim's record, also one that was set aside. That there is none is fine, and so is a directory in its
    /// place, which is nobody's record: the claim must end.
    pub(crate) fn remove(&self, uid: &ClaimUid) -> Result<(), StoreError> {
        let path = self.path(uid);
        for path in [path.with_extension(SET_ASIDE), path] {
            match fs::remove_file(&path) {
                Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {}
                Err(source) => return Err(StoreError { path, source }),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Whether a record is on disk as it should be, byte for byte.
    pub(crate) fn holds(&self, stored: &StoredRecord) -> bool {
        let (path, bytes) = (self.path(&stored.record().claim.uid), stored.bytes());
        // One byte more than it should have: a longer one is seen too.
        let mut found = vec![0; bytes.len() + 1];
        let length = fs::File::open(path).and_then(|mut file| file.read(&mut found));
        length.is_ok_and(|length| &found[..length] == bytes)
    }

    /// Reads every record of this boot.
    ///
    /// # Errors
    /// When the directory or a file in it cannot be read. A file that can be read and is no record is no error.
    pub(crate) fn load(&self, boot_id: &str) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let mut forgotten = 0;
        for path in self.files()? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => {}
                Some("tmp") => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            // What cannot be read now may be whole: without it a device would count as free.
            let decoded = match fs::read(&path) {
                Ok(bytes) => StoredRecord::decode(bytes).map_err(|reason| reason.to_string()),
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(source) if source.kind() == io::ErrorKind::IsADirectory => Err("it is a directory".to_owned()),
                Err(source) => return Err(StoreError { path, source }),
            };
            match decoded {
                Ok(stored) if stored.record().boot_id == boot_id => loaded.ledger.insert(stored),
                Ok(stored) => {
                    let claim = &stored.record().claim;
                    info!(%claim, uid = %claim.uid, "forgetting a claim that was prepared before the reboot");
                    let _ = fs::remove_file(&path);
                    forgotten += 1;
                }
                Err(reason) => {
                    let kept_as = path.with_extension(SET_ASIDE);
                    let _ = fs::rename(&path, &kept_as);
                    loaded.notices.push(Notice::RecordSetAside { path, kept_as, reason });
                }
            }
        }
        if forgotten > 0 {
            loaded.notices.push(Notice::ForgottenAfterReboot { claims: forgotten });
        }
        Ok(loaded)
    }

    /// The claims that there is a record of, also one that was set aside or should have been.
    pub(crate) fn recorded(&self) -> Result<BTreeSet<ClaimUid>, StoreError> {
        let uid = |path: PathBuf| {
            let extension = path.extension()?.to_str()?;
            [EXTENSION, SET_ASIDE].contains(&extension).then(|| path.file_stem()?.to_str()?.parse().ok())?
        };
        Ok(self.files()?.into_iter().filter_map(uid).collect())
    }

    fn files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let failed = |source| StoreError { path: self.directory.clone(), source };
        let entries = fs::read_dir(&self.directory).map_err(failed)?;
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
    }

    fn path(&self, uid: &ClaimUid) -> PathBuf {
        self.directory.join(format!("{uid}.{EXTENSION}"))
    }
}

/// The id of this boot of the node. Always the running kernel's, whatever root the hardware is read below.
pub(crate) fn boot_id() -> Result<String, StoreError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|source| StoreError { path: path.to_owned(), source })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
pub(crate) mod testing {
    use tessera_core::{ClaimRef, Identity, Record, StoredRecord};
    use tessera_vocabulary::DriverName;

    /// The record of a claim that was given nothing that matters here.
    pub(crate) fn record(uid: &str, boot_id: &str) -> StoredRecord {
        let identity = Identity::new(DriverName::nvidia_gpu(), "node-1".to_owned(), boot_id.to_owned()).unwrap();
        let claim = ClaimRef { namespace: "team".to_owned(), name: "training".to_owned(), uid: uid.parse().unwrap() };
        let edits = cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() };
        let devices = vec![cdi::Device::new("gpu".parse().unwrap(), edits)];
        let spec = cdi::Spec::new(identity.cdi_kind().clone(), devices).document().unwrap();
        StoredRecord::encode(Record { boot_id: boot_id.to_owned(), claim, devices: Vec::new(), spec, ending: false })
            .unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::record;
    use super::*;

    fn uids(loaded: &Loaded) -> Vec<&str> {
        loaded.ledger.records().map(|record| record.claim.uid.as_str()).collect()
    }

    #[test]
    fn what_was_written_is_read_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("gpu.nvidia.com")).unwrap();
        let stored = record("uid-1", "this boot");
        let uid = &stored.record().claim.uid;
        assert!(!Store::has_records(store.directory().to_owned()));
        store.write(&stored).unwrap();
        store.write(&stored).unwrap();
        assert!(store.holds(&stored) && Store::has_records(store.directory().to_owned()));
        assert_eq!(store.load("this boot").unwrap().ledger.get(uid), Some(&stored));
        store.remove(uid).unwrap();
        store.remove(uid).unwrap();
        assert_eq!(store.load("this boot").unwrap().ledger, Ledger::default());
    }

    #[test]
    fn a_reboot_empties_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        store.write(&record("uid-1", "the last boot")).unwrap();
        let loaded = store.load("this boot").unwrap();
        assert_eq!(loaded.ledger, Ledger::default());
        assert_eq!(loaded.notices, [Notice::ForgottenAfterReboot { claims: 1 }]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_record_is_set_aside_and_the_others_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        store.write(&record("uid-good", "b")).unwrap();
        fs::write(directory.path().join("uid-bad.record"), "damaged").unwrap();
        fs::create_dir(directory.path().join("uid-dir.record")).unwrap();
        fs::write(directory.path().join("uid-half.tmp"), "half").unwrap();
        let loaded = store.load("b").unwrap();
        assert_eq!(uids(&loaded), ["uid-good"]);
        let reason = |notice: &Notice| match notice {
            Notice::RecordSetAside { reason, .. } => reason.clone(),
            other => format!("{other:?}"),
        };
        let mut reasons: Vec<_> = loaded.notices.iter().map(reason).collect();
        reasons.sort();
        assert_eq!(reasons, ["it has no header", "it is a directory"]);
        assert!(directory.path().join("uid-bad.unreadable").exists(), "it is kept for a person to look at");
        assert!(!directory.path().join("uid-half.tmp").exists());

        let [good, bad, odd] = ["uid-good", "uid-bad", "uid-dir"].map(|uid| uid.parse::<ClaimUid>().unwrap());
        assert_eq!(store.recorded().unwrap(), BTreeSet::from([bad.clone(), good, odd.clone()]));
        store.remove(&bad).unwrap();
        assert!(!directory.path().join("uid-bad.unreadable").exists());
        store.remove(&odd).unwrap();
    }
}
