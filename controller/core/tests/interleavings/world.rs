use std::collections::{BTreeMap, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use proptest::test_runner::TestCaseError;
use tessera_policy::{Layout, PartitionPolicy, PartitionPolicySpec, Rollout, Rule, Which};
use tessera_rollout::Write;

use crate::agent::Agent;
use crate::controller::Controller;
use crate::fault::Fault;
use crate::server::Server;

const DEVICES: usize = 2;
const POLICY: &str = "p";

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Hear {
        controller: usize,
        kind: usize,
    },
    ListAnew {
        controller: usize,
    },
    /// It hears all that there is, decides, and sends so much of it.
    CatchUp {
        controller: usize,
        sends: u8,
    },
    Decide {
        controller: usize,
    },
    Send {
        controller: usize,
        answered: bool,
    },
    Kill {
        controller: usize,
    },
    /// It is killed when it has decided by all that there is: what it has decided is on its way.
    DecideAndDie {
        controller: usize,
    },
    Late,
    Observe {
        node: usize,
    },
    Work {
        node: usize,
        device: u8,
        fails: bool,
    },
    Report {
        node: usize,
    },
    /// Its agent does all that it has to do.
    Serve {
        node: usize,
    },
    Edit {
        what: u8,
    },
    Withdraw,
    Write {
        what: u8,
    },
    Label {
        node: usize,
        selected: bool,
    },
    Ready {
        node: usize,
        ready: bool,
    },
    Lose {
        node: usize,
    },
}

impl From<(u8, u8, u8)> for Action {
    fn from((which, a, b): (u8, u8, u8)) -> Self {
        let (controller, node) = (usize::from(a % 2), usize::from(a));
        match which % 64 {
            0..5 => Self::Hear { controller, kind: usize::from(b % 3) },
            5..14 => Self::CatchUp { controller, sends: b % 8 },
            14..17 => Self::Decide { controller },
            17..24 => Self::Send { controller, answered: !b.is_multiple_of(4) },
            24..29 => Self::Observe { node },
            29..31 => Self::Work { node, device: b, fails: b.is_multiple_of(5) },
            31..33 => Self::Report { node },
            33..40 => Self::Serve { node },
            40..46 => Self::DecideAndDie { controller },
            46 => Self::Kill { controller },
            47..51 => Self::Late,
            51 => Self::ListAnew { controller },
            52..56 => Self::Edit { what: a },
            56 => Self::Withdraw,
            57 => Self::Write { what: a },
            58 => Self::Ready { node, ready: b.is_multiple_of(2) },
            _ if b.is_multiple_of(16) => Self::Lose { node },
            _ => Self::Label { node, selected: b.is_multiple_of(2) },
        }
    }
}

/// Everything there is.
pub(crate) struct World {
    server: Server,
    controllers: [Controller; 2],
    agents: BTreeMap<String, Agent>,
    /// What controllers that were killed had sent.
    late: VecDeque<Write>,
    allowed: usize,
}

fn labels(selected: bool) -> BTreeMap<String, String> {
    [("gpus".to_owned(), selected.to_string())].into()
}

fn policy(layout: Layout, allowed: usize) -> PartitionPolicy {
    let selector = LabelSelector { match_labels: Some(labels(true)), ..LabelSelector::default() };
    PartitionPolicy {
        metadata: ObjectMeta {
            name: Some(POLICY.to_owned()),
            uid: Some(format!("uid-of-{layout}")),
            creation_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
            generation: Some(1),
            ..ObjectMeta::default()
        },
        spec: PartitionPolicySpec {
            node_selector: Some(selector),
            rules: vec![Rule { devices: Which::default(), max_per_node: None, layout }],
            rollout: Rollout {
                max_unavailable: IntOrString::Int(i32::try_from(allowed).unwrap()),
                max_failed: 100,
                ..Rollout::default()
            },
        },
        status: None,
    }
}

fn wish(what: u8) -> Layout {
    match what % 3 {
        0 => Layout::whole(),
        1 => Layout::shares(2),
        _ => Layout::dynamic(),
    }
}

impl World {
    pub(crate) fn new(nodes: usize, allowed: usize, fault: Option<Fault>) -> Self {
        let mut server = Server::with(fault);
        let mut agents = BTreeMap::new();
        for index in 0..nodes {
            let name = format!("n{index}");
            server.put_node(&name, labels(true), true);
            agents.insert(name.clone(), Agent::new(&name, DEVICES));
        }
        server.put_policy(policy(Layout::whole(), allowed));
        let controllers = [Controller::start(&server), Controller::start(&server)];
        Self { server, controllers, agents, late: VecDeque::new(), allowed }
    }

