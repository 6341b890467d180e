//! Nodes that do what their NodeLayouts say, as far as the API server can see.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::ApiServer;
use crate::api_server::Resource;

/// The agents of any number of nodes with GPUs that can be cut.
#[derive(Debug, Default)]
pub struct CutNodes {
    /// What each device is offered as, by node and name; null is as at the agent's start.
    layouts: BTreeMap<String, BTreeMap<String, Value>>,
    /// On these nodes every change fails.
    failing: BTreeSet<String>,
    /// Of these nodes nothing is heard.
    silent: BTreeSet<String>,
    /// The fabric domain that the devices of a node lie in.
    domains: BTreeMap<String, String>,
    /// How many claims the devices of a node are in: they keep what they are until there are none.
    users: BTreeMap<String, u32>,
    /// Nodes that have something to say though nobody has told them anything.
    news: BTreeSet<String>,
    devices: usize,
}

impl CutNodes {
    /// Agents of nodes with so many GPUs each.
    pub fn new(devices: usize) -> Self {
        Self { devices, ..Self::default() }
    }

    /// Lets every further change on a node fail, or succeed.
    pub fn fail(&mut self, node: &str, fails: bool) {
        if fails {
            self.failing.insert(node.to_owned());
        } else {
            self.failing.remove(node);
        }
    }

    /// Lets nothing be heard of a node, or something again.
    pub fn silence(&mut self, node: &str, silent: bool) {
        if silent {
            self.silent.insert(node.to_owned());
        } else {
            self.silent.remove(node);
        }
    }

    /// Has the devices of a node lie in a fabric domain that spans nodes.
    pub fn lie_in(&mut self, node: &str, domain: &str) {
        self.domains.insert(node.to_owned(), domain.to_owned());
        self.news.insert(node.to_owned());
    }

    /// Has so many claims have each device of a node.
    pub fn used_by(&mut self, node: &str, users: u32) {
        self.users.insert(node.to_owned(), users);
        self.news.insert(node.to_owned());
    }

    /// What the devices of a node are offered as.
    pub fn layouts(&self, node: &str) -> Vec<Value> {
        self.layouts.get(node).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Has each agent that was told something do it and say so; gives the nodes of these, in the order of their names.
    pub fn answer(&mut self, server: &ApiServer) -> Vec<String> {
        let mut answered = Vec::new();
        for layout in server.list(Resource::NodeLayouts) {
            let name = layout["metadata"]["name"].as_str().expect("a name").to_owned();
            let generation = &layout["metadata"]["generation"];
            let has_news = layout["status"]["observedGeneration"] != *generation || self.news.contains(&name);
            if !has_news || self.silent.contains(&name) {
                continue;
            }
            self.news.remove(&name);
            let devices = self.work(&name, &layout);
            let status = json!({"observedGeneration": generation, "devices": devices});
            // The controller may have deleted it since.
            if server.edit_if_there(Resource::NodeLayouts, "", &name, |layout| layout["status"] = status) {
                answered.push(name);
            }
        }
        answered
    }

    fn work(&mut self, node: &str, layout: &Value) -> Vec<Value> {
        let fails = self.failing.contains(node);
        let users = self.users.get(node).copied().unwrap_or(0);
        let domain = self.domains.get(node);
        let is = self.layouts.entry(node.to_owned()).or_default();
        let device = |index: usize| {
            let name = format!("gpu-{index}");
            let desired =
                layout["spec"]["devices"].as_array().into_iter().flatten().find(|device| device["name"] == name);
            let wanted = desired.map_or(Value::Null, |device| device["layout"].clone());
            let is = is.entry(name.clone()).or_default();
            let (failed, drains) = (fails && *is != wanted, users > 0 && *is != wanted);
            if !failed && !drains {
                is.clone_from(&wanted);
            }
            let state = match (failed, drains) {
                (true, _) => "Failed",
                (_, true) => "Draining",
                _ => "Ready",
            };
            let attempt = desired.map_or(0, |device| device["attempt"].as_u64().unwrap_or(0));
            let mut reported = json!({
                "driver": "gpu.nvidia.com", "name": name, "attributes": attributes(node, index),
                "capacity": {"tessera.dev/memory": "81559Mi"}, "profiles": ["1g.10gb", "2g.20gb", "3g.40gb", "7g.80gb"],
                "state": state, "attempt": attempt, "users": users,
                "message": if failed { "the driver refuses; see dmesg" } else { "" },
            });
            if !is.is_null() {
                reported["layout"] = is.clone();
            }
            if let Some(domain) = domain {
                reported["domain"] = json!({"name": domain});
            }
            reported
        };
        (0..self.devices).map(device).collect()
    }
}

/// As many as a GPU has.
fn attributes(node: &str, index: usize) -> Value {
    json!({
        "gpu.nvidia.com/type": {"string": "gpu"},
        "gpu.nvidia.com/uuid": {"string": format!("GPU-{node}-{index}")},
        "gpu.nvidia.com/productName": {"string": "NVIDIA H100 80GB HBM3"},
        "gpu.nvidia.com/brand": {"string": "Nvidia"},
        "gpu.nvidia.com/architecture": {"string": "Hopper"},
        "gpu.nvidia.com/cudaComputeCapability": {"version": "9.0.0"},
        "gpu.nvidia.com/driverVersion": {"version": "570.86.15"},
        "gpu.nvidia.com/cudaDriverVersion": {"version": "12.8.0"},
        "resource.kubernetes.io/pciBusID": {"string": format!("0000:{index:02x}:00.0")},
        "resource.kubernetes.io/pcieRoot": {"string": format!("pci0000:{index:02x}")},
        "resource.kubernetes.io/numaNode": {"int": index / 4},
        "tessera.dev/vendor": {"string": "nvidia"},
        "tessera.dev/kind": {"string": "gpu"},
        "tessera.dev/model": {"string": "H100"},
        "tessera.dev/family": {"string": "Hopper"},
    })
}
