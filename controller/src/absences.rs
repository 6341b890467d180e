//! How long agents have been away.

use std::collections::BTreeMap;
use std::time::Duration;

use tessera_rollout::{Cluster, NodeName};
use tokio::time::Instant;

/// So long an agent must have been without slices until its NodeLayout goes, and the node's labels with it: a kubelet removes
/// slices when it starts, and a node that is started anew takes minutes.
const GRACE: Duration = Duration::from_secs(900);
/// All nodes are looked at this often.
pub(crate) const LOOK: Duration = Duration::from_secs(60);

/// The agents that are away, and since when.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    since: BTreeMap<NodeName, Instant>,
    looked: Option<Instant>,
}

impl Absences {
    /// Looks who is away, if that was not done just now, and tells who has been so for long.
    pub(crate) fn look(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK) {
            return;
        }
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.since);
        for node in cluster.agents_away() {
            let since = before.remove(&node).unwrap_or(now);
            if now.duration_since(since) >= GRACE {
                cluster.agent_is_gone(&node);
            } else {
                self.since.insert(node, since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;
    use tessera_policy::{NodeLayout, NodeLayoutSpec};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_away_for_long_is_gone() {
        let mut cluster = Cluster::default();
        cluster.follow_agents();
        for name in ["a", "b"] {
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                resource_version: Some("1".to_owned()),
                ..ObjectMeta::default()
            };
            cluster.layout(NodeLayout { metadata, spec: NodeLayoutSpec::default(), status: None });
        }
        let mut absences = Absences::default();
        absences.look(&mut cluster);
        tokio::time::advance(GRACE / 2).await;
        cluster.agent_is_here(&"b".into());
        absences.look(&mut cluster);
        cluster.agent_is_away(&"b".into());
        tokio::time::advance(GRACE / 2).await;
        absences.look(&mut cluster);
        assert_eq!(cluster.agents_away(), ["b".into()], "it was there meanwhile");
    }
}
