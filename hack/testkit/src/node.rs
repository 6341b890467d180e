//! A node for one test: hardware, API server, kubelet and the agent, below one temporary directory.

mod agent;
mod files;
mod http;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use simulated_hardware::{Machine, Profile};
use tempfile::TempDir;

use crate::api_server::Resource;
use crate::kubelet::{Answer, Cluster, Kubelet, Pace, Plugin, Settings, Version};
use crate::{ApiServer, Claim, PATIENCE, cdi_specs, until};
pub use agent::{Agent, Output};

/// The devices of a node with the profile `dgx-h100`, in the order of their PCI addresses.
pub const GPUS: [&str; 8] = [
    "gpu-0000-1b-00-0",
    "gpu-0000-43-00-0",
    "gpu-0000-52-00-0",
    "gpu-0000-61-00-0",
    "gpu-0000-9d-00-0",
    "gpu-0000-c3-00-0",
    "gpu-0000-d1-00-0",
    "gpu-0000-df-00-0",
];

/// A node that ends, with everything on it, when dropped. When a test panics, it prints the agent's log.
pub struct Node {
    // Fields are dropped in this order: processes first, the directory last.
    agent: Option<Agent>,
    kubelet: Option<Kubelet>,
    /// The API server.
    pub api: ApiServer,
    machine: Option<Machine>,
    mounts: Vec<PathBuf>,
    program: PathBuf,
    directory: TempDir,
}

impl Node {
    /// The name of its Node object.
    pub const NAME: &str = "node-1";
    /// The UID of its Node object.
    pub const UID: &str = "00de0000-0000-4000-8000-000000000001";

    /// A node with the simulated hardware of a profile, on which `program` is the agent. Starts no process.
    pub fn new(program: &str, profile: &str) -> Self {
        let mut node = Self::without_driver(program);
        node.install_driver(&Profile::named(profile).expect("a known profile"));
        node
    }

    /// A node on which no driver is installed yet.
    pub fn without_driver(program: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("tessera-").tempdir().unwrap();
        let node = Self {
            agent: None,
            kubelet: None,
            api: ApiServer::start(),
            machine: None,
            mounts: Vec::new(),
            program: program.into(),
            directory,
        };
        for made in [node.kubelet_dir().join("plugins_registry"), node.cdi_dir(), node.state_dir(), node.root()] {
            std::fs::create_dir_all(made).unwrap();
        }
        node.api.put_node(Self::NAME, Self::UID);
        node.api.write_kubeconfig(&node.path("kubeconfig"));
        node
    }

    /// Puts the hardware in and installs its driver.
    pub fn install_driver(&mut self, profile: &Profile) {
        let library = simulated_hardware::library().expect("cargo build -p fake-nvml");
        self.machine = Some(Machine::create(&self.root(), profile, &library).expect("simulated hardware"));
    }

