//! The node's disk: the directory of records and the directory of CDI specs, as bytes, with faults.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cdi::FileName;
use tessera_core::{ClaimUid, Loans, StoredRecord};
use tessera_driver::Work;

use crate::event::{Damage, DiskFault, DiskState};

/// Shared by the agents of the node, which work one after the other.
#[derive(Debug, Default)]
pub(crate) struct Disk(pub(crate) RefCell<Files>);

/// What is on it.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) records: BTreeMap<ClaimUid, Vec<u8>>,
    /// What was last written into them, whatever became of the bytes.
    pub(crate) kept: BTreeMap<ClaimUid, Kept>,
    /// What a person took the records of, who may have been in the midst of being worked for: what is made then is nobody's
    /// until the record is written anew.
    pub(crate) lost: BTreeMap<ClaimUid, Vec<Work>>,
    pub(crate) record_temporaries: BTreeSet<ClaimUid>,
    pub(crate) unreadable: BTreeSet<ClaimUid>,
    /// The claims of which it is in doubt whether anybody needs their records.
    pub(crate) doubted: BTreeSet<ClaimUid>,
    /// What pods have by count.
    pub(crate) loans: Option<Vec<u8>>,
    pub(crate) specs: BTreeMap<FileName, Vec<u8>>,
    pub(crate) spec_temporaries: u32,
    /// The number of changes that were ever made to the records.
    pub(crate) changes: u64,
    pub(crate) state: DiskState,
    /// What goes wrong, and after how many operations.
    pub(crate) next_fault: Option<(u8, DiskFault)>,
    /// How many operations did not go well.
    pub(crate) faults: u64,
    /// How many of them were no writing of a file: something may be left that should have been removed.
    pub(crate) faults_in_removing: u64,
}

/// What a record says.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) whole: bool,
    pub(crate) work: Vec<Work>,
}

/// How an operation ended, when not well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("the disk refused")]
    Refused,
    /// Nothing that the agent does after this has an effect.
    #[error("the agent died")]
    Died,
}

/// What an operation takes of the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Space,
    Nothing,
}

impl Files {
    /// What goes wrong with this operation.
    fn fault(&mut self, needs: Needs) -> Option<DiskFault> {
        let refused = match self.state {
            DiskState::Works => false,
            DiskState::Full => needs == Needs::Space,
            DiskState::ReadOnly => true,
        };
        let fault = match &mut self.next_fault {
            _ if refused => Some(DiskFault::Fails),
            Some((0, _)) => self.next_fault.take().map(|(_, fault)| fault),
            Some((operations, _)) => {
                *operations -= 1;
                None
            }
            None => None,
        };
        self.faults += u64::from(fault.is_some());
        self.faults_in_removing += u64::from(fault.is_some() && needs == Needs::Nothing);
        fault
    }

    /// An operation that is done whole or not at all, and leaves nothing else behind.
    fn whole(&mut self, needs: Needs, done: impl FnOnce(&mut Self)) -> Result<(), Trouble> {
        match self.fault(needs) {
            Some(DiskFault::Fails | DiskFault::DoneAndFails) => Err(Trouble::Refused),
            Some(DiskFault::DiesInside) => Err(Trouble::Died),
            fault => {
                done(self);
                if fault.is_some() { Err(Trouble::Died) } else { Ok(()) }
            }
        }
    }

    /// All that was or is to be done to the hardware and has an owner, or had one.
    pub(crate) fn work(&self) -> impl Iterator<Item = &Work> {
        self.kept.values().flat_map(|kept| &kept.work).chain(self.lost.values().flatten())
    }

    /// Says that the records are about to change.
    pub(crate) fn announce(&mut self, next: u64) -> Result<(), Trouble> {
        self.whole(Needs::Nothing, |files| files.changes = next)
    }

    pub(crate) fn write_record(&mut self, stored: &StoredRecord) -> Result<(), Trouble> {
        let uid = &stored.record().claim.uid;
        match self.fault(Needs::Space) {
            // Nothing comes after the renaming that could fail.
            Some(DiskFault::Fails | DiskFault::DoneAndFails) => Err(Trouble::Refused),
            Some(DiskFault::DiesInside) => {
                self.record_temporaries.insert(uid.clone());
                Err(Trouble::Died)
            }
            fault => {
                self.records.insert(uid.clone(), stored.bytes().to_vec());
                let record = stored.record();
                let work = record.work().map(|(work, _)| work.clone()).collect();
                self.kept.insert(uid.clone(), Kept { whole: record.is_whole(), work });
                self.lost.remove(uid);
                self.record_temporaries.remove(uid);
                if fault.is_some() { Err(Trouble::Died) } else { Ok(()) }
            }
        }
    }

