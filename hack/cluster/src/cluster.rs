//! A running cluster, as tests and commands use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::geteuid;

use crate::bring_up::bring_up;
use crate::credentials;
use crate::kubeconfig::Identity;
use crate::layout::{INSIDE, INSIDE_BIN, RunDirectory};
use crate::name::ClusterName;
use crate::node_config::CONTAINERD_SOCKET;
use crate::options::{Mode, Options};
use crate::owner::{END_PATIENCE, Owner};
use crate::parts::Parts;
use crate::processes::ProcessId;
use crate::progress::Progress;
use crate::record::{NodeSpec, Record, Spec};
use crate::registry;
use crate::supervisor::{self, Order};
use crate::version::KubernetesVersion;

/// A running cluster, seen from one of its nodes: what is said here of "the node" is said of that one. It is the first,
/// unless the value came from [`Cluster::seen_from`].
///
/// ```no_run
/// # fn main() -> anyhow::Result<()> {
/// let options = cluster::Options::new("example".parse()?);
/// let cluster = cluster::Cluster::up(&options, &mut |progress| eprintln!("{progress}"))?;
/// println!("{}", cluster.kubectl_output(&["get", "nodes"])?);
/// cluster.down()
/// # }
/// ```
#[derive(Debug)]
pub struct Cluster {
    pub(crate) spec: Spec,
    pub(crate) node: NodeSpec,
    /// The node's.
    pub(crate) directory: RunDirectory,
    supervisor: ProcessId,
    owner: Option<Owner>,
}

impl Cluster {
    /// Where the agent's kubeconfig lies inside the node. Its user is [`crate::AGENT_USER`], as the token of a pod on the
    /// cluster's node says it.
    pub const AGENT_KUBECONFIG: &'static str = "/run/cluster/config/agent.kubeconfig";

    /// Where the admin's kubeconfig lies inside the node.
    pub const ADMIN_KUBECONFIG: &'static str = "/run/cluster/config/admin.kubeconfig";

    /// Builds what is missing and starts a cluster. Returns when pods can be made: the API server is ready, the node is
    /// Ready and has lost its taint, and the service account `default` exists.
    ///
    /// Whatever fails, nothing is left behind, unless [`Options::keep_on_failure`] asks for it. The error names the
    /// component and ends with the last lines of its log.
    pub fn up(options: &Options, report: &mut dyn FnMut(&Progress)) -> Result<Self> {
        if !geteuid().is_root() {
            bail!("a cluster needs root: it makes namespaces, mounts and cgroups");
        }
        let spec = options.spec()?;
        let parts = Parts::ensure(options.version, &mut |building| report(&Progress::Building(building.clone())))?;
        registry::sweep()?;
        let order = Order { spec, programs: parts.programs().to_vec() };
        let started = std::time::Instant::now();
        report(&Progress::Starting("namespaces, mounts and network", started.elapsed()));
        let owner = Owner::start(&order).with_context(|| format!("starting cluster {}", options.name))?;
        let mut cluster = Self { owner: Some(owner), ..Self::recorded(&options.name)? };
        match bring_up(&cluster, &parts, options, started, report) {
            Ok(()) => {
                if options.mode == Mode::Detached {
                    cluster.detach()?;
                }
                Ok(cluster)
            }
            Err(error) if options.keep_on_failure => {
                cluster.detach()?;
                let kept =
                    format!("cluster {} did not become ready and was kept; take it down after a look", options.name);
                Err(error.context(kept))
            }
            Err(error) => Err(error.context(format!(
                "cluster {} did not become ready, and was removed (keep_on_failure would leave it for a look)",
                options.name
            ))),
        }
    }

    /// A cluster that was started elsewhere, or earlier. It lives on when this value goes.
    pub fn open(name: &ClusterName) -> Result<Self> {
        if !registry::is_alive(name)? {
            let others = registry::sweep()?;
            let names: Vec<&str> = others.iter().map(ClusterName::as_str).collect();
            let known =
                if names.is_empty() { "none is up".to_owned() } else { format!("up are: {}", names.join(", ")) };
            bail!("there is no cluster {:?}; {known}", name.as_str());
        }
        Self::recorded(name).with_context(|| format!("cluster {name} is only just coming up"))
    }

    fn recorded(name: &ClusterName) -> Result<Self> {
        let Record { spec, supervisor, .. } = Record::read(&RunDirectory::of(name))?;
        let node = spec.first()?.clone();
        Ok(Self { directory: spec.directory(), node, spec, supervisor, owner: None })
    }

    /// The same cluster, seen from another of its nodes. It lives on when this value goes.
    pub fn seen_from(&self, node: &str) -> Result<Self> {
        let node = self.spec.node(node)?.clone();
        let (spec, supervisor) = (self.spec.clone(), self.supervisor.clone());
        Ok(Self { directory: spec.directory_of(&node), node, spec, supervisor, owner: None })
    }

    /// The names of the clusters that are up. Removes what is left of those whose supervisor was killed.
    pub fn list() -> Result<Vec<ClusterName>> {
        registry::sweep()
    }

    /// Lets an owned cluster live on until it is taken down.
    pub fn detach(&mut self) -> Result<()> {
        self.owner.as_mut().map_or(Ok(()), Owner::detach)
    }

    /// Ends every process of the cluster and removes all that is left of it.
    pub fn down(mut self) -> Result<()> {
        supervisor::end(&self.supervisor, END_PATIENCE)?;
        if let Some(owner) = self.owner.take() {
            owner.end();
        }
        registry::sweep()?;
        let directory = self.spec.directory();
        match directory.path().exists() {
            true => bail!("cluster {} did not end: {} is still there", self.name(), directory.path().display()),
            false => Ok(()),
        }
    }

