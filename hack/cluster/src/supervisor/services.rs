//! The processes that PID 1 runs on request.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};

use crate::control::{Answer, Request, ServiceState};
use crate::layout::{INSIDE, INSIDE_BIN};

/// Every service that was started, by name.
#[derive(Debug, Default)]
pub(super) struct Services(BTreeMap<String, ServiceState>);

impl Services {
    pub(super) fn handle(&mut self, request: Request) -> Answer {
        let outcome = match request {
            Request::Start { service, argv, env } => self.start(&service, argv, env),
            Request::StartAgain { service } => self.start_again(&service),
            Request::Signal { service, signal } => self.signal(&service, signal),
            Request::Services => {
                self.reap();
                return Answer::Services(self.0.values().cloned().collect());
            }
        };
        outcome.map_or_else(|error| Answer::Refused(format!("{error:#}")), |()| Answer::Done)
    }

    fn start_again(&mut self, service: &str) -> Result<()> {
        let Some(known) = self.0.get(service) else { bail!("there is no service {service:?}") };
        self.start(service, known.argv.clone(), known.env.clone())
    }

    fn start(&mut self, service: &str, argv: Vec<String>, env: Vec<(String, String)>) -> Result<()> {
        self.reap();
        if self.0.get(service).is_some_and(|known| known.ended.is_none()) {
            bail!("service {service:?} is running already: stop it first");
        }
        let [program, arguments @ ..] = argv.as_slice() else {
            bail!("service {service:?}: the command line is empty")
        };
        let path = format!("{INSIDE}/logs/{service}.log");
        let log =
            OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {path}"))?;
        let child = Command::new(program)
            .args(arguments)
            // Nothing of whoever started the cluster: a proxy for HTTPS, say, would come between the components.
            .env_clear()
            .env("HOME", format!("{INSIDE}/tmp"))
            .env("PATH", format!("{INSIDE_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"))
            .env("TMPDIR", format!("{INSIDE}/tmp"))
            .envs(env.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().with_context(|| format!("opening {path}"))?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("service {service:?}: starting {program}"))?;
        let pid = i32::try_from(child.id()).context("a process id beyond what the kernel gives out")?;
        self.0.insert(service.to_owned(), ServiceState { name: service.to_owned(), argv, env, pid, ended: None });
        Ok(())
    }

    fn signal(&mut self, service: &str, signal: i32) -> Result<()> {
        self.reap();
        let Some(state) = self.0.get(service) else { bail!("there is no service {service:?}") };
        if state.ended.is_some() {
            return Ok(());
        }
        let pid = Pid::from_raw(state.pid).context("a service without a process id")?;
        let Some(signal) = Signal::from_named_raw(signal) else {
            bail!("signal {signal}: there is none of this number")
        };
        kill_process(pid, signal).with_context(|| format!("service {service:?}: sending the signal"))
    }

    /// Collects every dead child: services, and orphans that became PID 1's children, such as containerd's shims.
    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(state) = self.0.values_mut().find(|state| state.pid == pid && state.ended.is_none()) {
                state.ended = Some(describe(status));
            }
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
