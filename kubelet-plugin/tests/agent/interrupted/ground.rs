//! A node on which one claim is worked on while another one, prepared before, must not notice.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use interruptions::{Interruption, Seen, Watch};
use tessera_kubelet_api::dra_v1::Device;
use testkit::{Claim, GPUS, Node, Plugin};

use crate::{AGENT, node};

/// A claim that is prepared, with its files as they were written then.
pub(super) struct Prepared {
    pub(super) claim: Claim,
    pub(super) answer: Vec<Device>,
    spec: Vec<u8>,
    record: Vec<u8>,
}

impl Prepared {
    pub(super) async fn new(node: &Node, plugin: &Plugin, claim: Claim) -> Self {
        let answer = plugin.prepare(&claim).await.unwrap();
        let spec = fs::read(node.spec_path(&claim)).unwrap();
        let record = fs::read(node.record_path(&claim)).unwrap();
        Self { claim, answer, spec, record }
    }

    /// The names of its files: the spec's, then the record's.
    pub(super) fn files(&self, node: &Node) -> [String; 2] {
        let paths = [node.spec_path(&self.claim), node.record_path(&self.claim)];
        paths.map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
    }

    #[track_caller]
    pub(super) fn assert_untouched(&self, node: &Node) {
        let name = &self.claim.name;
        assert!(fs::read(node.spec_path(&self.claim)).is_ok_and(|now| now == self.spec), "the spec of {name}");
        assert!(fs::read(node.record_path(&self.claim)).is_ok_and(|now| now == self.record), "the record of {name}");
    }
}

pub(super) struct Ground {
    pub(super) node: Node,
    pub(super) plugin: Plugin,
    bystander: Prepared,
}

impl Ground {
    pub(super) async fn new() -> Self {
        let (node, plugin) = node().await;
        let bystander = Prepared::new(&node, &plugin, node.allocated("bystander", GPUS[7])).await;
        Self { node, plugin, bystander }
    }

    /// Watches the agent.
    pub(super) fn watch(&mut self, interruption: Interruption) -> Watch {
        watch(&mut self.node, interruption)
    }

    /// The next agent, after the last one was killed.
    pub(super) async fn restart_after_kill(&mut self) {
        assert_eq!(self.node.ended().await.signal(), Some(9));
        self.plugin = self.node.start().await;
    }

    #[track_caller]
    pub(super) fn assert_bystander_untouched(&self) {
        self.bystander.assert_untouched(&self.node);
    }

    /// `unfinished` are files that could not be removed while everything failed; the next agent clears them away.
    #[track_caller]
    pub(super) fn assert_nothing_left_but_bystander_and(&self, unfinished: &[String]) {
        let mut left: Vec<_> = self.node.specs().into_iter().chain(self.node.records()).collect();
        left.retain(|name| !unfinished.contains(name));
        assert_eq!(left, self.bystander.files(&self.node));
        self.assert_bystander_untouched();
    }

    /// The bystander has its answer, and the devices can be given to another claim.
    pub(super) async fn assert_all_in_order(&self, devices: &[&str]) {
        assert_eq!(self.plugin.prepare(&self.bystander.claim).await.as_ref(), Ok(&self.bystander.answer));
        assert_free(&self.node, &self.plugin, devices).await;
        self.assert_bystander_untouched();
    }
}

/// The devices can be given to a new claim, and be taken back.
pub(super) async fn assert_free(node: &Node, plugin: &Plugin, devices: &[&str]) {
    let heir = node.known(devices.iter().fold(Claim::new("heir"), |claim, device| claim.device("gpu", device)));
    plugin.prepare(&heir).await.unwrap();
    plugin.unprepare(&heir).await.unwrap();
}

/// Watches the agent of a node, whether it runs or is held.
pub(super) fn watch(node: &mut Node, interruption: Interruption) -> Watch {
    let directories = [node.cdi_dir(), node.state_dir()];
    Watch::start(node.agent().id(), &directories, interruption).unwrap()
}

/// Starts the agent of a node under watch. Says whether it became ready; if not, it has ended.
pub(super) async fn start_watched(node: &mut Node, interruption: Interruption) -> (bool, Seen) {
    let known = node.kubelet().registrations().len();
    node.hold_agent();
    let watch = watch(node, interruption);
    node.agent().release();
    let ready = node
        .wait("ready or ended", |node| match watch.has_ended() {
            true => Some(false),
            false => node.ready_after(known).map(|()| true),
        })
        .await;
    let seen = watch.end().unwrap();
    (ready, seen)
}

/// A node with a kubelet on which no agent has started yet.
pub(super) fn untouched_node() -> Node {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    node
}
