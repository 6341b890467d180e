//! The threads that serve the file system, with a table of file descriptors of their own.
//!
//! A write that waits for a driver waits in the kernel, where no signal ends it before it is answered. Were the way to
//! answer it (`/dev/fuse`) open in the same table as the file that is written to, then a process that serves and writes,
//! as tests are, could not be killed: the table is closed with the last thread, and the last thread waits for the answer.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use fuser::Config;
use nix::sched::CloneFlags;

use crate::file_system::FileSystem;

/// Serves until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Hung up to say that it is over.
    _end: mpsc::Sender<()>,
}

impl Server {
    pub(crate) fn start(files: FileSystem, mount_point: &Path, config: Config) -> io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let (started, start) = mpsc::channel();
        let mount_point = mount_point.to_owned();
        thread::spawn(move || {
            let session = own_table().and_then(|()| fuser::spawn_mount(files, mount_point, &config));
            let session = match session {
                Ok(session) => session,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            let _ = ended.recv();
            // Here, where its descriptors are. Not joined: its thread ends with the last file that somebody has open.
            drop(session);
        });
        match start.recv() {
            Ok(started) => started.map(|()| Self { _end: end }),
            Err(_) => Err(io::Error::other("the server's thread has ended")),
        }
    }
}

/// Gives this thread, and those that it starts, a table of file descriptors with nothing but the standard streams.
fn own_table() -> io::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_FILES)?;
    // Copies of what others have open, which would keep their pipes from ending.
    let open: Vec<i32> = fs::read_dir("/proc/thread-self/fd")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // The descriptor of the directory itself is listed and closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
