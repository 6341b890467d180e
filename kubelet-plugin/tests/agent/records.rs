//! State files of every kind that an agent may find: from another release, and damaged.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;
use testkit::kubelet::Answer;
use testkit::{Claim, GPUS, Node};

use crate::{AGENT, assert_nothing_left};

/// Records that other releases wrote, for a claim of a node that is not there.
const OLDEST: &str = include_str!("../../core/src/fixtures/record-0.1.0");
const NEWER: &str = include_str!("../../core/src/fixtures/record-with-unknown-fields");

/// The same record for this boot, a claim and a device, in a format of this number.
fn adopted(fixture: &str, claim: &Claim, device: &str, format: u32) -> Vec<u8> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let json = fixture.split_once('\n').unwrap().1;
    let json = json.replace("\"boot_id\":\"boot\"", &format!("\"boot_id\":\"{}\"", boot.trim()));
    let json = json.replace("uid-1", &claim.uid).replace("gpu-0000-01-00-0", device);
    let json = json.replace("\"name\":\"training\"", &format!("\"name\":\"{}\"", claim.name));
    format!("tessera-record/{format} crc32:{:08x}\n{json}", crc32fast::hash(json.as_bytes())).into_bytes()
}

#[tokio::test]
async fn whatever_lies_in_the_state_directory_the_agent_starts_and_serves() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let names = ["oldest", "newer", "truncated", "garbled", "empty", "later"];
    let claims: Vec<_> = names.iter().zip(GPUS).map(|(name, gpu)| node.allocated(name, gpu)).collect();
    let [oldest, newer, ..] = &claims[..] else { panic!("six claims") };
    let whole = |number: usize, fixture| adopted(fixture, &claims[number], GPUS[number], 1);
    let half = whole(2, OLDEST);
    let files = [
        whole(0, OLDEST),
        whole(1, NEWER),
        half[..half.len() / 2].to_vec(),
        vec![0xff, 0x00, 0x0a, 0x7b, 0xfe],
        Vec::new(),
        adopted(NEWER, &claims[5], GPUS[5], 2),
    ];
    fs::create_dir_all(node.state_dir().join(Claim::DRIVER)).unwrap();
    for (claim, bytes) in claims.iter().zip(&files) {
        fs::write(node.record_path(claim), bytes).unwrap();
    }
    // What agents share is there too, and no better.
    fs::write(node.state_dir().join(Claim::DRIVER).join("changes"), "x").unwrap();
    node.start_agent(&["--reconcile", "0.2"]);
    node.wait("the agent", |node| node.ready_after(0)).await;
    let plugin = node.connect().await;

    // Four cannot be read; each is told, and kept for a person to look at.
    let aside = |node: &Node| -> BTreeSet<String> {
        let told = node.api.events().into_iter().filter(|(reason, _)| reason == "RecordSetAside");
        told.map(|(_, note)| note).collect()
    };
    node.wait("four events", |node| (aside(node).len() == 4).then_some(())).await;
    for claim in &claims[2..] {
        assert!(aside(&node).iter().any(|note| note.contains(&format!("{}.unreadable", claim.uid))));
    }
    let later = aside(&node).into_iter().find(|note| note.contains(&claims[5].uid)).unwrap();
    assert!(later.contains("tessera-record/2") && later.contains("expected \"tessera-record/1"), "{later}");
    let (_, metrics) = node.http("/metrics").unwrap();
    assert!(metrics.contains(r#"reason="RecordSetAside"} 4"#), "{metrics}");

    // What other releases prepared is answered as they did, and its specs are there.
    for (claim, gpu) in [(oldest, GPUS[0]), (newer, GPUS[1])] {
        let devices = plugin.prepare(claim).await.unwrap();
        let id = format!("tessera.gpu.nvidia.com/claim={gpu}_{}", claim.uid);
        assert_eq!((devices.len(), &devices[0].cdi_device_ids), (1, &vec![id]));
        assert!(node.spec(claim).is_some());
        let taken = plugin.prepare(&node.allocated("taker", gpu)).await.unwrap_err();
        assert!(taken.contains(&claim.name), "{taken}");
    }
    // The others are made anew when the kubelet asks.
    for claim in &claims[2..] {
        assert_eq!(plugin.prepare(claim).await.unwrap().len(), 1);
    }

    // What this release does not know outlives that it writes the record and the spec again.
    let spec = node.spec(newer).unwrap();
    assert_eq!(spec["devices"][0]["containerEdits"]["newEdit"], json!(["y"]));
    fs::remove_file(node.record_path(newer)).unwrap();
    fs::write(node.spec_path(newer), "{}").unwrap();
    node.wait("the record", |node| (fs::read(node.record_path(newer)).ok()? == files[1]).then_some(())).await;
    node.wait("the spec", |node| (node.spec(newer)? == spec).then_some(())).await;

    for claim in &claims {
        plugin.unprepare(claim).await.unwrap();
    }
    assert_nothing_left(&node);
}
