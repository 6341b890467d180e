use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::labels::{self, NodeLabels};
use super::{Bounds, Settings, Topology, instance_file};
use crate::Root;

/// What is known of the slice that a host's chips are a part of. What nobody tells is unknown: the hardware of one host
/// does not show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// What tells it from others, on all of its hosts.
    pub name: Option<String>,
    /// The accelerator as GKE names it, `tpu-v5-lite-podslice`.
    pub accelerator: Option<String>,
    /// The accelerator as Google's cloud names it, `v5litepod-16`.
    pub accelerator_type: Option<String>,
    /// Its topology.
    pub topology: Option<Topology>,
    /// Whether its links are resilient to faults.
    pub ici_resiliency: Option<bool>,
    /// Which of its hosts this is.
    pub worker: Worker,
}

/// Which of its slice's hosts a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: Option<u32>,
    /// The names of all, in the order of their numbers; none where they are unknown.
    pub hostnames: Vec<String>,
}

impl Slice {
    /// How many hosts it has, each with so many chips: by its topology, else by the names of its hosts. `None` where neither
    /// is known, and where the topology is no multiple of such a host: then a chip of this one is not known.
    pub(super) fn hosts(&self, chips_per_host: u32) -> Option<u32> {
        let named = || u32::try_from(self.worker.hostnames.len()).ok().filter(|hosts| *hosts > 0);
        let Some(topology) = &self.topology else { return named() };
        let per_host = u64::from(chips_per_host);
        let fits = per_host > 0 && topology.chips() % per_host == 0;
        fits.then(|| u32::try_from(topology.chips() / per_host).ok()).flatten()
    }
}

/// What was told, by whoever told it first: the settings, the labels, the instance.
pub(super) struct Told {
    pub(super) slice: Slice,
    /// The block of the host's chips.
    pub(super) host: Option<Bounds>,
    /// What was told and is nonsense.
    pub(super) problems: Vec<String>,
}

pub(super) fn told(root: &Root, settings: &Settings, node: &NodeLabels) -> Told {
    let mut sources = Sources { node, file: instance_file::read(root), problems: Vec::new() };
    let hostnames = || node.get(&labels::WORKER_HOSTNAMES).map(|names| names.split('_').map(str::to_owned).collect());
    let slice = Slice {
        name: settings.slice.clone().or_else(|| node.get(&labels::SLICE)),
        accelerator: settings.accelerator.clone().or_else(|| node.get(&labels::ACCELERATOR)),
        accelerator_type: sources.file.get("ACCELERATOR_TYPE").cloned(),
        topology: settings.topology.clone().or_else(|| sources.find(&labels::TOPOLOGY, "TOPOLOGY")),
        ici_resiliency: settings
            .ici_resiliency
            .or_else(|| sources.find(&labels::ICI_RESILIENCY, "ENABLE_ICI_RESILIENCY")),
        worker: Worker {
            id: settings.worker_id.or_else(|| sources.find(&labels::WORKER_ID, "WORKER_ID")),
            hostnames: Some(settings.worker_hostnames.clone())
                .filter(|names| !names.is_empty())
                .or_else(hostnames)
                .unwrap_or_default(),
        },
    };
    let host = sources.find(&[], "CHIPS_PER_HOST_BOUNDS");
    Told { slice, host, problems: sources.problems }
}

struct Sources<'a> {
    node: &'a NodeLabels,
    file: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Sources<'_> {
    /// The value of one of these labels, or of this line of the file. What cannot be read is told, and is unknown.
    fn find<T: FromStr<Err: Display>>(&mut self, labels: &[&str], key: &str) -> Option<T> {
        let label = self.node.get(labels).map(|value| (labels.join(" or "), value));
        let line = || self.file.get(key).map(|value| (format!("{key} of the instance"), value.clone()));
        let (place, value) = label.or_else(line)?;
        match value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("{place} is {value:?}: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_by(settings: &Settings, labels: &[(&str, &str)], file: &str) -> Told {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("etc/tpu")).unwrap();
        std::fs::write(tree.path().join("etc/tpu/tpu-env"), file).unwrap();
        let node = NodeLabels::default();
        node.set(labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        told(&Root::new(tree.path(), "/"), settings, &node)
    }

    #[test]
    fn who_tells_first_is_believed() {
        let file = "TOPOLOGY: '2x2'\nWORKER_ID: '1'\nCHIPS_PER_HOST_BOUNDS: '2,2,1'\nACCELERATOR_TYPE: 'v5litepod-4'\n";
        let gke = ("cloud.google.com/gke-tpu-topology", "4x4");
        let other = ("tpu.google.com/topology", "8x8");
        let settings = Settings { topology: "16x16".parse().ok(), ..Settings::default() };
        let nothing = Settings::default();
        for (settings, labels, expected) in [
            (&settings, &[gke, other][..], "16x16"),
            (&nothing, &[gke, other], "4x4"),
            (&nothing, &[other], "8x8"),
            (&nothing, &[], "2x2"),
        ] {
            let told = told_by(settings, labels, file);
            assert_eq!(told.slice.topology.map(|topology| topology.to_string()).as_deref(), Some(expected));
            assert_eq!((told.slice.worker.id, told.host), (Some(1), Some(Bounds([2, 2, 1]))));
            assert_eq!(told.slice.accelerator_type.as_deref(), Some("v5litepod-4"));
            assert_eq!(told.problems, Vec::<String>::new());
        }
        assert_eq!(told_by(&nothing, &[], "").slice, Slice::default());
    }

    #[test]
    fn hosts_are_counted_by_the_topology_or_named() {
        let named = |count: usize| Worker { id: None, hostnames: vec!["a".to_owned(); count] };
        for (topology, worker, chips, expected) in [
            ("4x4", named(0), 4, Some(4)),
            ("2x4", named(0), 8, Some(1)),
            ("4x4x8", named(3), 4, Some(32)),
            ("4x4", named(4), 3, None),
            ("4x4", named(4), 0, None),
            ("", named(2), 4, Some(2)),
            ("", named(0), 4, None),
        ] {
            let slice = Slice { topology: topology.parse().ok(), worker, ..Slice::default() };
            assert_eq!(slice.hosts(chips), expected, "{topology} by {chips}");
        }
    }

    #[test]
    fn workers_off_gke() {
        let labels =
            [("tessera.dev/tpu-worker-id", "2"), ("tessera.dev/tpu-worker-hostnames", "a-0.tpu_a-1.tpu_a-2.tpu")];
        let told = told_by(&Settings::default(), &labels, "");
        assert_eq!(told.slice.worker.id, Some(2));
        assert_eq!(told.slice.worker.hostnames, ["a-0.tpu", "a-1.tpu", "a-2.tpu"]);
    }

    #[test]
    fn nonsense_is_told_and_not_believed() {
        let told = told_by(&Settings::default(), &[("tpu.google.com/topology", "4by4")], "WORKER_ID: 'first'\n");
        assert_eq!(told.slice, Slice::default());
        assert_eq!(told.problems.len(), 2);
        assert!(told.problems[0].contains("is \"4by4\": \"4by4\" is no TPU topology"), "{:?}", told.problems);
    }
}
