//! What goes wrong around a claim: the API server, the disk, many callers at once.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use testkit::api_server::{Fault, Resource};
use testkit::{Claim, GPUS, Node};

use crate::{assert_nothing_left, node};

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
    let asked = Instant::now();
    let waiting = tokio::spawn({
        let (plugin, claim) = (plugin.clone(), claim.clone());
        async move { plugin.prepare(&claim).await }
    });
    node.wait("the GET", |node| (node.api.requests().of("get", Resource::Claims) == 1).then_some(())).await;
    plugin.prepare(&other).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "one claim must not wait for another: {:?}", asked.elapsed());
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

/// Needs root for the mount; without it the test above has to do.
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_half_written() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let places: [fn(&Node) -> PathBuf; 2] = [Node::cdi_dir, |node| node.state_dir().join(Claim::DRIVER)];
    for place in places {
        let directory = place(&node);
        if !node.mount_small(&directory, 4) {
            eprintln!("skipped: mounting is not allowed here");
            return;
        }
        fs::write(directory.join("filling"), [0; 4096]).unwrap();
        let refusal = plugin.prepare(&claim).await.unwrap_err();
        assert!(refusal.contains("No space left on device") && refusal.len() < 256, "{refusal}");
        let left: Vec<_> = node.specs().into_iter().chain(node.records()).filter(|name| name != "filling").collect();
        assert!(left.is_empty(), "{left:?}");
        fs::remove_file(directory.join("filling")).unwrap();
        plugin.prepare(&claim).await.unwrap();
        plugin.unprepare(&claim).await.unwrap();
        assert_nothing_left(&node);
        node.unmount(&directory);
    }
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
                match plugin.prepare(&claim).await {
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
