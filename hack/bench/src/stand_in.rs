//! The API server stand-in in a process of its own: the agent's waiting for it is then real.
//!
//! It is told what to do by lines on stdin, and answers each by a line on stdout.

use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use testkit::api_server::Resource;
use testkit::{ApiServer, Claim, Node};

use crate::ground::devices_of_pool;

/// The process; it ends when dropped.
pub(crate) struct StandIn {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl StandIn {
    /// Starts it.
    pub(crate) fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("the path of the bench")?);
        let mut child = command
            .arg("serve-api")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("no second process")?;
        let stdin = child.stdin.take().context("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        Ok(Self { child, stdin, stdout })
    }

    /// Writes a kubeconfig that leads to it.
    pub(crate) fn write_kubeconfig(&mut self, path: &std::path::Path) -> Result<()> {
        self.ask(&format!("kubeconfig {}", path.display())).map(|_| ())
    }

    /// Makes it know a claim.
    pub(crate) fn put(&mut self, claim: &Claim) -> Result<()> {
        self.ask(&format!("claim {}", claim.object())).map(|_| ())
    }

    /// Deletes all slices.
    pub(crate) fn wipe(&mut self) -> Result<()> {
        self.ask("wipe").map(|_| ())
    }

    /// Waits until there are as many devices in slices.
    pub(crate) fn wait_for_devices(&mut self, number: usize) -> Result<()> {
        self.ask(&format!("devices {number}")).map(|_| ())
    }

    /// Waits until the pool is there whole; says how many devices it has.
    pub(crate) fn wait_for_pool(&mut self) -> Result<usize> {
        Ok(self.ask("pool")?.parse()?)
    }

    /// Counts the writing requests since the last call.
    pub(crate) fn writes(&mut self) -> Result<f64> {
        Ok(self.ask("writes")?.parse()?)
    }

    /// Counts all requests since the last call.
    pub(crate) fn requests(&mut self) -> Result<f64> {
        Ok(self.ask("requests")?.parse()?)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.stdin, "{line}").context("the stand-in has ended")?;
        let mut answer = String::new();
        self.stdout.read_line(&mut answer).context("the stand-in has ended")?;
        match answer.strip_prefix("ok") {
            Some(answer) => Ok(answer.trim().to_owned()),
            None => bail!("the stand-in answered {answer:?} to {line:?}"),
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: serves until stdin ends.
pub(crate) fn serve() -> Result<()> {
    let server = ApiServer::start();
    server.put_node(Node::NAME, Node::UID);
    for line in stdin().lines() {
        let line = line?;
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match carry_out(&server, word, rest) {
            Ok(answer) => println!("ok {answer}"),
            Err(error) => println!("error {error:#}"),
        }
    }
    Ok(())
}

fn carry_out(server: &ApiServer, word: &str, rest: &str) -> Result<String> {
    match word {
        "kubeconfig" => server.write_kubeconfig(rest.as_ref()),
        "claim" => drop(server.put(Resource::Claims, serde_json::from_str(rest)?)),
        "wipe" => server.wipe_slices(Node::NAME),
        "devices" => wait_for_devices(server, rest.parse()?)?,
        "pool" => return wait_for_pool(server).map(|devices| devices.to_string()),
        "writes" => {
            let writes = server.requests().writes();
            server.forget_requests();
            return Ok(writes.to_string());
        }
        "requests" => {
            let requests = server.requests().all();
            server.forget_requests();
            return Ok(requests.to_string());
        }
        other => bail!("{other:?} is not known"),
    }
    Ok(String::new())
}

fn wait_for_devices(server: &ApiServer, wanted: usize) -> Result<()> {
    let devices = |slice: &Value| slice["spec"]["devices"].as_array().map_or(0, Vec::len);
    let all_there = || (server.slices().iter().map(devices).sum::<usize>() == wanted).then_some(());
    wait_for(all_there).with_context(|| format!("{wanted} devices"))
}

fn wait_for_pool(server: &ApiServer) -> Result<usize> {
    let whole = || {
        let slices: Result<Vec<_>, _> = server.slices().into_iter().map(serde_json::from_value).collect();
        devices_of_pool(&slices.ok()?)
    };
    wait_for(whole).context("a whole pool")
}

fn wait_for<T>(wanted: impl Fn() -> Option<T>) -> Result<T> {
    for _ in 0..30_000 {
        if let Some(found) = wanted() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("did not appear within 30 s")
}
