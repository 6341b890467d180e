//! What the library says to PID 1 of a node and to the supervisor: one JSON request and one JSON answer on a connection.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// PID 1 answers at once or is stuck: it never waits for a service. The supervisor waits for a node's processes to end.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Runs a program until it ends by itself or is signalled. Refused while a service of that name runs.
    Start { service: String, argv: Vec<String>, env: Vec<(String, String)> },
    /// Runs a service that has ended once more, as the last time.
    StartAgain { service: String },
    /// Sends a signal, by its number.
    Signal { service: String, signal: i32 },
    /// Asks for every service that was ever started.
    Services,
}

/// What a cluster's supervisor does on request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum NodeRequest {
    /// Makes a further node that is away anew: its namespaces, its network, its PID 1.
    Start { node: String },
    /// Kills PID 1 of a further node and with it all of the node.
    Kill { node: String },
}

/// What the supervisor, and before it PID 1, answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready,
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Done,
    Services(Vec<ServiceState>),
    Refused(String),
}

/// A service, as PID 1 of its node sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ServiceState {
    /// The name it was started under.
    pub(crate) name: String,
    /// Its program and arguments.
    pub(crate) argv: Vec<String>,
    /// What it got besides the environment of every service.
    pub(crate) env: Vec<(String, String)>,
    /// The process id inside the node.
    pub(crate) pid: i32,
    /// How it ended (`exit status 1`, `signal 9`); `None` while it runs.
    pub(crate) ended: Option<String>,
}

/// Sends one request to the PID 1 that listens on `socket`.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer> {
    match exchange(socket, request).with_context(|| format!("asking the node's PID 1 on {}", socket.display()))? {
        Answer::Refused(reason) => bail!("{reason}"),
        answer => Ok(answer),
    }
}

/// Sends one request to the supervisor that listens on `socket`.
pub(crate) fn ask_supervisor(socket: &Path, request: &NodeRequest) -> Result<()> {
    let answer = exchange(socket, request);
    match answer.with_context(|| format!("asking the cluster's supervisor on {}", socket.display()))? {
        Reply::Ready => Ok(()),
        Reply::Failed(reason) => bail!("{reason}"),
    }
}

fn exchange<A: for<'a> Deserialize<'a>>(socket: &Path, request: &impl Serialize) -> Result<A> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write_line(&mut stream, request)?;
    read_line(&mut BufReader::new(stream))
}

/// Writes `value` as one line of JSON.
pub(crate) fn write_line<T: Serialize>(to: &mut impl Write, value: &T) -> Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()?;
    Ok(())
}

/// Reads one line of JSON.
pub(crate) fn read_line<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        bail!("the other side closed the connection without a word");
    }
    serde_json::from_str(&line).with_context(|| format!("reading {:?}", line.trim_end()))
}
