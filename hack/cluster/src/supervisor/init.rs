//! PID 1 of a node: makes the node's surroundings, then starts services on request and reaps what dies.

use std::fs;
use std::io::{BufReader, ErrorKind, stdin, stdout};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::node::Birth;
use super::services::Services;
use super::{boot_id, devices, leave, mounts, network};
use crate::control::{Reply, Request, read_line, write_line};

/// How long a request may take to arrive. PID 1 waits for nobody else.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often orphans are reaped and ended services are noticed.
const BEAT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Runs PID 1. Returns only when the supervisor is gone, and the node goes with it.
pub fn run() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("tying PID 1 to the supervisor")?;
    let birth: Birth = read_line(&mut BufReader::with_capacity(1, stdin().lock()))?;
    let listener = match furnish(&birth) {
        Ok(listener) => listener,
        Err(error) => return write_line(&mut stdout(), &Reply::Failed(format!("{error:#}"))),
    };
    write_line(&mut stdout(), &Reply::Ready)?;
    serve(&listener)
}

/// Everything that must be there before the first service. Returns the socket that requests come in on.
fn furnish(birth: &Birth) -> Result<UnixListener> {
    let Birth { node, directory, first } = birth;
    let socket = directory.control_socket();
    // That of the node before it went away.
    if let Err(error) = fs::remove_file(&socket)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing {}", socket.display()));
    }
    let listener = UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    leave(UnshareFlags::NEWNS | UnshareFlags::NEWNET).context("making mount and network namespaces")?;
    let binds = mounts::open_sources(&node.binds)?;
    mounts::isolate(directory)?;
    boot_id::renew()?;
    devices::furnish()?;
    for (source, bind) in &binds {
        mounts::bind(source, &bind.target)?;
    }
    mounts::protect_host()?;
    mounts::share()?;
    network::furnish(first.then_some(node.address.as_str()))?;
    fs::write(format!("{}/resolv.conf", crate::layout::INSIDE), "").context("writing resolv.conf")?;
    Ok(listener)
}

fn serve(listener: &UnixListener) -> Result<()> {
    listener.set_nonblocking(true).context("listening")?;
    let supervisor = stdin();
    let mut services = Services::default();
    loop {
        let (asked, supervisor_gone) = {
            let mut watched = [PollFd::new(listener, PollFlags::IN), PollFd::new(&supervisor, PollFlags::IN)];
            match poll(&mut watched, Some(&BEAT)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for requests"),
            }
            (!watched[0].revents().is_empty(), !watched[1].revents().is_empty())
        };
        if supervisor_gone {
            return Ok(());
        }
        services.reap();
        if asked
            && let Ok((stream, _)) = listener.accept()
            && let Err(error) = answer(stream, &mut services)
        {
            eprintln!("a request failed: {error:#}");
        }
    }
}

fn answer(mut stream: UnixStream, services: &mut Services) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request: Request = read_line(&mut BufReader::new(&stream))?;
    let answer = services.handle(request);
    write_line(&mut stream, &answer)
}
