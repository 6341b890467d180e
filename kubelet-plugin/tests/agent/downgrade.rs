//! An earlier release of the agent takes over from this one, and this one again from it. Run only when
//! `TESSERA_PREVIOUS_AGENT` names the program `tessera-agent` of an earlier release:
//!
//! ```text
//! TESSERA_PREVIOUS_AGENT=/path/to/tessera-agent cargo test -p tessera-agent --test agent downgrade -- --nocapture
//! ```

use std::path::Path;

use testkit::{Agent, Claim, GPUS, Node, Plugin};

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

/// The earlier release's program, if there is one.
fn previous() -> Option<String> {
    let previous = std::env::var("TESSERA_PREVIOUS_AGENT").ok();
    if previous.is_none() {
        eprintln!("skipped: TESSERA_PREVIOUS_AGENT names no earlier release");
    }
    previous
}

#[tokio::test]
async fn an_earlier_release_goes_on_with_what_this_one_left() {
    let Some(previous) = previous() else { return };
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

        let older = next(&mut node, &previous, kill).await;
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

/// As when a DaemonSet replaces its pods: for a while both are alive, and the kubelet may call either.
#[tokio::test]
async fn an_earlier_release_and_this_one_share_a_ledger() {
    let Some(previous) = previous() else { return };
    let (mut node, this) = node().await;
    let [one, two] = [node.allocated("one", GPUS[0]), node.allocated("two", GPUS[1])];
    let answer = this.prepare(&one).await.unwrap();

    let registered = node.kubelet().registrations().len();
    let arguments = [node.arguments(), ["--instance", "earlier"].map(str::to_owned).to_vec()].concat();
    let _earlier_agent = Agent::start(Path::new(&previous), &arguments, &node.path("earlier.log"));
    let last = node.kubelet().registration(registered + 1, testkit::PATIENCE).await;
    let earlier = Plugin::connect(Path::new(&last.info.endpoint)).await;
    assert_eq!(earlier.prepare(&one).await.unwrap(), answer);
    let other = earlier.prepare(&two).await.unwrap();
    assert_eq!(this.prepare(&two).await.unwrap(), other);
    let taken = this.prepare(&node.allocated("taker", GPUS[1])).await.unwrap_err();
    assert!(taken.contains("team/two"), "{taken}");
    this.unprepare(&two).await.unwrap();
    earlier.unprepare(&one).await.unwrap();
    assert_nothing_left(&node);
    assert_eq!(this.prepare(&one).await.unwrap(), answer);
    // The device is this release's to give only while it knows of what the earlier one undid.
    earlier.unprepare(&one).await.unwrap();
    this.prepare(&node.allocated("next", GPUS[0])).await.unwrap();
    println!("both releases, alive at once, answered alike and undid each other's claims");
    node.kill().await;
    earlier.unprepare(&Claim::new("next")).await.unwrap();
    assert_nothing_left(&node);
}

/// A release that serves GPUs alone leaves what was prepared of other drivers as it is: containers use it.
#[tokio::test]
async fn an_earlier_release_of_fewer_drivers_touches_nothing_of_the_others() {
    const TPU: &str = "tpu.google.com";
    let Some(previous) = previous() else { return };
    let mut node = Node::new(&previous, "nvidia-tpu");
    let older = node.start().await;
    let gpu = node.allocated("before", "gpu-0000-41-00-0");
    let answer = older.prepare(&gpu).await.unwrap();

    node.stop().await;
    node.install_agent(AGENT.as_ref());
    node.start().await;
    assert_eq!(node.plugin_of(Claim::DRIVER).await.prepare(&gpu).await.unwrap(), answer);
    let chip = node.known(Claim::new("chip").device_of(TPU, "tpu", "tpu-0000-00-05-0"));
    let of_chip = node.plugin_of(TPU).await.prepare(&chip).await.unwrap();
    let files = (node.specs(), node.records_of(TPU));

    let older = next(&mut node, &previous, true).await;
    assert_eq!(older.prepare(&gpu).await.unwrap(), answer);
    assert_eq!((node.specs(), node.records_of(TPU)), files);

    next(&mut node, AGENT, true).await;
    let plugin = node.plugin_of(TPU).await;
    assert_eq!(plugin.prepare(&chip).await.unwrap(), of_chip);
    plugin.unprepare(&chip).await.unwrap();
    node.plugin_of(Claim::DRIVER).await.unprepare(&gpu).await.unwrap();
    assert_nothing_left(&node);
    assert_eq!(node.records_of(TPU), Vec::<String>::new());
    println!("an earlier release of one driver and this one took over from each other");
}
