//! `tessera-agent inspect`, and what it says of a driver that cannot be used.

use std::fs;

use testkit::Node;

use crate::AGENT;

#[tokio::test]
async fn what_a_node_has() {
    for profile in ["dgx-h100", "mixed"] {
        let node = Node::new(AGENT, profile);
        for output in ["table", "json", "slices"] {
            let printed = node.run(&["inspect", "--output", output]);
            assert!(printed.success && printed.stderr.is_empty(), "{profile} {output}: {printed:?}");
            insta::assert_snapshot!(format!("{profile}_{output}"), node.anonymous(&printed.stdout));
        }
    }
}

#[tokio::test]
async fn a_driver_that_cannot_be_used_is_told() {
    let node = Node::new(AGENT, "dgx-h100");
    let library = node.machine().library().canonicalize().unwrap();
    let good = fs::read(&library).unwrap();
    // e_machine of the ELF header; 2 is SPARC.
    let mut foreign = good.clone();
    foreign[18..20].copy_from_slice(&[2, 0]);
    let without_driver = Node::without_driver(AGENT);
    let mut texts = vec![said("no driver", &without_driver)];
    for (what, content) in
        [("another machine's", foreign), ("a text", b"not a library\n".to_vec()), ("empty", Vec::new())]
    {
        replace(&library, &content);
        texts.push(said(what, &node));
    }
    replace(&library, &good);
    for fault in ["DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION", "UNKNOWN"] {
        node.hardware(&format!("set fail=nvmlInitWithFlags:{fault}"));
        texts.push(said(fault, &node));
        node.hardware("set fail=none");
    }
    insta::assert_json_snapshot!(texts);
    assert!(node.run(&["inspect"]).success);
}

/// In the library's place, under another inode, as an upgrade does it.
fn replace(library: &std::path::Path, content: &[u8]) {
    let aside = library.with_extension("new");
    fs::write(&aside, content).unwrap();
    fs::rename(aside, library).unwrap();
}

fn said(what: &str, node: &Node) -> String {
    let output = node.run(&["inspect"]);
    assert!(!output.success && output.stdout.is_empty(), "{what}: {output:?}");
    format!("{what}: {}", node.anonymous(output.stderr.trim_end()))
}

#[tokio::test]
async fn one_silent_gpu_hides_no_other() {
    let node = Node::new(AGENT, "dgx-h100");
    node.hardware("set 3 fail=nvmlDeviceGetUUID:GPU_IS_LOST");
    let output = node.run(&["inspect"]);
    assert!(output.success);
    assert_eq!(output.stdout.lines().count(), 8, "a head and seven GPUs:\n{}", output.stdout);
    insta::assert_snapshot!(output.stderr.trim_end());
}
