//! `cargo xtask demo`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use cluster::ClusterName;
use simulated_hardware::{Machine, Profile};
use simulated_node::SimulatedNode;

use crate::report::{Reporter, heading};
use crate::{builds, prerequisites};

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// No cluster: only what a node with this hardware would publish, seconds after the build.
    #[arg(long)]
    quick: bool,
    /// Which simulated hardware: a profile of hack/hardware, or the path of such a file.
    #[arg(long, default_value = "dgx-h100", value_name = "PROFILE")]
    hardware: String,
}

/// A pod that is shown, with the claim that it uses.
struct Shown {
    name: &'static str,
    manifest: &'static str,
    /// What it is.
    claims: &'static str,
    /// What it prints.
    sees: &'static str,
    /// A file in it that tells more: what, and its path.
    file: Option<(&'static str, &'static str)>,
}

const GPU: Shown = Shown {
    name: "demo-gpu",
    manifest: include_str!("demo/gpu.yaml"),
    claims: "A pod that claims one GPU by class and CEL",
    sees: "its device nodes, its environment, and the kernel's answer when it makes another GPU's node",
    file: Some((
        "Where its loader finds the driver's libraries: tessera-hook has added them to its cache before it started",
        "/etc/ld.so.conf.d/00-tessera.conf",
    )),
};
const TPU: Shown = Shown {
    name: "demo-tpu",
    manifest: include_str!("demo/tpu.yaml"),
    claims: "A pod that claims one TPU chip by class and CEL",
    sees: "its device nodes, and the environment that libtpu reads",
    file: None,
};

/// One for each family of accelerators that the hardware has.
fn shown(profile: &Profile) -> Vec<Shown> {
    let families = [(!profile.gpus.is_empty(), GPU), (!profile.tpus.is_empty(), TPU)];
    families.into_iter().filter_map(|(there, shown)| there.then_some(shown)).collect()
}

pub(crate) fn run(options: &Options) -> Result<()> {
    introduce(options);
    let profile = Profile::named_or_at(&options.hardware)?;
    heading("Building the agent and the simulated NVML");
    builds::programs()?;
    inspect(&profile)?;
    if options.quick {
        return Ok(());
    }

    prerequisites::ensure()?;
    heading("Starting Kubernetes: API server, scheduler, controller manager, kubelet, etcd, containerd, runc");
    let name: ClusterName = format!("demo-{}", std::process::id()).parse()?;
    let mut reporter = Reporter::new();
    let node = SimulatedNode::bare(&cluster::Options::new(name), &options.hardware, &mut |step| reporter.report(step))?;
    let result = show(&node, &shown(&profile));
    if result.is_err() {
        eprintln!("\nThe agent's pods and its log:\n{}", node.release().trouble());
    }
    heading("Taking everything down");
    let down = node.down();
    result.and(down)
}

fn introduce(options: &Options) {
    println!(
        "Tessera on simulated accelerators ({}). Nothing outside of the build and cache directories changes.",
        options.hardware
    );
    if options.quick {
        println!("Without a cluster: builds the agent and prints what it would publish.");
    } else {
        println!(
            "First what the node has, then a real one-node Kubernetes with a claim and a pod.\n\
             Needs Linux, root, Rust and Go; what else is missing (gcc, libseccomp-dev, ...) is installed with apt-get. The first run builds Kubernetes and containerd from source: about 12 minutes\n\
             on two cores; a second run takes under a minute. `--quick` leaves the cluster out."
        );
    }
}

/// The first result: what the node has, as the agent itself sees it.
fn inspect(profile: &Profile) -> Result<()> {
    let directory = tempfile::tempdir().context("no temporary directory")?;
    let library = simulated_hardware::library()?;
    let machine = Machine::create(directory.path(), profile, &library)?;
    for (what, output) in [("What the node has", "table"), ("What it would publish", "slices")] {
        heading(&format!("{what}: tessera-agent inspect --output {output}"));
        let text = Command::new(builds::directory("debug")?.join("tessera-agent"))
            .args(["inspect", "--output", output, "--node-name", cluster::NODE, "--root"])
            .arg(machine.root())
            .output()
            .context("cannot run tessera-agent")?;
        if !text.status.success() {
            bail!("tessera-agent inspect: {}", String::from_utf8_lossy(&text.stderr).trim_end());
        }
        print_beginning(&String::from_utf8_lossy(&text.stdout), 70);
    }
    Ok(())
}

fn show(node: &SimulatedNode, pods: &[Shown]) -> Result<()> {
    let cluster = node.cluster();
    heading("Installing Tessera: helm upgrade --install tessera deploy/chart");
    // Made before the time is taken: an admin has an image already.
    simulated_node::image()?;
    let started = Instant::now();
    node.release().install(&[])?;
    node.release().wait_until_ready(Duration::from_secs(60))?;
    println!("    {:5.1} s  registered with the kubelet, slices published", started.elapsed().as_secs_f64());
    kubectl(node, &["get", "pods", "--namespace", simulated_node::NAMESPACE])?;

    for Shown { name, manifest, claims, .. } in pods {
        heading(claims);
        println!("{manifest}");
        cluster.apply(manifest)?;
        let claimed = Instant::now();
        cluster.kubectl_output(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=60s"])?;
        println!("    {:5.1} s  from kubectl apply to the running container", claimed.elapsed().as_secs_f64());
    }

    kubectl(node, &["get", "resourceslices"])?;
    kubectl(node, &["get", "resourceslices", "-o", "yaml"])?;
    kubectl(node, &["get", "pod,resourceclaim"])?;
    for Shown { name, sees, file, .. } in pods {
        heading(&format!("The own view of pod {name}: {sees}"));
        println!("{}", cluster.kubectl_output(&["logs", name])?.trim_end());
        if let Some((why, path)) = file {
            heading(why);
            println!("{}", cluster.kubectl_output(&["exec", name, "--", "/probe", "cat", path])?.trim_end());
        }
    }
    Ok(())
}

fn kubectl(node: &SimulatedNode, arguments: &[&str]) -> Result<()> {
    heading(&format!("kubectl {}", arguments.join(" ")));
    print_beginning(&node.cluster().kubectl_output(arguments)?, 75);
    Ok(())
}

/// Devices of one kind look alike: the first one tells.
fn print_beginning(text: &str, lines: usize) {
    let text = text.trim_end();
    for line in text.lines().take(lines) {
        println!("{line}");
    }
    let more = text.lines().count().saturating_sub(lines);
    if more > 0 {
        println!("... and {more} lines more");
    }
}