    fn node(&self, index: usize) -> String {
        format!("n{}", index % self.agents.len())
    }

    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Hear { controller, kind } => drop(self.controllers[controller].hear(&self.server, kind)),
            Action::ListAnew { controller } => self.controllers[controller].list_anew(&self.server),
            Action::CatchUp { controller, sends } => {
                self.catch_up(controller);
                for _ in 0..sends {
                    self.controllers[controller].send(&mut self.server, true);
                }
            }
            Action::DecideAndDie { controller } => {
                self.catch_up(controller);
                self.act(Action::Kill { controller });
            }
            Action::Decide { controller } => self.controllers[controller].decide(),
            Action::Send { controller, answered } => {
                self.controllers[controller].send(&mut self.server, answered);
            }
            Action::Kill { controller } => {
                let killed = std::mem::replace(&mut self.controllers[controller], Controller::start(&self.server));
                self.late.extend(killed.late());
            }
            Action::Late => drop(self.late.pop_front().and_then(|write| self.server.write(write))),
            Action::Observe { node } => {
                let name = self.node(node);
                self.agents.get_mut(&name).unwrap().observe(&self.server);
            }
            Action::Work { node, device, fails } => {
                let name = self.node(node);
                self.agents.get_mut(&name).unwrap().work(device, fails);
            }
            Action::Report { node } => {
                let name = self.node(node);
                self.agents[&name].report(&mut self.server);
            }
            Action::Serve { node } => self.serve(node),
            Action::Edit { what } => self.server.edit_policy(POLICY, |policy| match what % 5 {
                0 => policy.spec.rollout.paused = !policy.spec.rollout.paused,
                1 => policy.spec.rollout.attempt += 1,
                what => policy.spec.rules[0].layout = wish(what),
            }),
            Action::Withdraw => self.server.delete_policy(POLICY),
            Action::Write { what } => {
                if !self.server.policies.contains_key(POLICY) {
                    self.server.put_policy(policy(wish(what), self.allowed));
                }
            }
            Action::Label { node, selected } => {
                let name = self.node(node);
                let ready = self.server.nodes[&name].ready;
                self.server.put_node(&name, labels(selected), ready);
            }
            // Its agent may be heard of or not.
            Action::Ready { node, ready } => {
                let name = self.node(node);
                let labels = self.server.nodes[&name].labels.clone();
                self.server.put_node(&name, labels, ready);
            }
            Action::Lose { node } => {
                // It comes back as another node of the same name, with hardware that nothing was done to.
                let name = self.node(node);
                self.server.delete_node(&name);
                self.server.put_node(&name, labels(true), true);
                self.agents.insert(name.clone(), Agent::new(&name, DEVICES));
            }
        }
    }

    /// A controller hears all that there is, and decides.
    fn catch_up(&mut self, controller: usize) {
        let controller = &mut self.controllers[controller];
        for kind in 0..3 {
            while controller.hear(&self.server, kind) {}
        }
        controller.decide();
    }

    fn serve(&mut self, node: usize) {
        let name = self.node(node);
        let Some(agent) = self.agents.get_mut(&name) else { return };
        agent.observe(&self.server);
        agent.end();
        agent.report(&mut self.server);
    }

    /// What must hold at any moment.
    pub(crate) fn check(&self) -> Result<(), TestCaseError> {
        let changing: Vec<_> =
            self.agents.iter().filter(|(_, agent)| agent.is_changing()).map(|(name, _)| name).collect();
        if changing.len() > self.allowed {
            return Err(TestCaseError::fail(format!("{changing:?} are changing, and {} may be", self.allowed)));
        }
        Ok(())
    }

    /// Everybody does what they have to do, and nobody changes their mind.
    pub(crate) fn calm_down(&mut self) -> Result<(), TestCaseError> {
        while let Some(write) = self.late.pop_front() {
            self.server.write(write);
            self.check()?;
        }
        self.server.edit_policy(POLICY, |policy| {
            policy.spec.rollout.paused = false;
            policy.spec.rollout.attempt += 1;
        });
        for (name, node) in self.server.nodes.clone() {
            self.server.put_node(&name, node.labels, true);
        }
        for _ in 0..200 {
            if self.round()? {
                return self.check_the_end();
            }
        }
        Err(TestCaseError::fail("it does not come to an end"))
    }

    /// Says whether nothing has happened.
    fn round(&mut self) -> Result<bool, TestCaseError> {
        let before = self.server.log.len();
        for controller in 0..2 {
            self.catch_up(controller);
            while self.controllers[controller].send(&mut self.server, true) {
                self.check()?;
            }
        }
        for agent in self.agents.values_mut() {
            agent.observe(&self.server);
        }
        self.check()?;
        for agent in self.agents.values_mut() {
            agent.end();
            // What it learnt meanwhile.
            agent.observe(&self.server);
            agent.report(&mut self.server);
        }
        Ok(self.server.log.len() == before)
    }

    fn check_the_end(&self) -> Result<(), TestCaseError> {
        let policy = self.server.policies.get(POLICY);
        if policy.is_some_and(|policy| policy.metadata.deletion_timestamp.is_some()) {
            return Err(TestCaseError::fail("a policy that was withdrawn is still there"));
        }
        for (name, agent) in &self.agents {
            let selected = self.server.nodes[name].labels == labels(true);
            let wanted = policy
                .filter(|_| selected)
                .map_or_else(|| "-".to_owned(), |policy| policy.spec.rules[0].layout.to_string());
            if agent.layouts() != vec![wanted.clone(); DEVICES] {
                return Err(TestCaseError::fail(format!("{name} is {:?}, and should be {wanted}", agent.layouts())));
            }
            if self.server.layouts.contains_key(name) != (policy.is_some() && selected) {
                return Err(TestCaseError::fail(format!("the NodeLayout of {name}")));
            }
        }
        let status = policy.and_then(|policy| policy.status.clone()).unwrap_or_default();
        if !status.turns.is_empty() {
            return Err(TestCaseError::fail(format!("turns are left: {:?}", status.turns)));
        }
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let selected = self.server.nodes.values().any(|node| node.labels == labels(true));
        if policy.is_some() && ready.map(|ready| ready.status == "True") != Some(selected) {
            return Err(TestCaseError::fail(format!("{ready:?}")));
        }
        Ok(())
    }
}
