//! What goes wrong around a claim: the API server, the disk, many callers at once.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use testkit::api_server::{Fault, Resource};
use testkit::{Claim, GPUS, Node, Plugin};

use crate::{AGENT, assert_nothing_left, node, prepare_once_answered};

#[tokio::test]
async fn a_server_that_refuses_is_quoted() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let mut texts = Vec::new();
    for code in [403, 500] {
        node.api.fail(Resource::Claims, 1, Fault::Status(code));
        texts.push(plugin.prepare(&claim).await.unwrap_err());
        assert_nothing_left(&node);
    }
    assert!(texts.iter().all(|text| text.len() < 256), "{texts:#?}");
    insta::assert_json_snapshot!(texts);
    // Too busy, or not there for a moment: worth another try within the call.
    for code in [429, 503] {
        node.api.fail(Resource::Claims, 2, Fault::Status(code));
        plugin.prepare(&claim).await.unwrap();
        plugin.unprepare(&claim).await.unwrap();
    }
}

/// Takes the ten seconds that the agent waits.
#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let (node, plugin) = node().await;
    let (claim, other) = (node.allocated("training", GPUS[0]), node.allocated("other", GPUS[1]));
    node.api.fail(Resource::Claims, 1, Fault::Silent);
    let waiting = tokio::spawn({
        let (plugin, claim) = (plugin.clone(), claim.clone());
        async move { plugin.prepare(&claim).await }
    });
    node.wait("the GET", |node| (node.api.requests().of("get", Resource::Claims) == 1).then_some(())).await;
    plugin.prepare(&other).await.unwrap();
    assert!(!waiting.is_finished(), "one claim must not wait for another");
    insta::assert_snapshot!(waiting.await.unwrap().unwrap_err());
    plugin.prepare(&claim).await.unwrap();
}

#[tokio::test]
async fn a_directory_in_whose_place_a_file_lies_is_told_and_mended() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let records = node.state_dir().join(Claim::DRIVER);
    for directory in [node.cdi_dir(), records] {
        let aside = directory.with_extension("aside");
        fs::rename(&directory, &aside).unwrap();
        fs::write(&directory, "").unwrap();
        let refusal = plugin.prepare(&claim).await.unwrap_err();
        assert!(refusal.len() < 256, "{refusal}");
        insta::assert_snapshot!(
            format!("{}_is_a_file", directory.file_name().unwrap().to_string_lossy().replace('.', "_")),
            node.anonymous(&refusal)
        );
        fs::remove_file(&directory).unwrap();
        fs::rename(&aside, &directory).unwrap();
        assert_nothing_left(&node);
        plugin.prepare(&claim).await.unwrap();
        plugin.unprepare(&claim).await.unwrap();
        assert_nothing_left(&node);
    }
}

/// Where the agent writes.
const PLACES: [fn(&Node) -> PathBuf; 2] = [Node::cdi_dir, Node::state_dir];

/// A node on which one place is a small disk of its own, with two claims that are prepared. Needs root for the mount;
/// without it the test above has to do, and those of `interrupted.rs`.
async fn on_a_small_disk(place: fn(&Node) -> PathBuf) -> Option<(Node, Plugin, [Claim; 2])> {
    let mut node = Node::new(AGENT, "dgx-h100");
    let directory = place(&node);
    if !node.mount_small(&directory, 32) {
        eprintln!("skipped: mounting is not allowed here");
        return None;
    }
    let plugin = node.start().await;
    let claims = [node.allocated("bystander", GPUS[7]), node.allocated("held", GPUS[6])];
    for claim in &claims {
        plugin.prepare(claim).await.unwrap();
    }
    Some((node, plugin, claims))
}

/// Takes all the space that is left on the disk of a directory.
fn fill(directory: &Path) {
    let mut filling = fs::OpenOptions::new().create(true).append(true).open(directory.join("filling")).unwrap();
    while filling.write_all(&[0; 4096]).is_ok() {}
}

/// The claims' files, byte for byte, and nothing else but what fills the disk.
fn claims_files(node: &Node, claims: &[&Claim]) -> Vec<Vec<u8>> {
    let paths = claims.iter().flat_map(|claim| [node.spec_path(claim), node.record_path(claim)]);
    let files: Vec<_> = paths.map(|path| fs::read(path).unwrap()).collect();
    let names = node.specs().into_iter().chain(node.records()).filter(|name| name != "filling");
    assert_eq!(names.count(), files.len(), "{:?} {:?}", node.specs(), node.records());
    files
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    for place in PLACES {
        let Some((mut node, mut plugin, [bystander, held])) = on_a_small_disk(place).await else { return };
        let (claim, directory) = (node.allocated("training", GPUS[0]), place(&node));
        let answer = plugin.prepare(&bystander).await.unwrap();
        let files = claims_files(&node, &[&bystander, &held]);
        fill(&directory);
        // The next agent finds it full.
        for kill in [false, true] {
            if kill {
                node.kill().await;
                plugin = node.start().await;
            }
            let refusal = plugin.prepare(&claim).await.unwrap_err();
            assert!(refusal.contains("No space left on device") && refusal.len() < 256, "{refusal}");
            assert!(refusal.contains(&*directory.to_string_lossy()), "{refusal}");
            assert_eq!(plugin.prepare(&bystander).await.unwrap(), answer);
            assert_eq!(claims_files(&node, &[&bystander, &held]), files);
        }
        // What frees space needs none.
        plugin.unprepare(&held).await.unwrap();
        assert_eq!(claims_files(&node, &[&bystander]), files[..2]);
        fs::remove_file(directory.join("filling")).unwrap();
        plugin.prepare(&claim).await.unwrap();
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(claims_files(&node, &[&bystander]), files[..2]);
    }
}

