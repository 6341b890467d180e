//! The node reboots: of what was prepared nothing exists any more, while the kubelet's checkpoint still knows of it all.

use std::collections::BTreeSet;
use std::fs;

use testkit::api_server::Resource;
use testkit::kubelet::{Pod, PreparedClaim, Settings, Version};
use testkit::{Claim, GPUS, Node};

use crate::restart::of_another_boot;
use crate::{AGENT, assert_nothing_left};

/// What a reboot leaves of the agent's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// They were in memory, as is intended.
    Nothing,
    /// They were on a disk.
    Everything,
}

/// The power goes, and comes back with the GPUs numbered anew. Neither kubelet nor agent run yet.
async fn reboot(node: &mut Node, claims: &[&Claim], left: Left) {
    node.kubelet().stop();
    node.kill().await;
    match left {
        Left::Nothing => {
            for directory in [node.cdi_dir(), node.state_dir()] {
                fs::remove_dir_all(&directory).unwrap();
                fs::create_dir(&directory).unwrap();
            }
        }
        Left::Everything => {
            for path in claims.iter().map(|claim| node.record_path(claim)) {
                fs::write(&path, of_another_boot(&fs::read_to_string(&path).unwrap())).unwrap();
            }
        }
    }
    node.hardware("reboot");
    node.hardware("set 0 minor=9");
}

/// What the runtime is told of a pod's claims. Kubelets before 1.37 keep what is in the checkpoint beside the new answer.
fn given(claims: &[PreparedClaim]) -> Vec<BTreeSet<&str>> {
    claims.iter().map(|claim| claim.cdi_ids(None).into_iter().collect()).collect()
}

async fn registered(node: &Node) {
    node.wait("the agent", |node| (!node.kubelet().endpoints(Claim::DRIVER).is_empty()).then_some(())).await;
}

#[tokio::test]
async fn after_a_reboot_every_call_of_the_kubelet_succeeds() {
    for (version, left) in [
        (Version::V1_34, Left::Nothing),
        (Version::V1_34, Left::Everything),
        (Version::V1_37, Left::Nothing),
        (Version::V1_37, Left::Everything),
    ] {
        println!("{version:?}, {left:?}");
        let mut node = Node::new(AGENT, "dgx-h100");
        node.start_kubelet_as(Settings::of(version));
        node.start_agent(&[]);
        registered(&node).await;
        let claims = ["first", "second", "ended", "deleted"];
        let claims: Vec<_> = claims.iter().zip(GPUS).map(|(name, gpu)| node.allocated(name, gpu)).collect();
        let [first, second, ended, deleted] = &claims[..] else { panic!("four claims") };
        let pods = [
            Pod::new("running").claim(first).claim(second),
            Pod::new("ended").claim(ended),
            Pod::new("deleted").claim(deleted),
        ];
        let mut answers = Vec::new();
        for pod in &pods {
            answers.push(node.kubelet().pod_runs(pod).await);
        }
        let spec = node.spec(first).unwrap();

        reboot(&mut node, &[first, second, ended, deleted], left).await;
        // Meanwhile the pod was deleted by force, and its claim with it.
        node.kubelet().force_delete(&pods[2]);
        node.api.delete(Resource::Claims, "team", "deleted");
        let calls = node.kubelet().calls().len();
        node.kubelet().restart();
        node.start_agent(&[]);
        registered(&node).await;
        assert_nothing_left(&node);

        // The pod that goes on gets a new sandbox, and the same devices as they are now.
        // Tried again, as the kubelet does: it may still know the agent of before the reboot.
        assert_eq!(given(&node.kubelet().pod_runs(&pods[0]).await), given(&answers[0]));
        let text = spec.to_string();
        assert!(text.contains("/dev/nvidia0\""), "{text}");
        let anew = text.replace("/dev/nvidia0\"", "/dev/nvidia9\"");
        assert_eq!(node.spec(first).unwrap().to_string(), anew);
        // What the deleted pod had is free, and stays its next owner's when the kubelet undoes it at last.
        let next = node.allocated("next", GPUS[3]);
        let next_pod = Pod::new("next").claim(&next);
        node.kubelet().run_pod(&next_pod).await.unwrap();
        node.kubelet().reconcile().await.unwrap();
        assert!(node.spec(&next).is_some() && node.record_path(&next).exists());

        node.kubelet().end_pod(&pods[1]).await.unwrap();
        node.api.delete(Resource::Claims, "team", "first");
        node.kubelet().end_pod(&pods[0]).await.unwrap();
        node.kubelet().end_pod(&next_pod).await.unwrap();
        let failed: Vec<_> =
            node.kubelet().calls().split_off(calls).into_iter().filter(|c| c.error.is_some()).collect();
        assert!(failed.is_empty(), "{failed:#?}");
        assert_nothing_left(&node);
        let notes = |node: &Node| -> Vec<_> {
            let told = node.api.events().into_iter().filter(|(reason, _)| reason == "ClaimsForgottenAfterReboot");
            told.map(|(_, note)| note).collect()
        };
        match left {
            Left::Nothing => assert_eq!(notes(&node), [""; 0]),
            Left::Everything => {
                let notes = node.wait("the event", |node| Some(notes(node)).filter(|notes| !notes.is_empty())).await;
                assert!(notes.len() == 1 && notes[0].starts_with("gpu.nvidia.com: 4 claims"), "{notes:?}");
            }
        }
    }
}
