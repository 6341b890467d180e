use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tessera_driver::{Outcome, Placement, Work, WorkError};
use tessera_vocabulary::DeviceName;

use crate::sealed::{seal, unseal};
use crate::{ClaimRef, Published, Scope, Unreadable};

/// The first line of a stored record, but for the checksum.
const FORMAT: &str = "tessera-record/1";

/// What was prepared for a claim: all that a repeated call, the undoing and a repair need, without the API server.
///
/// Fields are only ever added; what an older or newer agent wrote stays readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The boot of the node in which it was written: nothing that it describes survives a reboot.
    pub boot_id: String,
    /// Whose it is.
    pub claim: ClaimRef,
    /// What it was given, in the order of the allocation.
    pub devices: Vec<PreparedDevice>,
    /// What the container runtime was told, so that a lost file can be written again.
    pub spec: cdi::Document,
    /// Whether it is being undone: then nothing of it is repaired any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// One device of a prepared claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedDevice {
    /// The requests of the claim that it serves.
    pub requests: Vec<String>,
    /// Its pool.
    pub pool: String,
    /// Whose pool that is.
    #[serde(default, skip_serializing_if = "Scope::is_node")]
    pub scope: Scope,
    /// Its name in the pool.
    pub device: DeviceName,
    /// Which share of a shared device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_id: Option<String>,
    /// For watching only: excludes nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin_access: bool,
    /// The names under which the container runtime finds it.
    pub cdi_ids: Vec<String>,
    /// What of the hardware it takes; the accelerator of its own name if that is not said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<Use>,
    /// What has to be done to the hardware before a container can have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<Work>,
    /// What came of the work; empty as long as it is not known to be done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<Outcome>,
    /// How it is published, so that it stays so even if a later agent never sees it: an allocated device must not
    /// vanish. Agents before this field knew it not. Nothing where the node does not publish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_as: Option<Published>,
}

/// What of an accelerator a device takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The accelerator, by the name that it has as a whole.
    pub accelerator: DeviceName,
    /// Which part of it; all of it where that is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
}

/// A record and the bytes that it is stored as: a line with the format and the checksum of what follows, then JSON.
///
/// The bytes are kept because they may hold more than is known here: when a newer agent's record has to be written
/// again, nothing of it is lost. Clones share both.
#[derive(Clone, PartialEq)]
pub struct StoredRecord {
    record: Arc<Record>,
    bytes: Arc<[u8]>,
}

impl Record {
    /// The devices that it holds: all but those for watching only.
    pub(crate) fn holds(&self) -> impl Iterator<Item = &PreparedDevice> {
        self.devices.iter().filter(|device| !device.admin_access)
    }

    /// Whether all is done that containers rely on, and is to stay so.
    pub fn is_whole(&self) -> bool {
        !self.ending && self.devices.iter().all(|device| device.work.len() == device.outcomes.len())
    }

    /// The record with what came of its work, whose results come in its order. Where any of it failed, what is known of the
    /// rest stays, so that just that is undone; and what was not even begun goes out: undoing it would destroy what somebody
    /// else has put in its place. Then the record is ending, since nothing else may say that it is not whole.
    #[must_use]
    pub fn after_work(mut self, results: impl IntoIterator<Item = Result<Outcome, WorkError>>) -> Self {
        let mut results = results.into_iter();
        for device in &mut self.devices {
            let all = std::mem::take(&mut device.work).into_iter().zip(results.by_ref());
            let all: Vec<(Work, Result<Outcome, WorkError>)> = all.collect();
            self.ending |= all.iter().any(|(_, result)| result.is_err());
            let not_begun = |result: &Result<_, WorkError>| result.as_ref().is_err_and(|error| error.untouched);
            let begun: Vec<_> = all.into_iter().filter(|(_, result)| !not_begun(result)).collect();
            // An outcome belongs to the work at the same place.
            device.outcomes = begun.iter().map_while(|(_, result)| result.as_ref().ok().cloned()).collect();
            device.work = begun.into_iter().map(|(work, _)| work).collect();
        }
        self
    }

    /// All that was or is to be done to the hardware, and what came of it as far as is known.
    pub fn work(&self) -> impl Iterator<Item = (&Work, Option<&Outcome>)> {
        self.devices.iter().flat_map(|device| {
            device.work.iter().enumerate().map(move |(index, work)| (work, device.outcomes.get(index)))
        })
    }
}

/// What the kubelet is told of a device that a claim has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The claim's requests that it is for.
    pub requests: Vec<String>,
    /// Its pool.
    pub pool: String,
    /// Its name there.
    pub device: DeviceName,
    /// Which share of it.
    pub share_id: Option<String>,
    /// What the container runtime finds in the claim's CDI spec.
    pub cdi_ids: Vec<String>,
}

impl PreparedDevice {
    /// What the kubelet is told of it.
    pub fn answer(&self) -> Answer {
        Answer {
            requests: self.requests.clone(),
            pool: self.pool.clone(),
            device: self.device.clone(),
            share_id: self.share_id.clone(),
            cdi_ids: self.cdi_ids.clone(),
        }
    }

    /// What of the hardware it takes.
    pub(crate) fn uses(&self) -> Vec<Use> {
        if self.uses.is_empty() {
            return vec![Use { accelerator: self.device.clone(), placement: None }];
        }
        self.uses.clone()
    }