#[tokio::test]
async fn a_read_only_cdi_directory_is_told_and_nothing_is_half_done() {
    let Some((mut node, mut plugin, [bystander, held])) = on_a_small_disk(Node::cdi_dir).await else { return };
    let (claim, directory) = (node.allocated("training", GPUS[0]), node.cdi_dir());
    let answer = plugin.prepare(&bystander).await.unwrap();
    let files = claims_files(&node, &[&bystander, &held]);
    node.set_read_only(&directory, true);
    for kill in [false, true] {
        if kill {
            node.kill().await;
            plugin = node.start().await;
        }
        for refusal in [plugin.prepare(&claim).await.unwrap_err(), plugin.unprepare(&held).await.unwrap_err()] {
            assert!(refusal.contains("Read-only file system") && refusal.len() < 256, "{refusal}");
            assert!(refusal.contains(&*directory.to_string_lossy()), "{refusal}");
        }
        // What was never prepared needs nothing to be undone.
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(plugin.prepare(&bystander).await.unwrap(), answer);
        assert_eq!(claims_files(&node, &[&bystander, &held]), files);
    }
    node.set_read_only(&directory, false);
    plugin.unprepare(&held).await.unwrap();
    plugin.prepare(&claim).await.unwrap();
    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(claims_files(&node, &[&bystander]), files[..2]);
}

/// Only between two agents: a disk with a file that is open for writing cannot be made read-only.
#[tokio::test]
async fn a_read_only_state_directory_is_told_and_loses_nothing() {
    let Some((mut node, plugin, [bystander, held])) = on_a_small_disk(Node::state_dir).await else { return };
    let answer = plugin.prepare(&bystander).await.unwrap();
    let files = claims_files(&node, &[&bystander, &held]);
    node.kill().await;
    let directory = node.state_dir();
    node.set_read_only(&directory, true);
    node.start_agent(&[]);
    assert!(!node.ended().await.success());
    let log = node.agent().log();
    assert!(log.contains("--state-dir") && log.contains("Read-only file system"), "{log}");
    assert_eq!(claims_files(&node, &[&bystander, &held]), files);
    node.set_read_only(&directory, false);
    let plugin = node.start().await;
    assert_eq!(plugin.prepare(&bystander).await.unwrap(), answer);
    plugin.unprepare(&held).await.unwrap();
    assert_eq!(claims_files(&node, &[&bystander]), files[..2]);
}

#[tokio::test]
async fn sixty_four_callers_leave_nothing_behind() {
    let (node, plugin) = node().await;
    let callers = (0..64).map(|caller| {
        let (plugin, gpu) = (plugin.clone(), caller % 8);
        let claims: Vec<_> =
            (0..6).map(|number| node.allocated(&format!("claim-{caller}-{number}"), GPUS[gpu])).collect();
        tokio::spawn(async move {
            let mut prepared = 0;
            for claim in claims {
                match prepare_once_answered(&plugin, &claim).await.unwrap() {
                    Ok(devices) => {
                        assert_eq!(devices[0].device_name, GPUS[gpu]);
                        prepared += 1;
                    }
                    Err(refusal) => assert!(refusal.contains("is still held by claim"), "{refusal}"),
                }
                plugin.unprepare(&claim).await.unwrap();
            }
            prepared
        })
    });
    let prepared: Vec<i32> = futures::future::join_all(callers).await.into_iter().map(Result::unwrap).collect();
    assert!(prepared.iter().sum::<i32>() >= 8, "{prepared:?}");
    assert_nothing_left(&node);
    node.wait("no claim in the metrics", |node| {
        let (_, metrics) = node.http("/metrics")?;
        metrics.contains("tessera_claims_prepared{driver=\"gpu.nvidia.com\"} 0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_claim_many_times_at_once_is_one_claim() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let calls = (0..32).map(|_| {
        let (plugin, claim) = (plugin.clone(), claim.clone());
        async move { plugin.prepare(&claim).await.unwrap() }
    });
    let answers = futures::future::join_all(calls).await;
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(node.api.requests().of("get", Resource::Claims), 1);
    assert_eq!(node.specs().len(), 1);
}
