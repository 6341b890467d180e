//! The network of each node, and the bridge in the first one's that the others are plugged into.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::processes::ProcessId;
use crate::record::NodeSpec;

/// The bridge that carries the first node's address: the kubelet refuses one on the loopback device, and the other nodes
/// are plugged into it.
const BRIDGE: &str = "cluster0";

/// A further node's own end of its cable.
const UPLINK: &str = "uplink";

/// To be called in a new network namespace; with the address of the first node.
pub(super) fn furnish(first: Option<&str>) -> Result<()> {
    ip(&["link", "set", "lo", "up"])?;
    // Between its pods and other nodes; the pod network's plugin would set it, but only with the node's first pod.
    let forwards = "/proc/sys/net/ipv4/ip_forward";
    fs::write(forwards, "1").with_context(|| format!("writing {forwards}"))?;
    let Some(address) = first else { return Ok(()) };
    // Without one of its own, a bridge has the hardware address of one of its ports, and another when ports come and go.
    ip(&["link", "add", BRIDGE, "address", &hardware_address(address)?, "type", "bridge"])?;
    ip(&["address", "add", &with_mask(address), "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    // Kubernetes takes the node's address for usable only where a default route is.
    ip(&["route", "add", "default", "via", address, "dev", BRIDGE])
}

/// Plugs a new node into the first one's bridge. The way between pods of any two nodes is by the first one. To be called
/// outside of both.
pub(super) fn plug(first: &ProcessId, node: &ProcessId, spec: &NodeSpec) -> Result<()> {
    let (name, address, pods) = (spec.name.as_str(), spec.address.as_str(), spec.pod_range.as_str());
    let in_first = |arguments: &[&str]| ip_in(first, arguments);
    let in_node = |arguments: &[&str]| ip_in(node, arguments);
    // The kernel takes its time with the one of a node that went away a moment ago.
    let _there_is_none = in_first(&["link", "delete", name]);
    let (namespace, hardware) = (node.pid.to_string(), hardware_address(address)?);
    let peer = ["name", UPLINK, "address", &hardware, "netns", &namespace];
    in_first(&[&["link", "add", name, "type", "veth", "peer"][..], &peer].concat())?;
    in_first(&["link", "set", name, "master", BRIDGE, "up"])?;
    in_node(&["address", "add", &with_mask(address), "dev", UPLINK])?;
    in_node(&["link", "set", UPLINK, "up"])?;
    let gateway = gateway(address)?;
    in_node(&["route", "add", "default", "via", &gateway, "dev", UPLINK])?;
    in_first(&["route", "replace", pods, "via", address, "dev", BRIDGE])
}

fn with_mask(address: &str) -> String {
    format!("{address}/24")
}

/// The first node's address, from another's.
fn gateway(address: &str) -> Result<String> {
    split(address).map(|(network, _)| format!("{network}.1"))
}

/// The same after each start of a node: others remember for a minute which one an address had.
fn hardware_address(address: &str) -> Result<String> {
    split(address).map(|(_, number)| format!("02:00:00:00:00:0{number}"))
}

/// A node's address into the network's part and the node's number.
fn split(address: &str) -> Result<(&str, &str)> {
    address.rsplit_once('.').with_context(|| format!("{address} is no IPv4 address"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments), arguments)
}

/// In the network of a node. The process ids among the arguments are the host's: its network alone is entered.
fn ip_in(node: &ProcessId, arguments: &[&str]) -> Result<()> {
    let target = format!("--target={}", node.pid);
    run(Command::new("nsenter").args([&target, "--net", "--", "ip"]).args(arguments), arguments)
}

fn run(command: &mut Command, arguments: &[&str]) -> Result<()> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`{}` is not on PATH: `apt-get install iproute2 util-linux`", command.get_program().display())
        }
        Err(error) => Err(anyhow!(error).context("running `ip`")),
    }
}
