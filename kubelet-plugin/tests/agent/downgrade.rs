//! An earlier release of the agent takes over from this one, and this one again from it.

use std::path::PathBuf;

use testkit::{Claim, GPUS, Node, Plugin};

use crate::{AGENT, assert_nothing_left, node};

/// The next agent, of any release, after this one was stopped or killed.
async fn next(node: &mut Node, program: &str, kill: bool) -> Plugin {
    if kill {
        node.kill().await
    } else {
        node.stop().await
    };
    node.install_agent(program.as_ref());
    node.start().await
}

/// Run only when `TESSERA_PREVIOUS_AGENT` names the program `tessera-agent` of an earlier release:
///
/// ```text
/// TESSERA_PREVIOUS_AGENT=/path/to/tessera-agent cargo test -p tessera-agent --test agent downgrade -- --nocapture
/// ```
#[tokio::test]
async fn an_earlier_release_goes_on_with_what_this_one_left() {
    let Some(previous) = std::env::var_os("TESSERA_PREVIOUS_AGENT").map(PathBuf::from) else {
        return eprintln!("skipped: TESSERA_PREVIOUS_AGENT names no earlier release");
    };
    let previous = previous.to_str().expect("a path in UTF-8");
    for kill in [false, true] {
        let how = if kill { "killed" } else { "stopped" };
        let (mut node, newer) = node().await;
        let pair = node.known(Claim::new("pair").device("a", GPUS[2]).device("b", GPUS[3]));
        let claims = [node.allocated("kept", GPUS[0]), node.allocated("undone", GPUS[1]), pair];
        let mut answers = Vec::new();
        for claim in &claims {
            answers.push(newer.prepare(claim).await.unwrap());
        }
        let specs = claims.each_ref().map(|claim| node.spec(claim));
        println!("this release prepared 3 claims and was {how}");

        let older = next(&mut node, previous, kill).await;
        for (claim, answer) in claims.iter().zip(&answers) {
            assert_eq!(older.prepare(claim).await.unwrap(), *answer, "{}", claim.name);
        }
        assert_eq!(claims.each_ref().map(|claim| node.spec(claim)), specs);
        let taken = older.prepare(&node.allocated("taker", GPUS[0])).await.unwrap_err();
        assert!(taken.contains("team/kept"), "{taken}");
        older.unprepare(&claims[1]).await.unwrap();
        assert!(node.spec(&claims[1]).is_none() && !node.record_path(&claims[1]).exists());
        let own = node.allocated("own", GPUS[1]);
        let own_answer = older.prepare(&own).await.unwrap();
        println!("the earlier one gave the same answers, undid one claim, prepared another and was {how}");

        let newer = next(&mut node, AGENT, kill).await;
        for (claim, answer) in [(&claims[0], &answers[0]), (&claims[2], &answers[2]), (&own, &own_answer)] {
            assert_eq!(newer.prepare(claim).await.unwrap(), *answer, "{}", claim.name);
            newer.unprepare(claim).await.unwrap();
        }
        assert_nothing_left(&node);
        let set_aside = node.log().matches("RecordSetAside").count();
        println!("this release gave the same answers and undid the rest; {set_aside} records were set aside\n");
        assert_eq!(set_aside, 0);
    }
}
