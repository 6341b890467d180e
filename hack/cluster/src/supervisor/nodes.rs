//! The nodes of a cluster, which come and go one by one.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::network;
use super::node::{Birth, Running};
use crate::cgroups;
use crate::processes::ProcessId;
use crate::record::{NodeSpec, Record, Spec};

/// How long the kernel may take to let go of the cgroups of a node whose processes were killed.
const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Nodes<'a> {
    spec: &'a Spec,
    /// By name, those that are up.
    running: BTreeMap<String, Running>,
}

impl<'a> Nodes<'a> {
    /// None is up.
    pub(super) fn of(spec: &'a Spec) -> Self {
        Self { spec, running: BTreeMap::new() }
    }

    /// Starts all of them, the first one first.
    pub(super) fn start_all(&mut self) -> Result<()> {
        for node in &self.spec.nodes {
            self.boot(node)?;
        }
        // Only now: who finds a record takes all nodes for there.
        self.write_record()
    }

    /// Starts a further node that is away.
    pub(super) fn start(&mut self, name: &str) -> Result<()> {
        let node = self.spec.node(name)?;
        if self.running.contains_key(name) {
            bail!("node {name} is up");
        }
        self.boot(node)?;
        self.write_record()
    }

    fn boot(&mut self, node: &NodeSpec) -> Result<()> {
        // No cgroup outlives a boot.
        cgroups::remove(&node.cgroup, CGROUP_PATIENCE)?;
        cgroups::create(&node.cgroup)?;
        let first = self.spec.is_first(node);
        let birth = Birth { node: node.clone(), directory: self.spec.directory_of(node), first };
        let running = Running::start(&birth).with_context(|| format!("starting {}", node.name))?;
        if !first {
            let (switch, plugged) = (self.id_of(&self.spec.first()?.name)?, running.id()?);
            if let Err(error) = network::plug(&switch, &plugged, node) {
                running.kill()?;
                return Err(error.context(format!("plugging {} into the cluster's network", node.name)));
            }
        }
        self.running.insert(node.name.clone(), running);
        Ok(())
    }

    fn id_of(&self, name: &str) -> Result<ProcessId> {
        self.running.get(name).with_context(|| format!("node {name} is away"))?.id()
    }

    /// Kills a further node.
    pub(super) fn kill(&mut self, name: &str) -> Result<()> {
        if self.spec.is_first(self.spec.node(name)?) {
            bail!("{name} has all of Kubernetes: the cluster would end with it");
        }
        let running = self.running.remove(name).with_context(|| format!("node {name} is away already"))?;
        running.kill()?;
        self.write_record()
    }

    /// Takes note of nodes whose PID 1 has ended unasked. Says whether the first one's has, and so the cluster.
    pub(super) fn bury_dead(&mut self) -> Result<bool> {
        let mut dead = Vec::new();
        for (name, running) in &mut self.running {
            if running.has_ended()? {
                dead.push(name.clone());
            }
        }
        if dead.is_empty() {
            return Ok(false);
        }
        self.running.retain(|name, _| !dead.contains(name));
        self.write_record()?;
        Ok(!self.running.contains_key(&self.spec.first()?.name))
    }

    /// Each is readable once a node's PID 1 has ended.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running.values().map(Running::handle)
    }

    /// Kills all that are up, every one even if another cannot be killed.
    pub(super) fn kill_all(self) -> Result<()> {
        self.running.into_values().map(Running::kill).fold(Ok(()), Result::and)
    }

    fn write_record(&self) -> Result<()> {
        let ids = self.running.iter().map(|(name, running)| Ok((name.clone(), running.id()?)));
        let record = Record {
            spec: self.spec.clone(),
            supervisor: ProcessId::of(i32::try_from(std::process::id())?)?,
            inits: ids.collect::<Result<_>>()?,
        };
        record.write(&self.spec.directory())
    }
}
