//! The node's own network.

use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Result, anyhow, bail};

/// The bridge that carries the node's address: the kubelet refuses one on the loopback device, and further nodes could
/// be plugged into it.
const BRIDGE: &str = "cluster0";

/// To be called in a new network namespace.
pub(super) fn furnish(address: &str) -> Result<()> {
    let with_mask = format!("{address}/24");
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "type", "bridge"])?;
    ip(&["address", "add", &with_mask, "dev", BRIDGE])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    // Kubernetes takes the node's address for usable only where a default route is.
    ip(&["route", "add", "default", "via", address, "dev", BRIDGE])
}

fn ip(arguments: &[&str]) -> Result<()> {
    match Command::new("ip").args(arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("`ip {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`ip` is not on PATH: `apt-get install iproute2`")
        }
        Err(error) => Err(anyhow!(error).context("running `ip`")),
    }
}
