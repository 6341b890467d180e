//! The command line. Every flag can be given by the environment too, for the DaemonSet's sake.

mod device_plugin;
mod features;
mod offered_by;
mod plugin_config;
mod tpu;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tessera_core::Offering;
use tessera_driver::nvidia::LoaderCache;
use tessera_driver::{Host, Root};
use tessera_vocabulary::DriverName;

pub use device_plugin::DevicePluginOptions;
pub use features::{FeatureOptions, LabelsGo};
pub use offered_by::{Apis, Exception, OfferedBy};
pub use plugin_config::PluginConfigOptions;
pub use tpu::TpuOptions;

/// Publishes a node's accelerators to Kubernetes and prepares them for claims.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
pub struct Arguments {
    /// Where the hardware is found.
    #[command(flatten)]
    pub hardware: HardwareOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the kubelet of this node until told to stop.
    Run(Box<RunOptions>),
    /// Print what this node has and end. Needs neither a kubelet nor an API server.
    Inspect(InspectOptions),
}

/// Where the hardware is found.
#[derive(Clone, Debug, Args)]
pub struct HardwareOptions {
    /// Directory below which the agent sees the node's /sys, /proc and /dev.
    #[arg(long, global = true, env = "TESSERA_ROOT", default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// The same directory as the container runtime sees it [default: the value of --root].
    #[arg(long, global = true, env = "TESSERA_ROOT_ON_HOST", value_name = "DIR")]
    pub root_on_host: Option<PathBuf>,
    /// Directory, on the node, below which the NVIDIA driver is installed, such as /run/nvidia/driver.
    #[arg(long, global = true, env = "NVIDIA_DRIVER_ROOT", default_value = "/", value_name = "DIR")]
    pub nvidia_driver_root: PathBuf,
    /// The program tessera-hook, as the container runtime sees it: it adds a driver's libraries to the loader cache of a
    /// container. Without it, and for runtimes that run no hooks (gVisor, Kata), they are found by LD_LIBRARY_PATH.
    #[arg(long, global = true, env = "TESSERA_HOOK", value_name = "FILE")]
    pub hook: Option<PathBuf>,
    /// What is offered besides whole accelerators and the partitions that were made by hand.
    #[arg(long, global = true, env = "TESSERA_OFFER", value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub offer: Vec<Offer>,
    /// Whose accelerators are served, each family by a DRA driver of its own [default: all].
    ///
    /// A driver is served as soon as its hardware is on this node: a device on the PCI bus, or its vendor's software. Until
    /// then it is not registered with the kubelet and publishes nothing; the node is looked at again each --rescan second,
    /// so that nothing has to be restarted. It is served too while claims that it prepared are still there. Once it is, it is
    /// until the agent ends, with an empty pool if the hardware goes. One that fails keeps no other from being served.
    #[arg(
        long,
        global = true,
        env = "TESSERA_DRIVERS",
        value_delimiter = ',',
        value_name = "FAMILY",
        value_parser = PossibleValuesParser::new(crate::backends::words())
    )]
    pub drivers: Vec<String>,
    /// Name of the DRA driver for NVIDIA GPUs: sockets, CDI kind, slices and metrics follow it.
    #[arg(
        long,
        global = true,
        env = "TESSERA_NVIDIA_DRIVER_NAME",
        default_value = "gpu.nvidia.com",
        value_name = "NAME"
    )]
    pub nvidia_driver_name: DriverName,
    /// What is said about TPUs.
    #[command(flatten)]
    pub tpu: TpuOptions,
    /// Name of this node's Node object. Required to run.
    #[arg(long, global = true, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
}

impl HardwareOptions {
    /// The node's root directory.
    pub fn root(&self) -> Root {
        Root::new(&self.root, self.root_on_host.as_ref().unwrap_or(&self.root))
    }

    /// What is offered besides whole accelerators.
    pub fn offering(&self) -> Offering {
        Offering {
            partitions: self.offer.contains(&Offer::Partitions),
            passthrough: self.offer.contains(&Offer::Passthrough),
            groups: self.offer.contains(&Offer::Groups),
        }
    }

    /// What of the node containers are handed.
    pub fn host(&self) -> Host {
        let loader_cache = self.hook.clone().map_or(LoaderCache::None, |path| LoaderCache::Hook { path });
        let host = Host::new(self.root()).with_nvidia_driver(self.nvidia_driver_root(), loader_cache);
        if let Some(hook) = &self.hook { host.with_hook(hook.clone()) } else { host }
    }

    /// The root directory of NVIDIA's driver.
    pub fn nvidia_driver_root(&self) -> Root {
        let below = self.nvidia_driver_root.to_string_lossy();
        let root = self.root();
        Root::new(root.seen_by_agent(&below), root.seen_by_runtime(&below))
    }
}

