//! A process of several threads that changes files, watched and interrupted. It is this program, run once more.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use interruptions::{Change, Errno, Interruption, Seen, Watch};

const DIRECTORY: &str = "INTERRUPTIONS_TEST_DIRECTORY";

#[test]
#[ignore = "the process that the other tests watch"]
fn subject() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    // Threads that were there before the watch, and that work beside it.
    let (busy, work) = std::sync::mpsc::channel::<()>();
    let idle = thread::spawn(move || {
        while work.recv_timeout(Duration::from_millis(1)).is_err() {
            // Threads come and go at all times.
            (0..8).for_each(|_| drop(thread::spawn(|| {})));
        }
    });
    println!("waiting");
    for line in io::stdin().lock().lines() {
        let (line, directory) = (line.unwrap(), directory.clone());
        // Each time another thread, made while watched.
        let done = thread::spawn(move || change(&directory, &line)).join().unwrap();
        println!(
            "{}",
            done.map_or_else(|error| format!("error {}", error.raw_os_error().unwrap()), |()| "done".into())
        );
    }
    busy.send(()).unwrap();
    idle.join().unwrap();
}

fn change(directory: &Path, text: &str) -> io::Result<()> {
    // Neither below the directory nor a change.
    fs::write(directory.with_extension("elsewhere"), text)?;
    let _ = fs::read(directory.join("new"));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(directory.join("aside"))?;
    file.write_all(text.as_bytes())?;
    file.write_all_at(b"!", text.len() as u64)?;
    file.sync_all()?;
    fs::rename(directory.join("aside"), directory.join("new"))?;
    fs::create_dir(directory.join("sub"))?;
    fs::hard_link(directory.join("new"), directory.join("sub/link"))?;
    fs::remove_dir_all(directory.join("sub"))
}

/// The subject, waiting for its next line.
struct Subject {
    child: Child,
    output: BufReader<ChildStdout>,
    directory: PathBuf,
    _parent: tempfile::TempDir,
}

impl Subject {
    fn start() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().canonicalize().unwrap().join("watched");
        fs::create_dir(&directory).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["subject", "--exact", "--ignored", "--nocapture"]).env(DIRECTORY, &directory);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut subject = Self { child, output, directory, _parent: parent };
        while subject.answer().unwrap() != "waiting" {}
        subject
    }

    fn watch(&self, interruption: Interruption) -> Watch {
        Watch::start(self.child.id(), std::slice::from_ref(&self.directory), interruption).unwrap()
    }

    /// Lets it work once; `None` if it ended.
    fn work(&mut self) -> Option<String> {
        writeln!(self.child.stdin.as_ref().unwrap(), "some text").unwrap();
        loop {
            let answer = self.answer()?;
            if answer == "done" || answer.starts_with("error") {
                return Some(answer);
            }
        }
    }

    fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).unwrap();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The points seen, with paths from the directory on.
    fn points(&self, seen: &Seen) -> Vec<String> {
        let directory = format!(" {}/", self.directory.display());
        seen.points.iter().map(|point| point.to_string().replace(&directory, " ")).collect()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const POINTS: [&str; 9] = [
    "openat aside",
    "write aside",
    "pwrite64 aside",
    "fsync aside",
    "rename aside new",
    "mkdir sub",
    "linkat new sub/link",
    "unlinkat sub/link",
    "unlinkat sub",
];

#[test]
fn every_change_is_seen_and_the_process_goes_on_after_the_watch() {
    let mut subject = Subject::start();
    for _ in 0..3 {
        let watch = subject.watch(Interruption::None);
        assert_eq!(subject.work().as_deref(), Some("done"));
        assert!(!watch.has_ended());
        let seen = watch.end().unwrap();
        assert_eq!(subject.points(&seen), POINTS);
        assert_eq!((seen.interrupted, seen.points[4].change), (None, Change::Name));
        assert_eq!(subject.work().as_deref(), Some("done"), "unwatched");
    }
}

#[test]
fn threads_may_end_while_a_watch_begins() {
    let subject = Subject::start();
    for _ in 0..300 {
        assert!(subject.watch(Interruption::None).end().unwrap().points.is_empty());
    }
}

#[test]
fn a_killed_process_has_done_what_comes_before_the_point_and_no_more() {
    for at in 0..9 {
        let mut subject = Subject::start();
        let watch = subject.watch(Interruption::Kill { at });
        assert_eq!(subject.work(), None);
        let seen = watch.end().unwrap();
        assert_eq!(seen.interrupted, Some(at));
        assert_eq!(subject.points(&seen), POINTS[..=at]);
        assert_eq!(subject.child.wait().unwrap().signal(), Some(9));
        let there = ["aside", "new", "sub", "sub/link"].map(|name| subject.directory.join(name).exists());
        assert_eq!(there, [(1..=4).contains(&at), at > 4, (6..=8).contains(&at), at == 7], "before {}", POINTS[at]);
    }
}

#[test]
fn a_write_is_torn_in_the_middle() {
    let mut subject = Subject::start();
    let watch = subject.watch(Interruption::Tear { at: 1 });
    assert_eq!(subject.work(), None);
    assert_eq!(watch.end().unwrap().interrupted, Some(1));
    assert_eq!(fs::read_to_string(subject.directory.join("aside")).unwrap(), "some");
}

#[test]
fn a_call_fails_once_or_from_there_on() {
    let mut subject = Subject::start();
    for (at, errno) in [Errno::ENOSPC, Errno::EROFS, Errno::EIO].into_iter().cycle().take(9).enumerate() {
        for and_all_after in [false, true] {
            let watch = subject.watch(Interruption::Fail { at, errno, and_all_after });
            assert_eq!(subject.work(), Some(format!("error {}", errno as i32)), "{}", POINTS[at]);
            let seen = watch.end().unwrap();
            assert_eq!((seen.interrupted, subject.points(&seen)[at].as_str()), (Some(at), POINTS[at]));
            let _ = fs::remove_dir_all(subject.directory.join("sub"));
            assert_eq!(subject.work().as_deref(), Some("done"), "after the watch");
        }
    }
}

#[test]
fn what_is_gone_or_is_traced_already_cannot_be_watched() {
    let mut subject = Subject::start();
    let watch = subject.watch(Interruption::None);
    let directories = [subject.directory.clone()];
    assert!(Watch::start(subject.child.id(), &directories, Interruption::None).is_err());
    drop(watch);
    subject.child.kill().unwrap();
    subject.child.wait().unwrap();
    assert!(Watch::start(subject.child.id(), &directories, Interruption::None).is_err());
}

#[test]
fn a_process_that_ends_by_itself_is_seen_to() {
    let mut subject = Subject::start();
    let watch = subject.watch(Interruption::None);
    drop(subject.child.stdin.take());
    while !watch.has_ended() {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(watch.end().unwrap().points.is_empty());
    assert!(subject.child.wait().unwrap().success());
}