    /// The cluster's name.
    pub fn name(&self) -> &ClusterName {
        &self.spec.cluster
    }

    /// The version of its Kubernetes components.
    pub fn version(&self) -> Result<KubernetesVersion> {
        self.spec.version.parse()
    }

    /// The name of the node.
    pub fn node_name(&self) -> &str {
        &self.node.name
    }

    /// The names of all nodes, the first one first.
    pub fn node_names(&self) -> Vec<&str> {
        self.spec.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    /// The node's PID 1, as seen from the host; 0, which no process has, while the node is away.
    pub(crate) fn init(&self) -> i32 {
        let record = Record::read(&self.spec.directory()).ok();
        record.and_then(|record| record.inits.get(&self.node.name).map(|init| init.pid)).unwrap_or(0)
    }

    /// `kubectl` as admin, run inside. Paths among the arguments are read inside, and from `/`: give absolute ones
    /// outside of `/run`, or use standard input.
    pub fn kubectl<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = self.inside(&["--mount", "--net"], &[format!("{INSIDE_BIN}/kubectl")]);
        command
            .args(arguments.iter().map(AsRef::as_ref))
            .env("KUBECONFIG", Self::ADMIN_KUBECONFIG)
            .env("NO_PROXY", "*")
            // Else the host's home directory fills with what kubectl knows about this cluster's API.
            .env("KUBECACHEDIR", format!("{INSIDE}/tmp/kubectl"));
        command
    }

    /// What `kubectl` prints; when it fails, the error holds what it said.
    pub fn kubectl_output<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String> {
        output_of(self.kubectl(arguments).stdin(Stdio::null()), "kubectl", arguments)
    }

    /// `helm` as admin, run inside, with the paths of [`Cluster::kubectl`]. What it keeps besides its releases goes with the
    /// cluster.
    pub fn helm<S: AsRef<str>>(&self, arguments: &[S]) -> Command {
        let mut command = self.inside(&["--mount", "--net"], &[format!("{INSIDE_BIN}/helm")]);
        command
            .args(arguments.iter().map(AsRef::as_ref))
            .env("KUBECONFIG", Self::ADMIN_KUBECONFIG)
            .env("NO_PROXY", "*");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, format!("{INSIDE}/tmp/helm"));
        }
        command
    }

    /// What `helm` prints; when it fails, the error holds what it said.
    pub fn helm_output<S: AsRef<str>>(&self, arguments: &[S]) -> Result<String> {
        output_of(self.helm(arguments).stdin(Stdio::null()), "helm", arguments)
    }

    /// Creates or updates the objects in `manifest`, in YAML or JSON.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let arguments = ["apply", "-f", "-"];
        with_input(&mut self.kubectl(&arguments), manifest.as_bytes(), "kubectl", &arguments)
    }

    /// A command that runs inside the node: its mounts, its network, its processes.
    pub fn enter<S: AsRef<str>>(&self, argv: &[S]) -> Command {
        self.inside(&["--mount", "--net", "--pid"], argv)
    }

    fn inside<S: AsRef<str>>(&self, namespaces: &[&str], argv: &[S]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init())).args(namespaces).arg("--");
        command.args(argv.iter().map(AsRef::as_ref));
        command
    }

    /// The node's root directory, seen from the host: `node_root().join("run/cdi")`. Absolute links in it lead to the
    /// host's files. Another one after each start of the node; while the node is away, nothing is there.
    pub fn node_root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init()))
    }

    /// The node's run directory on the host, which lives as long as the cluster. Inside the node it is `/run/cluster`.
    pub fn run_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Imports an OCI or Docker image archive into the node. Pods then use it with `imagePullPolicy: Never`.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        let file = fs::File::open(archive).with_context(|| format!("opening {}", archive.display()))?;
        let ctr = format!("{INSIDE_BIN}/ctr");
        let argv = [ctr.as_str(), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", "images", "import", "-"];
        output_of(self.inside(&["--mount", "--net"], &argv).stdin(file), "ctr", &argv[5..])
            .with_context(|| format!("loading the image {}", archive.display()))?;
        Ok(())
    }

    /// Writes a kubeconfig that acts as `identity` and returns its path inside the node. `name` is the file's, and must
    /// not be that of another.
    pub fn kubeconfig_for(&self, name: &str, identity: &Identity) -> Result<PathBuf> {
        check_file_name("kubeconfig", name)?;
        let config = self.directory.config();
        let path = config.join(format!("{name}.kubeconfig"));
        if path.exists() {
            bail!("kubeconfig name {name:?}: there is one of this name, {}", path.display());
        }
        let authority = self.spec.directory().config();
        let content = credentials::impersonating(&authority, &self.spec.first()?.address, identity)?;
        credentials::write_secret(&path, &content)?;
        Ok(credentials::kubeconfig_inside(name).into())
    }
}

/// Refuses a name that could lead out of the directory it is meant for.
pub(crate) fn check_file_name(what: &str, name: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(plain) {
        bail!("{what} name {name:?}: use letters, digits, '-' and '_'");
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output_of<S: AsRef<str>>(command: &mut Command, program: &str, arguments: &[S]) -> Result<String> {
    let output = command.output().with_context(|| format!("running {program}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    bail!("`{program} {}`: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim_end())
}

fn with_input<S: AsRef<str>>(command: &mut Command, input: &[u8], program: &str, arguments: &[S]) -> Result<String> {
    use std::io::{Seek, Write};
    // A file, as a pipe could block on both ends.
    let mut file = anonymous_file()?;
    file.write_all(input)?;
    file.rewind()?;
    output_of(command.stdin(file), program, arguments)
}

fn anonymous_file() -> Result<fs::File> {
    let descriptor =
        rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).context("making a file in memory")?;
    Ok(descriptor.into())
}
