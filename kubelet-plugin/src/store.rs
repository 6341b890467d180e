//! The ledger on disk: one file a claim, beside the CDI specs in a directory that a reboot empties.
//!
//! A file that cannot be read is set aside and reported: it never keeps the agent from starting.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use tessera_core::{ClaimUid, Ledger, StoredRecord};
use tracing::info;

use crate::files::{self, ASIDE, FileError, Found};
use crate::notices::Notice;

const EXTENSION: &str = "record";
const SET_ASIDE: &str = "unreadable";
/// The sign that it is in doubt whether anybody needs a claim's record.
const DOUBTED: &str = "doubted";

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
    /// The claims of which it is in doubt whether anybody needs their records.
    pub(crate) doubted: BTreeSet<ClaimUid>,
    /// What was put right on the way.
    pub(crate) notices: Vec<Notice>,
}

impl Store {
    /// Opens the directory, making it where it is missing, for root alone.
    pub(crate) fn open(directory: PathBuf) -> Result<Self, FileError> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| FileError::new(directory.clone(), source))?;
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
    pub(crate) fn write(&self, stored: &StoredRecord) -> Result<(), FileError> {
        files::write(self.path(&stored.record().claim.uid), stored.bytes())
    }

    /// Removes a claim's record, also one that was set aside. That there is none is fine, and so is a directory in its
    /// place, which is nobody's record: the claim must end.
    pub(crate) fn remove(&self, uid: &ClaimUid) -> Result<(), FileError> {
        let path = self.path(uid);
        [path.with_extension(DOUBTED), path.with_extension(SET_ASIDE), path].into_iter().try_for_each(files::remove)
    }

    /// It is in doubt whether anybody needs a claim's record.
    pub(crate) fn doubt(&self, uid: &ClaimUid) -> Result<(), FileError> {
        let path = self.path(uid).with_extension(DOUBTED);
        fs::write(&path, []).map_err(|source| FileError::new(path, source))
    }

    /// It is not in doubt any more.
    pub(crate) fn trust(&self, uid: &ClaimUid) -> Result<(), FileError> {
        files::remove(self.path(uid).with_extension(DOUBTED))
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
    pub(crate) fn load(&self, boot_id: &str) -> Result<Loaded, FileError> {
        let mut loaded = Loaded::default();
        let mut forgotten = 0;
        for path in files::list(&self.directory)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(EXTENSION) => {}
                Some(DOUBTED) => {
                    loaded.doubted.extend(path.file_stem().and_then(|uid| uid.to_str()?.parse().ok()));
                    continue;
                }
                Some(ASIDE) => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                _ => continue,
            }
            // What cannot be read now may be whole: without it a device would count as free.
            match files::read(path, SET_ASIDE, StoredRecord::decode)? {
                Found::Nothing => {}
                Found::Whole { content, .. } if content.record().boot_id == boot_id => loaded.ledger.insert(content),
                Found::Whole { path, content } => {
                    let claim = &content.record().claim;
                    info!(%claim, uid = %claim.uid, "forgetting a claim that was prepared before the reboot");
                    let _ = fs::remove_file(&path);
                    forgotten += 1;
                }
                Found::Damaged { path, kept_as, reason } => {
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
    pub(crate) fn recorded(&self) -> Result<BTreeSet<ClaimUid>, FileError> {
        let uid = |path: PathBuf| {
            let extension = path.extension()?.to_str()?;
            [EXTENSION, SET_ASIDE].contains(&extension).then(|| path.file_stem()?.to_str()?.parse().ok())?
        };
        Ok(files::list(&self.directory)?.into_iter().filter_map(uid).collect())
    }

    fn path(&self, uid: &ClaimUid) -> PathBuf {
        self.directory.join(format!("{uid}.{EXTENSION}"))
    }
}

/// The id of this boot of the node. Always the running kernel's, whatever root the hardware is read below.
pub(crate) fn boot_id() -> Result<String, FileError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|source| FileError::new(path.to_owned(), source))?;
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
    fn a_record_is_doubted_until_the_kubelet_asks_for_it_or_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().to_owned()).unwrap();
        let uid: ClaimUid = "uid-1".parse().unwrap();
        store.trust(&uid).unwrap();
        for end in [Store::trust, Store::remove] {
            store.doubt(&uid).unwrap();
            store.doubt(&uid).unwrap();
            let loaded = store.load("boot").unwrap();
            assert_eq!((loaded.doubted, loaded.ledger), (BTreeSet::from([uid.clone()]), Ledger::default()));
            assert!(loaded.notices.is_empty() && store.recorded().unwrap().is_empty());
            end(&store, &uid).unwrap();
            assert_eq!(store.load("boot").unwrap().doubted, BTreeSet::new());
        }
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