    /// Whether no other claim can have this beside it. Copies nothing: every prepare asks it of all that is held.
    pub(crate) fn excludes(&self, wanted: &Use) -> bool {
        match &self.uses[..] {
            [] => self.device == wanted.accelerator,
            uses => uses.iter().any(|one| one.excludes(wanted)),
        }
    }
}

impl Use {
    /// Whether two claims cannot have both.
    pub(crate) fn excludes(&self, other: &Self) -> bool {
        self.accelerator == other.accelerator
            && self.placement.zip(other.placement).is_none_or(|(one, other)| one.overlaps(other))
    }
}

impl StoredRecord {
    /// The record as it is to be stored.
    ///
    /// # Errors
    /// When it cannot be expressed in JSON.
    pub fn encode(record: Record) -> serde_json::Result<Self> {
        let bytes = seal(FORMAT, &record)?.into();
        Ok(Self { record: record.into(), bytes })
    }

    /// The record that was stored.
    ///
    /// # Errors
    /// When there is none, or one that this version does not understand.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let record: Record = unseal(FORMAT, &bytes)?;
        Ok(Self { record: record.into(), bytes: bytes.into() })
    }

    /// The record.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// What is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for StoredRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.record.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    /// Every layout that was ever released, the oldest first; lines are as they were on disk.
    const RELEASED: [(&str, &[u8]); 1] = [("0.1.0", include_bytes!("fixtures/record-0.1.0"))];

    #[test]
    fn released_layouts_are_read_and_todays_is_the_last_of_them() {
        let mut today = record("uid-1", 1);
        for (version, bytes) in RELEASED {
            let stored = StoredRecord::decode(bytes.to_vec()).unwrap_or_else(|error| panic!("{version}: {error}"));
            // What is published of a device grows; how it is kept is what matters here.
            today.devices[0].published_as.clone_from(&stored.record().devices[0].published_as);
            assert_eq!(**stored.record(), today, "{version}");
        }
        let (version, last) = RELEASED[RELEASED.len() - 1];
        let stored = StoredRecord::encode(today).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text(stored.bytes()), text(last), "an agent of {version} must be able to read what is written now");
    }

    #[test]
    fn what_came_of_work_is_kept_also_where_other_work_failed() {
        let join = |bus| Work::Join { accelerator: crate::testing::gpu(bus).address, uuid: String::new() };
        let failed = |untouched| Err(WorkError { text: String::new(), busy: false, gone: false, untouched });
        let (done, half, not_begun) = (|| Ok(Outcome::Done), || failed(false), || failed(true));
        let (one, two, three) = (join(1), join(2), join(3));
        for (what, results, work, outcomes) in [
            ("all done", [done(), done(), done()], [vec![&one, &two], vec![&three]], [2, 1]),
            ("one half", [done(), done(), half()], [vec![&one, &two], vec![&three]], [2, 0]),
            ("the first half", [half(), done(), done()], [vec![&one, &two], vec![&three]], [0, 1]),
            ("one not begun", [done(), done(), not_begun()], [vec![&one, &two], vec![]], [2, 0]),
            ("the first not begun", [not_begun(), done(), done()], [vec![&two], vec![&three]], [1, 1]),
        ] {
            let device = |uid: &str, work: &[&Work]| PreparedDevice {
                work: work.iter().map(|work| (*work).clone()).collect(),
                ..record(uid, 1).devices.remove(0)
            };
            let devices = vec![device("uid-1", &[&one, &two]), device("uid-1", &[&three])];
            let good = results.iter().all(Result::is_ok);
            let after = Record { devices, ..record("uid-1", 1) }.after_work(results);
            let kept: Vec<Vec<&Work>> = after.devices.iter().map(|device| device.work.iter().collect()).collect();
            let known: Vec<usize> = after.devices.iter().map(|device| device.outcomes.len()).collect();
            assert_eq!((kept, known), (work.to_vec(), outcomes.to_vec()), "{what}");
            assert_eq!((after.is_whole(), after.ending), (good, !good), "{what}");
        }
    }

    #[test]
    fn what_a_newer_agent_added_is_kept() {
        let bytes = include_bytes!("fixtures/record-with-unknown-fields").to_vec();
        let stored = StoredRecord::decode(bytes.clone()).unwrap();
        assert_eq!(stored.record().claim, record("uid-1", 1).claim);
        assert_eq!(stored.record().devices[0].device, record("uid-1", 1).devices[0].device);
        assert!(stored.record().spec.as_str().contains("\"newEdit\""));
        assert_eq!(stored.bytes(), bytes);
    }

    #[test]
    fn what_is_damaged_says_how() {
        let good = StoredRecord::encode(record("uid-1", 1)).unwrap().bytes().to_vec();
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (what, damaged, reason) in [
            ("empty", Vec::new(), "no header"),
            ("cut", good[..good.len() / 2].to_vec(), "its header is"),
            ("a flipped bit", flipped, "its header is"),
            ("another format", b"tessera-record/9 crc32:00000000\n".to_vec(), "\"tessera-record/9"),
            ("garbage", vec![0xff; 300], "no header"),
            (
                "not a record",
                [crate::sealed::header(FORMAT, b"{}").as_bytes(), b"\n{}"].concat(),
                "missing field `boot_id`",
            ),
        ] {
            let error = StoredRecord::decode(damaged).unwrap_err().to_string();
            assert!(error.contains(reason), "{what}: {error}");
        }
    }
}
