use std::fs;

use super::{NAMESPACE, Release};

/// What an agent's container has written, as the kubelet keeps it: `TIME stderr F LINE`.
pub(crate) struct PodLog {
    /// Of its pod.
    pub(crate) uid: String,
    pub(crate) text: String,
}

impl Release<'_> {
    /// The logs of the agents whose pods are there, the oldest first. They are read from the node's files, which costs no
    /// call of the API server, and goes on while that is away.
    pub(crate) fn logs(&self) -> Vec<PodLog> {
        let mut found = Vec::new();
        for pod in fs::read_dir(self.cluster.node_root().join("var/log/pods")).into_iter().flatten().flatten() {
            // Namespace, name and UID.
            let name = pod.file_name().to_string_lossy().into_owned();
            let Some((_, uid)) = name.rsplit_once('_').filter(|_| name.starts_with(&format!("{NAMESPACE}_"))) else {
                continue;
            };
            for log in fs::read_dir(pod.path().join("agent")).into_iter().flatten().flatten() {
                let text = fs::read_to_string(log.path()).unwrap_or_default();
                found.push(PodLog { uid: uid.to_owned(), text });
            }
        }
        // The first line's time; who has written nothing yet is the youngest.
        found.sort_by_key(|log| (log.text.is_empty(), log.text.lines().next().map(str::to_owned)));
        found
    }
}

impl PodLog {
    /// What the agent itself wrote.
    pub(crate) fn said(&self) -> String {
        let line = |line: &str| line.splitn(4, ' ').nth(3).map(|said| format!("{said}\n"));
        self.text.lines().filter_map(line).collect()
    }
}