/// What can be offered besides whole accelerators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Offer {
    /// Partitions (MIG devices of every profile at every place), which are made when a claim is prepared and removed
    /// after it.
    Partitions,
    /// Whole accelerators for user space (virtual machines), by VFIO: bound to it when a claim is prepared, and given back
    /// to their driver after it.
    Passthrough,
    /// Groups of 2, 4 and 8 accelerators that lie together (NVLink, PCIe switch, NUMA node), as one device each.
    Groups,
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The kubelet's directory; must be the same path inside and outside of the agent's container.
    #[arg(long, env = "TESSERA_KUBELET_DIR", default_value = "/var/lib/kubelet", value_name = "DIR")]
    pub kubelet_dir: PathBuf,
    /// By which of the kubelet's APIs this node offers its devices.
    ///
    /// The device plugin offers nvidia.com/gpu, nvidia.com/mig-* and google.com/tpu, as the vendors' own plugins do; containers
    /// get their devices by CDI. Whichever way a pod has a device, the other way does not offer it meanwhile: what a claim holds is
    /// unhealthy to the device plugin, and what pods have without a claim is tainted in the slices, and no claim is prepared with
    /// it. To change what a node offers, start the agent anew with another value: pods keep what they have, and no other way
    /// offers it before they end.
    #[arg(long, env = "TESSERA_API", value_enum, default_value_t = OfferedBy::Dra, value_name = "API")]
    pub api: OfferedBy,
    /// By which API single devices are offered instead, such as gpu-0000-1b-00-0=dra: a node is handed over device by device.
    ///
    /// A device is named as in ResourceSlices, by its UUID or by its PCI address, and what it is cut into comes with it. What
    /// pods have of it when that changes stays theirs until they end.
    #[arg(long, env = "TESSERA_DEVICE_API", value_delimiter = ',', value_name = "DEVICE=API")]
    pub device_api: Vec<Exception>,
    /// What the device plugin is told about its resources.
    #[command(flatten)]
    pub plugin_config: PluginConfigOptions,
    /// Follow PartitionPolicies: offer each device as the NodeLayout of this node says, and tell in its status how that goes.
    ///
    /// The NodeLayout is what the controller makes of all PartitionPolicies for this node. Devices that it does not name are
    /// offered as --offer says; while there is none, or the API server is away, what was last in force stays. Needs the rights of
    /// node-layouts.yaml. An agent that is started without this withdraws what was made for policies.
    #[arg(long, env = "TESSERA_NODE_LAYOUTS")]
    pub node_layouts: bool,
    /// Seconds between the moment at which everybody can see that a device is to be had by nobody new and the one at which it is
    /// changed, if nobody has it by then, 0.05 to 3600: whoever was given it before comes to the node in that time.
    #[arg(long, default_value = "2", value_name = "SECONDS", value_parser = seconds)]
    pub layout_grace: Duration,
    /// Labels of the node.
    #[command(flatten)]
    pub features: FeatureOptions,
    /// What tells this agent's sockets from those of another one on the node, while one replaces the other: the UID of
    /// its pod. Letters, digits and -, at most 63.
    #[arg(long, env = "POD_UID", value_name = "UID", value_parser = instance)]
    pub instance: Option<String>,
    /// Directory for CDI specs; one of those that the container runtime reads.
    #[arg(long, env = "TESSERA_CDI_DIR", default_value = "/var/run/cdi", value_name = "DIR")]
    pub cdi_dir: PathBuf,
    /// Directory for the agent's state. Best on a tmpfs: nothing in it outlives a reboot.
    #[arg(long, env = "TESSERA_STATE_DIR", default_value = "/run/tessera", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Kubeconfig file [default: $KUBECONFIG, else the pod's service account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address that serves /healthz, /readyz and /metrics; port 0 takes a free one, "off" serves none.
    #[arg(long, env = "TESSERA_HTTP", default_value = "127.0.0.1:9464", value_name = "ADDRESS", value_parser = http_address)]
    pub http: Http,
    /// Seconds between two looks at the hardware, 0.05 to 3600. What the kernel tells of (a device comes, goes or changes its
    /// driver) is looked at without waiting for that, where its messages arrive: in the network namespaces of the node
    /// and of pods that share its users.
    #[arg(long, env = "TESSERA_RESCAN", default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    pub rescan: Duration,
    /// Seconds between two comparisons of the ledger with the files, the kubelet's pods and the API server, 0.05 to 3600.
    /// What nobody owns is removed after two of them.
    #[arg(long, env = "TESSERA_RECONCILE", default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    pub reconcile: Duration,
    /// What to log: a level (error, warn, info, debug, trace) or tracing's filter syntax.
    #[arg(long, env = "TESSERA_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How to log.
    #[arg(long, env = "TESSERA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What NVIDIA's device plugin can be told. Its heading holds for all that comes after it, so it is the last.
    #[command(flatten)]
    pub device_plugin: DevicePluginOptions,
}

impl RunOptions {
    /// By which API each device is offered.
    pub fn apis(&self) -> Apis {
        Apis::new(self.api, self.device_api.clone())
    }
}

/// Whether and where to serve HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Nowhere.
    Off,
    /// At this address; with port 0 at a free one.
    At(SocketAddr),
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How to print what a node has.
#[derive(Clone, Debug, Args)]
pub struct InspectOptions {
    /// Directory of the agent's state, which says what devices are offered as for policies.
    #[arg(long, env = "TESSERA_STATE_DIR", default_value = "/run/tessera", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// What to print.
    #[arg(short, long, value_enum, default_value_t = InspectOutput::Table)]
    pub output: InspectOutput,
}

/// What to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InspectOutput {
    /// A line for each device.
    Table,
    /// Every device with its attributes and capacities, as JSON.
    Json,
    /// The ResourceSlices that would be published, as a JSON list that kubectl takes.
    Slices,
}

fn http_address(text: &str) -> Result<Http, String> {
    if text == "off" {
        return Ok(Http::Off);
    }
    text.parse()
        .map(Http::At)
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:9464, or \"off\"".to_owned())
}

fn instance(text: &str) -> Result<String, String> {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if allowed && (1..=63).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 63 letters, digits and -".to_owned())
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.05..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("must be a number of seconds from 0.05 to 3600".to_owned()),
    }
}
