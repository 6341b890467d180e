//! A node on which one claim is worked on while another one, prepared before, must not notice.

use interruptions::{Interruption, Seen, Watch};
use serde_json::Value;
use simulated_hardware::{Profile, SYSFS_BELOW_KERNEL};
use simulated_sysfs::{Mounted, Setup};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use tessera_kubelet_api::dra_v1::Device;
use testkit::{Claim, GPUS, Node, Plugin};

use super::rest::Rest;
use crate::{AGENT, prepare_once_seen};

/// What is offered on a node besides whole GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Nothing,
    PartitionsAndGroups,
    /// Under a kernel that binds and unbinds.
    Passthrough,
}

impl Offered {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::PartitionsAndGroups => &["--offer", "partitions,groups", "--rescan", "0.5"],
            Self::Passthrough => &["--offer", "passthrough", "--rescan", "0.2"],
        }
    }
}

/// A claim that is prepared, with its files as they were written then.
pub(super) struct Prepared {
    pub(super) claim: Claim,
    pub(super) answer: Vec<Device>,
    spec: Vec<u8>,
    record: Value,
}

impl Prepared {
    pub(super) async fn new(node: &Node, plugin: &Plugin, claim: Claim) -> Self {
        let answer = plugin.prepare(&claim).await.unwrap();
        let spec = fs::read(node.spec_path(&claim)).unwrap();
        let record = record(node, &claim).unwrap();
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
        assert_eq!(record(node, &self.claim).as_ref(), Some(&self.record), "the record of {name}");
    }
}

/// A claim's record, if it can be read, without what differs each time that the same is prepared: how the driver knows
/// what was made, and how it was published by an agent that has only seen what user space has.
fn record(node: &Node, claim: &Claim) -> Option<Value> {
    let bytes = fs::read(node.record_path(claim)).ok()?;
    // The first line is a checksum of the rest.
    let json = bytes.splitn(2, |byte| *byte == b'\n').nth(1)?;
    let mut record: Value = serde_json::from_slice(json).ok()?;
    for device in record["devices"].as_array_mut()? {
        device["published_as"] = Value::Null;
        let outcomes = device["outcomes"].as_array_mut().into_iter().flatten();
        outcomes.filter_map(|outcome| outcome.get_mut("cut")).for_each(|made| *made = Value::Null);
    }
    Some(record)
}

pub(super) struct Ground {
    // Before the node: it gives the rendered tree back.
    _kernel: Option<Mounted>,
    pub(super) node: Node,
    pub(super) plugin: Plugin,
    flags: Vec<&'static str>,
    bystander: Prepared,
    rest: Rest,
}

impl Ground {
    pub(super) async fn new(offered: Offered) -> Self {
        Self::with(offered, &[]).await
    }

    /// With these flags of the agent besides.
    pub(super) async fn with(offered: Offered, more: &[&'static str]) -> Self {
        let mut node = small_node();
        let kernel = (offered == Offered::Passthrough).then(|| {
            // A procfs without processes: to look through those of this machine takes seconds under a watch.
            fs::create_dir(node.root().join("proc/self")).unwrap();
            Mounted::boot(&node.root(), Setup::default()).unwrap()
        });
        let rest = Rest::of(&node);
        let flags = [offered.flags(), more].concat();
        let plugin = start(&mut node, &flags).await;
        let bystander = Prepared::new(&node, &plugin, node.allocated("bystander", GPUS[7])).await;
        Self { _kernel: kernel, node, plugin, flags, bystander, rest }
    }

    /// Watches the agent.
    pub(super) fn watch(&mut self, interruption: Interruption) -> Watch {
        watch(&mut self.node, interruption)
    }

    /// The next agent, after the last one was killed.
    pub(super) async fn restart_after_kill(&mut self) {
        assert_eq!(self.node.ended().await.signal(), Some(9));
        self.restart().await;
    }

    /// The next agent.
    pub(super) async fn restart(&mut self) {
        self.plugin = start(&mut self.node, &self.flags).await;
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

    /// Nothing of what was done to the hardware is left, but that a GPU that nobody uses may still be one that can be cut.
    #[track_caller]
    pub(super) fn assert_nothing_done(&self) {
        assert_eq!(Rest::of(&self.node).without_modes(), self.rest.without_modes());
    }

    /// The bystander has its answer, the devices can be given to another claim, and then the hardware is as it was.
    pub(super) async fn assert_all_in_order(&self, devices: &[&str]) {
        assert_eq!(self.plugin.prepare(&self.bystander.claim).await.as_ref(), Ok(&self.bystander.answer));
        assert_free(&self.node, &self.plugin, devices).await;
        self.assert_bystander_untouched();
        assert_eq!(Rest::of(&self.node), self.rest);
    }
}

/// The devices can be given to a new claim, and be taken back.
pub(super) async fn assert_free(node: &Node, plugin: &Plugin, devices: &[&str]) {
    let heir = node.known(devices.iter().fold(Claim::new("heir"), |claim, device| claim.device("gpu", device)));
    prepare_once_seen(plugin, &heir).await;
    plugin.unprepare(&heir).await.unwrap();
}

/// Watches the agent of a node, whether it runs or is held.
pub(super) fn watch(node: &mut Node, interruption: Interruption) -> Watch {
    // What is done to the hardware changes the driver's state, and the files of a kernel that is at work.
    let mut directories = vec![node.cdi_dir(), node.state_dir(), node.root().join("hardware.json")];
    if node.root().join(SYSFS_BELOW_KERNEL).exists() {
        directories.push(node.root().join("sys"));
    }
    Watch::start(node.agent().id(), &directories, interruption).unwrap()
}

/// Starts the agent of a node with these flags, and waits until it serves.
async fn start(node: &mut Node, flags: &[&str]) -> Plugin {
    let known = node.kubelet().registrations().len();
    node.start_agent(flags);
    node.wait("registered and ready", |node| node.ready_after(known)).await;
    node.connect().await
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

/// The same with two GPUs to work on and the bystander's: more of them are only more to look at.
fn small_node() -> Node {
    let mut profile = Profile::named("dgx-h100").unwrap();
    let (two, bystander) = (profile.gpus[..2].to_vec(), profile.gpus[7].clone());
    profile.gpus = [two, vec![bystander]].concat();
    let mut node = Node::without_driver(AGENT);
    node.install_driver(&profile);
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    node
}
