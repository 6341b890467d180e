//! Processes inside the node that are started and stopped by name: the components, and what a test adds.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{Cluster, check_file_name};
use crate::control::{Answer, Request, ServiceState, ask};
use crate::processes::outside_pid;

/// The service that the API server is.
pub(crate) const API_SERVER: &str = "kube-apiserver";
pub(crate) const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// How a cluster is.
#[derive(Debug, Clone)]
pub struct Status {
    /// The node's name.
    pub node: String,
    /// Whether the API server answers and calls the node Ready.
    pub node_ready: bool,
    /// Every service that was ever started, sorted by name.
    pub services: Vec<Service>,
}

/// A process that runs, or ran, inside the node.
#[derive(Debug, Clone)]
pub struct Service {
    /// The name it was started under.
    pub name: String,
    /// The process id on the host; `None` when it has ended.
    pub pid: Option<i32>,
    /// How it ended (`exit status 1`, `signal 9`); `None` while it runs.
    pub ended: Option<String>,
    /// Everything it wrote, on the host.
    pub log: PathBuf,
}

impl Cluster {
    /// Starts a program inside the node. Its output is appended to [`Cluster::service_log`]. It runs until it ends by
    /// itself, is stopped, or the cluster goes; nobody starts it again. Its environment is `env` and nothing else but
    /// `PATH` (the cluster's programs first), `HOME` and `TMPDIR`, unless `env` has those too.
    pub fn start_service(&self, name: &str, argv: &[String], env: &[(String, String)]) -> Result<()> {
        check_file_name("service", name)?;
        self.ask(&Request::Start { service: name.to_owned(), argv: argv.to_vec(), env: env.to_vec() })?;
        Ok(())
    }

    /// Sends `signal` to a service and waits for its end, which is returned: `exit status 0`, `signal 15`. One that is
    /// still there after `timeout` is killed, which shows as `signal 9`.
    pub fn stop_service(&self, name: &str, signal: Signal, timeout: Duration) -> Result<String> {
        self.signal_service(name, signal)?;
        if let Some(ended) = self.wait_for_service(name, timeout)? {
            return Ok(ended);
        }
        self.signal_service(name, Signal::KILL)?;
        self.wait_for_service(name, Duration::from_secs(10))?
            .with_context(|| format!("service {name:?} is still there after SIGKILL"))
    }

    /// Sends a signal to a service, and nothing more. One that has ended is fine.
    pub fn signal_service(&self, name: &str, signal: Signal) -> Result<()> {
        self.ask(&Request::Signal { service: name.to_owned(), signal: signal.as_raw() })?;
        Ok(())
    }

    fn wait_for_service(&self, name: &str, timeout: Duration) -> Result<Option<String>> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.service_state(name)?.with_context(|| format!("there is no service {name:?}"))?.ended;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            sleep(Duration::from_millis(10));
        }
    }

    /// Whether a service of this name runs.
    pub fn service_running(&self, name: &str) -> Result<bool> {
        Ok(self.service_state(name)?.is_some_and(|state| state.ended.is_none()))
    }

    /// The process id of a running service, on the host.
    pub fn service_pid(&self, name: &str) -> Result<Option<i32>> {
        let running = self.service_state(name)?.filter(|state| state.ended.is_none());
        Ok(running.and_then(|state| outside_pid(self.init(), state.pid)))
    }

    /// Where a service's output goes, on the host.
    pub fn service_log(&self, name: &str) -> PathBuf {
        self.directory.log_of(name)
    }

    /// Ends the kubelet, if it runs, and starts it. Pods go on meanwhile. Returns when the process was started.
    pub fn restart_kubelet(&self) -> Result<()> {
        if self.service_running("kubelet")? {
            self.stop_service("kubelet", Signal::TERM, Duration::from_secs(10))?;
        }
        self.start_again("kubelet")
    }

    /// Kills the kubelet without warning, as a crash would. It stays down until [`Cluster::restart_kubelet`].
    pub fn kill_kubelet(&self) -> Result<()> {
        self.stop_service("kubelet", Signal::KILL, Duration::from_secs(10))?;
        Ok(())
    }

    /// Ends the API server, which is on the first node, if it runs. What it stores stays, and pods go on. It stays away
    /// until [`Cluster::start_api_server`].
    pub fn stop_api_server(&self) -> Result<()> {
        // An outage comes without warning; told to end, it would first finish what is under way.
        self.kill_on_first(API_SERVER)
    }

    /// Starts the API server as it was at first. Returns when the process was started; it takes seconds until it answers.
    pub fn start_api_server(&self) -> Result<()> {
        self.seen_from(&self.spec.first()?.name)?.start_again(API_SERVER)
    }

    /// Ends the controller manager, which is on the first node, for good: no more pods are made for others, and nobody collects
    /// what nobody owns.
    pub fn stop_controller_manager(&self) -> Result<()> {
        self.kill_on_first(CONTROLLER_MANAGER)
    }

    /// Kills a service that is on the first node.
    fn kill_on_first(&self, service: &str) -> Result<()> {
        self.seen_from(&self.spec.first()?.name)?.stop_service(service, Signal::KILL, Duration::from_secs(10))?;
        Ok(())
    }

    fn start_again(&self, name: &str) -> Result<()> {
        self.ask(&Request::StartAgain { service: name.to_owned() })?;
        Ok(())
    }

    /// What runs, and whether the node is Ready.
    pub fn status(&self) -> Result<Status> {
        let services = self
            .service_states()?
            .into_iter()
            .map(|state| Service {
                pid: state.ended.is_none().then(|| outside_pid(self.init(), state.pid)).flatten(),
                log: self.service_log(&state.name),
                name: state.name,
                ended: state.ended,
            })
            .collect();
        Ok(Status { node: self.node_name().to_owned(), node_ready: self.node_ready(), services })
    }

    fn node_ready(&self) -> bool {
        let node = self.kubectl_output(&["get", "node", self.node_name(), "-o=json", "--request-timeout=5s"]);
        let node = node.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        node.is_some_and(|node| is_ready(&node))
    }

    pub(crate) fn service_states(&self) -> Result<Vec<ServiceState>> {
        match self.ask(&Request::Services)? {
            Answer::Services(services) => Ok(services),
            other => bail!("PID 1 of the node answered {other:?} to a question about services"),
        }
    }

    fn service_state(&self, name: &str) -> Result<Option<ServiceState>> {
        Ok(self.service_states()?.into_iter().find(|state| state.name == name))
    }

    fn ask(&self, request: &Request) -> Result<Answer> {
        ask(&self.directory.control_socket(), request)
    }
}

/// Whether a Node object has the condition Ready.
pub(crate) fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
