//! The agent as a process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use super::Node;
use crate::{PATIENCE, until};

/// A running agent. It is killed when dropped.
pub struct Agent {
    child: Child,
    /// What it waits for before it begins, until that has come.
    held: Option<ChildStdin>,
    log: PathBuf,
}

/// How a command of the agent ended, and what it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Whether it succeeded.
    pub success: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Agent {
    /// Starts `program` with its log in a file.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[String], log: &Path) -> Self {
        let mut command = command(program);
        command.args(arguments).stdin(Stdio::null());
        Self::spawn(command, log)
    }

    /// Makes its process, which begins with `program` when released: so it can be traced from its first instruction.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn hold(program: &Path, arguments: &[String], log: &Path) -> Self {
        // A shell in the same process: between fork and exec, only unsafe code could wait.
        let mut command = command(Path::new("/bin/sh"));
        command.args(["-c", "read -r _ && exec \"$0\" \"$@\" </dev/null"]).arg(program).args(arguments);
        command.stdin(Stdio::piped());
        Self::spawn(command, log)
    }

    fn spawn(mut command: Command, log: &Path) -> Self {
        let file = File::create(log).expect("a file for the agent's log");
        let mut child = command.stdout(Stdio::null()).stderr(file).spawn().expect("the agent starts");
        Self { held: child.stdin.take(), child, log: log.to_owned() }
    }

    /// Lets it begin, if it was held.
    pub fn release(&mut self) {
        if let Some(mut held) = self.held.take() {
            held.write_all(b"\n").expect("an agent that waits");
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waiting for the agent")
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(id, signal).expect("a signal to the agent");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that takes nothing from the environment of the test.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TESSERA_")) {
        command.env_remove(name);
    }
    command.env_remove("NODE_NAME").env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST");
    command
}

impl Node {
    /// Starts the agent; `more` flags come last, so they win.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_agent(&mut self, more: &[&str]) {
        let arguments = self.arguments_and(more);
        self.keep_log();
        self.agent = Some(Agent::start(&self.program, &arguments, &self.path("agent.log")));
    }

    /// Installs another release of the agent: `program` is what is started from now on.
    pub fn install_agent(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Makes the agent's process, which begins when it is told to by [`Agent::release`].
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn hold_agent(&mut self) {
        let arguments = self.arguments();
        self.keep_log();
        self.agent = Some(Agent::hold(&self.program, &arguments, &self.path("agent.log")));
    }

    fn arguments_and(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments();
        for pair in more.chunks(2) {
            // A flag may stand once only.
            if let Some(at) = arguments.iter().position(|argument| *argument == pair[0]) {
                arguments.drain(at..at + 2);
            }
            arguments.extend(pair.iter().map(|word| (*word).to_owned()));
        }
        arguments
    }

    /// The flags with which the agent serves this node.
    pub fn arguments(&self) -> Vec<String> {
        let directory = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            "run".to_owned(),
            "--node-name".to_owned(),
            Self::NAME.to_owned(),
            "--root".to_owned(),
            directory(self.root()),
            "--kubelet-dir".to_owned(),
            directory(self.kubelet_dir()),
            "--cdi-dir".to_owned(),
            directory(self.cdi_dir()),
            "--state-dir".to_owned(),
            directory(self.state_dir()),
            "--kubeconfig".to_owned(),
            directory(self.path("kubeconfig")),
            "--http".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--rescan".to_owned(),
            "0.1".to_owned(),
        ]
        .to_vec()
    }

    /// The agent.
    ///
    /// # Panics
    /// Before one is started.
    pub fn agent(&mut self) -> &mut Agent {
        self.agent.as_mut().expect("an agent")
    }

    /// Tells the agent to end, as Kubernetes does, and waits for its end.
    ///
    /// # Panics
    /// When it has not ended after [`PATIENCE`].
    pub async fn stop(&mut self) -> ExitStatus {
        self.agent().signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    /// Ends the agent as a power cut would, if there were one only for it.
    pub async fn kill(&mut self) -> ExitStatus {
        self.agent().signal(rustix::process::Signal::KILL);
        self.ended().await
    }

    /// Waits for the agent's end.
    ///
    /// # Panics
    /// When it has not ended after [`PATIENCE`].
    pub async fn ended(&mut self) -> ExitStatus {
        let agent = self.agent();
        until(PATIENCE, || agent.ended()).await.expect("the agent ends")
    }

    /// Runs another command of the agent to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let root = self.root();
        let mut command = command(&self.program);
        command.arg("--root").arg(root).args(arguments).env("HOME", self.directory.path());
        let output = command.output().expect("the agent starts");
        Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything that the agents of this node have logged.
    pub fn log(&self) -> String {
        let earlier = fs::read_to_string(self.path("agents.log")).unwrap_or_default();
        earlier + &self.agent.as_ref().map(Agent::log).unwrap_or_default()
    }

    fn keep_log(&mut self) {
        let log = self.log();
        self.agent = None;
        fs::write(self.path("agents.log"), log).expect("a file for earlier logs");
    }
}