    pub(crate) fn doubt(&mut self, uid: &ClaimUid) -> Result<(), Trouble> {
        self.whole(Needs::Space, |files| {
            files.doubted.insert(uid.clone());
        })
    }

    /// That nobody doubted it is fine.
    pub(crate) fn trust(&mut self, uid: &ClaimUid) -> Result<(), Trouble> {
        if !self.doubted.contains(uid) {
            return Ok(());
        }
        self.whole(Needs::Nothing, |files| {
            files.doubted.remove(uid);
        })
    }

    pub(crate) fn write_loans(&mut self, loans: &Loans, boot_id: &str) -> Result<(), Trouble> {
        let bytes = loans.encode(boot_id).map_err(|_| Trouble::Refused)?;
        self.whole(Needs::Space, |files| files.loans = Some(bytes))
    }

    /// What pods have by count; what cannot be read is set aside.
    pub(crate) fn load_loans(&mut self, boot_id: &str) -> Option<Loans> {
        let loans = Loans::decode(self.loans.as_ref()?, boot_id);
        if loans.is_err() && self.state != DiskState::ReadOnly {
            self.loans = None;
        }
        loans.ok()?
    }

    pub(crate) fn remove_record(&mut self, uid: &ClaimUid) -> Result<(), Trouble> {
        self.whole(Needs::Nothing, |files| {
            files.records.remove(uid);
            files.kept.remove(uid);
            files.lost.remove(uid);
            files.unreadable.remove(uid);
            files.doubted.remove(uid);
        })
    }

    pub(crate) fn write_spec(&mut self, file: &FileName, spec: &cdi::Document) -> Result<(), Trouble> {
        match self.fault(Needs::Space) {
            Some(DiskFault::Fails) => Err(Trouble::Refused),
            Some(DiskFault::DiesInside) => {
                self.spec_temporaries += 1;
                Err(Trouble::Died)
            }
            fault => {
                self.specs.insert(file.clone(), spec.as_str().into());
                match fault {
                    None => Ok(()),
                    // The directory cannot be synced.
                    Some(DiskFault::DoneAndFails) => Err(Trouble::Refused),
                    Some(_) => Err(Trouble::Died),
                }
            }
        }
    }

    /// That there is none is fine, and so is an error after which it is gone.
    pub(crate) fn remove_spec(&mut self, file: &FileName) -> Result<(), Trouble> {
        match self.fault(Needs::Nothing) {
            Some(DiskFault::Fails) if self.specs.contains_key(file) => Err(Trouble::Refused),
            Some(DiskFault::DiesInside) => Err(Trouble::Died),
            fault => {
                self.specs.remove(file);
                if fault == Some(DiskFault::DiesAfter) { Err(Trouble::Died) } else { Ok(()) }
            }
        }
    }

    pub(crate) fn holds_spec(&self, file: &FileName, spec: &cdi::Document) -> bool {
        self.specs.get(file).is_some_and(|bytes| bytes == spec.as_str().as_bytes())
    }

    pub(crate) fn holds_record(&self, stored: &StoredRecord) -> bool {
        self.records.get(&stored.record().claim.uid).is_some_and(|bytes| bytes == stored.bytes())
    }

    /// The claims that there is a record of, also one that was set aside or should have been.
    pub(crate) fn recorded(&self) -> BTreeSet<ClaimUid> {
        self.records.keys().chain(&self.unreadable).cloned().collect()
    }

    /// Every record that can be read; the others are set aside, those of another boot are removed.
    pub(crate) fn load(&mut self, boot_id: &str) -> Vec<StoredRecord> {
        let writable = self.state != DiskState::ReadOnly;
        let mut loaded = Vec::with_capacity(self.records.len());
        let mut gone = Vec::new();
        for (uid, bytes) in &self.records {
            match StoredRecord::decode(bytes.clone()) {
                Ok(stored) if stored.record().boot_id == boot_id => loaded.push(stored),
                Ok(_) => gone.push(uid.clone()),
                Err(_) => {
                    self.unreadable.insert(uid.clone());
                    gone.push(uid.clone());
                }
            }
        }
        if writable {
            self.record_temporaries.clear();
            for uid in gone {
                self.records.remove(&uid);
                self.kept.remove(&uid);
            }
        }
        loaded
    }
}

/// What a person or a bad disk does to a file.
pub(crate) fn damage(bytes: &mut Vec<u8>, damage: Damage) {
    match damage {
        Damage::Removed => bytes.clear(),
        Damage::Truncated => bytes.truncate(bytes.len() / 2),
        Damage::Garbled => {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x15;
            }
        }
    }
}