    /// The simulated hardware.
    ///
    /// # Panics
    /// Before a driver is installed.
    pub fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("hardware")
    }

    /// Changes the hardware by a command such as `set 3 lost=true`.
    pub fn hardware(&self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        self.machine().run(&words).expect("a command that the hardware takes");
    }

    /// Starts a kubelet that confirms registrations, and the agent; gives back the connection to it once it is
    /// registered and its slices are published.
    pub async fn start(&mut self) -> Plugin {
        if self.kubelet.is_none() {
            self.start_kubelet(Answer::Confirm);
        }
        let known = self.kubelet().registrations().len();
        self.start_agent(&[]);
        self.wait("registered and ready", |node| node.ready_after(known)).await;
        self.connect().await
    }

    /// Whether the agent has registered since there were `known` registrations, and is ready.
    pub fn ready_after(&self, known: usize) -> Option<()> {
        let registered = self.kubelet().registrations().len() > known;
        (registered && self.http("/readyz").is_some_and(|(status, _)| status == 200)).then_some(())
    }

    /// Connects to the agent that registered last.
    ///
    /// # Panics
    /// When none has, or it is gone.
    pub async fn connect(&self) -> Plugin {
        let registrations = self.kubelet().registrations();
        let last = registrations.last().expect("a registration");
        Plugin::connect(Path::new(&last.info.endpoint)).await
    }

    /// Connects to the agent that registered last for a driver, once one has.
    ///
    /// # Panics
    /// When none does, or it is gone.
    pub async fn plugin_of(&self, driver: &str) -> Plugin {
        // The kubelet writes a registration down after it has told the agent.
        let of_driver = |node: &Self| {
            let registrations = node.kubelet().registrations().into_iter();
            registrations.rev().find(|registered| registered.info.name == driver)
        };
        let last = self.wait("a registration", of_driver).await;
        Plugin::connect(Path::new(&last.info.endpoint)).await
    }

    /// Starts a kubelet 1.37 that wipes no slices, since most tests count the agent's writes.
    pub fn start_kubelet(&mut self, answer: Answer) {
        let pace = Pace::REAL;
        self.start_kubelet_as(Settings { answer, pace, wipes: false, ..Settings::of(Version::V1_37) });
    }

    /// Starts a kubelet in this node's cluster.
    pub fn start_kubelet_as(&mut self, settings: Settings) {
        let cluster = Some(Cluster { api: self.api.address(), node: Self::NAME.to_owned() });
        self.kubelet = Some(Kubelet::start_as(&self.kubelet_dir(), Settings { cluster, ..settings }));
    }

    /// The kubelet.
    ///
    /// # Panics
    /// Before one is started.
    pub fn kubelet(&self) -> &Kubelet {
        self.kubelet.as_ref().expect("a kubelet")
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// When it finds nothing for [`PATIENCE`].
    pub async fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        self.wait_for(PATIENCE, what, look).await
    }

    /// Waits until `look` finds something, at most for `patience`.
    ///
    /// # Panics
    /// When it finds nothing.
    pub async fn wait_for<T>(&self, patience: Duration, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let found = until(patience, || look(self)).await;
        found.unwrap_or_else(|| panic!("{what}: not within {patience:?}"))
    }

    /// Waits until the published devices are as wanted.
    pub async fn wait_for_devices(&self, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        self.wait(what, |node| Some(node.devices()).filter(|devices| wanted(devices))).await
    }

    /// Makes a claim known to the API server.
    pub fn known(&self, claim: Claim) -> Claim {
        self.api.put(Resource::Claims, claim.object());
        claim
    }

    /// A claim that was given one device, and that the API server knows.
    pub fn allocated(&self, name: &str, device: &str) -> Claim {
        self.known(Claim::new(name).device("gpu", device))
    }

    /// The devices in the API server's slices.
    pub fn devices(&self) -> Vec<Value> {
        devices(self.api.slices().iter())
    }

    /// The devices in the slices of a driver.
    pub fn devices_of(&self, driver: &str) -> Vec<Value> {
        devices(self.api.slices().iter().filter(|slice| slice["spec"]["driver"] == driver))
    }
}

/// Whether all slices of each pool are there, and of one generation: the writes of a change come one after the other, and
/// no scheduler looks at what is between them.
pub fn are_whole(slices: &[Value]) -> bool {
    slices.iter().all(|slice| {
        let pool = &slice["spec"]["pool"];
        let of_pool =
            || slices.iter().map(|other| &other["spec"]["pool"]).filter(|other| other["name"] == pool["name"]);
        of_pool().all(|other| other["generation"] == pool["generation"])
            && pool["resourceSliceCount"] == of_pool().count()
    })
}

fn devices<'s>(slices: impl Iterator<Item = &'s Value>) -> Vec<Value> {
    slices.flat_map(|slice| slice["spec"]["devices"].as_array().cloned().unwrap_or_default()).collect()
}

impl Drop for Node {
    fn drop(&mut self) {
        let log = self.log();
        self.agent = None;
        if std::thread::panicking() {
            eprintln!("--- the agent's log\n{log}---");
        } else {
            cdi_specs::collect(&self.cdi_dir());
        }
        for mount in &self.mounts {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
