//! Starts of the agent, interrupted: it takes over what an earlier one left, and clears away what nobody owns.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use interruptions::{Errno, Interruption};
use testkit::{Claim, GPUS, Node};

use super::ground::{Prepared, assert_free, start_watched, untouched_node};
use super::{REASONS, Sight, assert_seen, writes};
use crate::restart::of_another_boot;

/// What an earlier agent left, and what must be there once another one has started.
struct Left {
    node: Node,
    /// Every file of the two directories; without any, the directories are not there either.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// The names in the CDI directory and in the state directory.
    expected: (Vec<String>, Vec<String>),
    /// Claims that are prepared.
    prepared: Vec<Prepared>,
    /// Devices that no claim holds.
    free: Vec<&'static str>,
}

#[tokio::test]
async fn a_first_start_is_killed() {
    killed(Left::nothing(), &[]).await;
}

#[tokio::test]
async fn a_first_start_is_refused() {
    refused(Left::nothing()).await;
}

#[tokio::test]
async fn a_take_over_is_killed() {
    let [lost, old, stray] = ["lost", "old", "stray"].map(Claim::new);
    let sights = [
        (Sight::SpecWritten, &lost),
        (Sight::RecordRemoved, &old),
        (Sight::SpecRemoved, &old),
        (Sight::SpecRemoved, &stray),
    ];
    killed(Left::by_an_earlier_agent().await, &sights).await;
}

#[tokio::test]
async fn a_take_over_is_refused() {
    refused(Left::by_an_earlier_agent().await).await;
}

async fn killed(mut left: Left, sights: &[(Sight, &Claim)]) {
    let mut at = 0;
    let all = loop {
        left.put_back();
        let (ready, seen) = start_watched(&mut left.node, Interruption::Kill { at }).await;
        let Some(interrupted) = seen.interrupted else {
            assert!(ready);
            left.node.kill().await;
            break seen;
        };
        println!("killed before {}", seen.points[interrupted]);
        assert_eq!((ready, left.node.ended().await.signal()), (false, Some(9)));
        left.assert_all_in_order_after_next_start().await;
        at += 1;
    };
    assert_seen(sights, &all, &left.node);
    for at in writes(&all) {
        println!("killed in the middle of {}", all.points[at]);
        left.put_back();
        let (ready, _) = start_watched(&mut left.node, Interruption::Tear { at }).await;
        assert_eq!((ready, left.node.ended().await.signal()), (false, Some(9)));
        left.assert_all_in_order_after_next_start().await;
    }
}

/// A disk that is full or read-only stays so, a broken one may do so.
async fn refused(mut left: Left) {
    for (errno, reason) in REASONS {
        let and_all_after = errno != Errno::EIO;
        let mut at = 0;
        while left.refused(Interruption::Fail { at, errno, and_all_after }, reason).await {
            at += 1;
        }
        assert!(at > 0, "no call was refused");
    }
}

impl Left {
    fn nothing() -> Self {
        let node = untouched_node();
        Self { node, files: BTreeMap::new(), expected: Default::default(), prepared: Vec::new(), free: GPUS.into() }
    }

    /// A ledger with a claim that is whole and one whose spec is lost, beside strays of every sort.
    async fn by_an_earlier_agent() -> Self {
        let mut node = untouched_node();
        let plugin = node.start().await;
        let claims = ["whole", "lost", "old", "damaged"].map(Claim::new);
        let mut prepared = Vec::new();
        for (claim, gpu) in claims.iter().zip(GPUS) {
            prepared.push(Prepared::new(&node, &plugin, node.known(claim.clone().device("gpu", gpu))).await);
        }
        prepared.truncate(2);
        node.kill().await;

        let [whole, lost, old, damaged] = &claims;
        let stray = Claim::new("stray");
        let mut files = files(&node);
        let spec = files[&node.spec_path(whole)].clone();
        files.remove(&node.spec_path(lost));
        files.insert(node.spec_path(&stray), spec.clone());
        // Of another driver, and none of ours to remove.
        files.insert(node.cdi_dir().join("example.com-nic.json"), spec);
        files.insert(node.cdi_dir().join(".tessera-1-0.tmp"), b"half".to_vec());
        files.insert(node.record_path(whole).with_file_name("half.tmp"), b"half".to_vec());
        let record = |claim| String::from_utf8(files[&node.record_path(claim)].clone()).unwrap();
        let (of_old, of_damaged) = (of_another_boot(&record(old)), record(damaged));
        files.insert(node.record_path(old), of_old.into_bytes());
        files.insert(node.record_path(damaged), of_damaged[..of_damaged.len() / 2].into());

        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let set_aside = node.record_path(damaged).with_extension("unreadable");
        let mut specs =
            vec!["example.com-nic.json".to_owned(), name(node.spec_path(whole)), name(node.spec_path(lost))];
        // Spared until it is known whether a pod uses the claim.
        specs.push(name(node.spec_path(damaged)));
        let mut records = [node.record_path(whole), node.record_path(lost), set_aside].map(name).to_vec();
        specs.sort();
        records.sort();
        Self { node, files, expected: (specs, records), prepared, free: GPUS[2..].to_vec() }
    }

    /// A start during which calls fail, and all that must be so afterwards. Says whether one failed.
    async fn refused(&mut self, interruption: Interruption, reason: &str) -> bool {
        self.put_back();
        let (ready, seen) = start_watched(&mut self.node, interruption).await;
        let Some(point) = seen.interrupted.map(|at| &seen.points[at]) else {
            assert!(ready);
            self.node.kill().await;
            return false;
        };
        println!("{interruption:?} of {point}; ready: {ready}");
        if let Some(whole) = self.prepared.first() {
            whole.assert_untouched(&self.node);
        }
        if ready {
            // What it could not do at its start it does now.
            let plugin = self.node.connect().await;
            for prepared in &self.prepared {
                assert_eq!(plugin.prepare(&prepared.claim).await.as_ref(), Ok(&prepared.answer));
                prepared.assert_untouched(&self.node);
            }
            self.node.kill().await;
        } else {
            assert_eq!(self.node.ended().await.code(), Some(1));
            let log = self.node.agent().log();
            assert!(log.contains(reason), "{log}");
        }
        self.assert_all_in_order_after_next_start().await;
        true
    }

    /// Makes the two directories what they were before the first start.
    fn put_back(&self) {
        for directory in [self.node.cdi_dir(), self.node.state_dir()] {
            fs::remove_dir_all(&directory).or_else(|error| self.files.is_empty().then_some(()).ok_or(error)).unwrap();
        }
        for (path, bytes) in &self.files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    async fn assert_all_in_order_after_next_start(&mut self) {
        let plugin = self.node.start().await;
        let node = &self.node;
        assert_eq!((node.specs(), node.records()), self.expected);
        for prepared in &self.prepared {
            prepared.assert_untouched(node);
            assert_eq!(plugin.prepare(&prepared.claim).await.as_ref(), Ok(&prepared.answer));
        }
        assert_free(node, &plugin, &self.free).await;
        for prepared in &self.prepared {
            plugin.unprepare(&prepared.claim).await.unwrap();
        }
        assert_free(node, &plugin, &GPUS).await;
        self.node.kill().await;
    }
}

/// Every file below the node's two directories.
fn files(node: &Node) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut directories = vec![node.cdi_dir(), node.state_dir()];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => directories.push(path),
                false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
            }
        }
    }
    files
}
