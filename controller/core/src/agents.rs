//! On which nodes there is an agent.

use std::collections::BTreeSet;

use crate::{Cluster, NodeName};

/// Where agents are, as those who see their ResourceSlices tell. Slices come and go with the kubelet, which removes them when
/// it starts: so an agent without any is away at first, and gone when somebody with a clock says so.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// Somebody tells of them. If not, a node has a NodeLayout for as long as a policy selects it.
    followed: bool,
    here: BTreeSet<NodeName>,
    gone: BTreeSet<NodeName>,
}

impl Agents {
    /// Whether a node is to have a NodeLayout because of its agent.
    pub(crate) fn has(&self, node: &NodeName) -> bool {
        self.here.contains(node)
    }

    /// Whether the NodeLayout of a node stays because of its agent: if in doubt.
    pub(crate) fn may_have(&self, node: &NodeName) -> bool {
        self.followed && !self.gone.contains(node)
    }

    /// Whether it is known that devices of the node cannot be had now, since nobody is there to hand them out.
    pub(crate) fn lacks(&self, node: &NodeName) -> bool {
        self.followed && !self.here.contains(node)
    }

    /// Nothing more is to be known of a node that is not there.
    pub(crate) fn forget(&mut self, node: &NodeName) {
        self.gone.remove(node);
    }
}

impl Cluster {
    /// From now on somebody tells which nodes have an agent: each of them gets a NodeLayout, and keeps it until the agent is
    /// gone.
    pub fn follow_agents(&mut self) {
        self.agents.followed = true;
    }

    /// A node has slices of an agent.
    pub fn agent_is_here(&mut self, node: &NodeName) {
        self.agents.gone.remove(node);
        if self.agents.here.insert(node.clone()) {
            self.look_again(node);
        }
    }

    /// A node has no such slices any more. They may come back.
    pub fn agent_is_away(&mut self, node: &NodeName) {
        if self.agents.here.remove(node) {
            self.look_again(node);
        }
    }

    /// An agent was away for long.
    pub fn agent_is_gone(&mut self, node: &NodeName) {
        if !self.agents.here.contains(node) && self.agents.gone.insert(node.clone()) {
            self.look_again(node);
        }
    }

    /// The nodes with a NodeLayout whose agents are away: each is to be told of as gone when it has been so for long. Looks
    /// at all nodes.
    pub fn agents_away(&self) -> Vec<NodeName> {
        let is_away = |node: &&NodeName| self.agents.lacks(node) && self.agents.may_have(node);
        self.layouts().keys().filter(is_away).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::Write;
    use crate::testing::{gpus, layout};

    fn decided(cluster: &mut Cluster) -> String {
        let writes = cluster.decide(Timestamp::UNIX_EPOCH);
        writes.iter().map(Write::kind).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_node_has_a_layout_for_as_long_as_it_has_an_agent() {
        let node = NodeName::from("n");
        let mut cluster = Cluster::default();
        cluster.follow_agents();
        cluster.node(node.clone(), "uid-of-n".to_owned(), Default::default());
        assert_eq!(decided(&mut cluster), "");
        cluster.agent_is_here(&node);
        assert_eq!(decided(&mut cluster), "create");
        cluster.layout(layout("n", Vec::new(), gpus(1)));
        assert_eq!((decided(&mut cluster), cluster.agents_away()), (String::new(), vec![]));
        cluster.agent_is_away(&node);
        assert_eq!((decided(&mut cluster), cluster.agents_away()), (String::new(), vec![node.clone()]));
        cluster.agent_is_gone(&node);
        assert_eq!((decided(&mut cluster), cluster.agents_away()), ("delete".to_owned(), vec![]));
        cluster.agent_is_here(&node);
        assert_eq!(decided(&mut cluster), "");
    }

    #[test]
    fn who_has_just_started_deletes_nothing() {
        let mut cluster = Cluster::default();
        cluster.follow_agents();
        cluster.node("n".into(), "uid-of-n".to_owned(), Default::default());
        cluster.layout(layout("n", Vec::new(), gpus(1)));
        assert_eq!((decided(&mut cluster), cluster.agents_away()), (String::new(), vec!["n".into()]));
        let mut without = Cluster::default();
        without.node("n".into(), "uid-of-n".to_owned(), Default::default());
        without.layout(layout("n", Vec::new(), gpus(1)));
        assert_eq!(decided(&mut without), "delete", "where nobody tells of agents");
    }
}
