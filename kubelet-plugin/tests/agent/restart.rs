//! The agent ends, well or badly, and another one takes over.

use serde_json::json;
use testkit::{Claim, GPUS, Node, Plugin};

use crate::{assert_nothing_left, node};

async fn next_agent(node: &mut Node, kill: bool) -> Plugin {
    if kill {
        node.kill().await
    } else {
        node.stop().await
    };
    node.start().await
}

#[tokio::test]
async fn claims_outlive_the_agent() {
    let (mut node, mut plugin) = node().await;
    for kill in [false, true] {
        let claim = node.allocated("training", GPUS[0]);
        let answer = plugin.prepare(&claim).await.unwrap();
        let spec = node.spec(&claim);
        // A repeated call, without the API server's help.
        node.api.delete(testkit::api_server::Resource::Claims, "team", "training");
        plugin = next_agent(&mut node, kill).await;
        assert_eq!(plugin.prepare(&claim).await.unwrap(), answer, "killed: {kill}");
        assert_eq!(node.spec(&claim), spec, "killed: {kill}");
        // The device is still taken.
        assert!(plugin.prepare(&node.allocated("second", GPUS[0])).await.unwrap_err().contains("team/training"));
        plugin = next_agent(&mut node, kill).await;
        plugin.unprepare(&claim).await.unwrap();
        assert_nothing_left(&node);
    }
}

#[tokio::test]
async fn the_next_agent_mends_what_running_containers_need() {
    let (mut node, plugin) = node().await;
    let claims = [node.allocated("lost", GPUS[0]), node.allocated("damaged", GPUS[1])];
    for claim in &claims {
        plugin.prepare(claim).await.unwrap();
    }
    let specs = claims.each_ref().map(|claim| node.spec(claim));
    node.kill().await;
    std::fs::remove_file(node.spec_path(&claims[0])).unwrap();
    std::fs::write(node.spec_path(&claims[1]), "{").unwrap();
    node.start().await;
    assert_eq!(claims.each_ref().map(|claim| node.spec(claim)), specs);
}

#[tokio::test]
async fn the_next_agent_clears_away_what_nobody_owns() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    node.kill().await;
    let foreign = json!({"cdiVersion": "0.5.0", "kind": "example.com/nic",
                         "devices": [{"name": "nic0", "containerEdits": {"env": ["NIC=0"]}}]});
    std::fs::copy(node.spec_path(&claim), node.spec_path(&Claim::new("forgotten"))).unwrap();
    std::fs::write(node.cdi_dir().join("example.com-nic.json"), foreign.to_string()).unwrap();
    // What a crash in the middle of a write leaves.
    std::fs::write(node.cdi_dir().join(".tessera-1-0.tmp"), "half").unwrap();
    std::fs::write(node.record_path(&claim).with_file_name("half.tmp"), "half").unwrap();
    node.start().await;
    let own = node.spec_path(&claim).file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(node.specs(), ["example.com-nic.json", &own]);
    assert_eq!(node.records(), [format!("{}.record", claim.uid)]);
}

/// Needs root for the mount.
#[tokio::test]
async fn a_full_disk_does_not_keep_the_next_agent_from_starting() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let answer = plugin.prepare(&claim).await.unwrap();
    node.kill().await;
    let directory = node.cdi_dir();
    if !node.mount_small(&directory, 4) {
        eprintln!("skipped: mounting is not allowed here");
        return;
    }
    std::fs::write(directory.join("filling"), [0; 4096]).unwrap();
    let plugin = node.start().await;
    assert!(plugin.prepare(&claim).await.unwrap_err().contains("No space left on device"));
    std::fs::remove_file(directory.join("filling")).unwrap();
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    assert!(node.spec(&claim).is_some());
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_claim_prepared_anew() {
    let (mut node, plugin) = node().await;
    let (claim, other) = (node.allocated("training", GPUS[0]), node.allocated("other", GPUS[1]));
    let answer = plugin.prepare(&claim).await.unwrap();
    plugin.prepare(&other).await.unwrap();
    node.kill().await;
    let mut bytes = std::fs::read(node.record_path(&claim)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(node.record_path(&claim), bytes).unwrap();
    let plugin = node.start().await;
    let kept = node.record_path(&claim).with_extension("unreadable");
    assert!(kept.exists(), "{:?}", node.records());
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    plugin.prepare(&other).await.unwrap();
    assert!(node.log().contains("RecordSetAside"));
}

/// A record as it would be after a reboot on a disk that outlives it: of another boot, and well formed.
pub(crate) fn of_another_boot(record: &str) -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (header, json) = record.split_once('\n').unwrap();
    let json = json.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    let format = header.split_once(' ').unwrap().0;
    format!("{format} crc32:{:08x}\n{json}", crc32fast::hash(json.as_bytes()))
}

#[tokio::test]
async fn claims_of_the_last_boot_are_forgotten() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    node.stop().await;
    let text = std::fs::read_to_string(node.record_path(&claim)).unwrap();
    std::fs::write(node.record_path(&claim), of_another_boot(&text)).unwrap();
    node.start().await;
    assert_nothing_left(&node);
}

#[tokio::test]
async fn crashes_in_the_middle_of_calls_leave_nothing_behind() {
    let (mut node, mut plugin) = node().await;
    let claims: Vec<_> = (0..8).map(|gpu| node.allocated(&format!("claim-{gpu}"), GPUS[gpu])).collect();
    for round in 0..6 {
        // Killed while calls are under way, at another moment each time.
        let all: Vec<_> = claims.iter().collect();
        let under_way = async {
            for _ in 0..50 {
                let _ = plugin.prepare_all(&all).await;
                let _ = plugin.unprepare_all(&all).await;
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_millis(7 + 13 * round), under_way).await;
        plugin = next_agent(&mut node, true).await;
        let answers = plugin.prepare_all(&all).await.unwrap();
        assert!(answers.values().all(Result::is_ok), "round {round}: {answers:?}");
        assert_eq!(node.specs().len(), 8, "round {round}");
        let answers = plugin.unprepare_all(&all).await.unwrap();
        assert!(answers.values().all(Result::is_ok), "round {round}: {answers:?}");
        assert_nothing_left(&node);
    }
}
