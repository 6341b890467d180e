//! What the probe can do.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, major, makedev, minor, mknodat};
use rustix::process::{WaitOptions, wait};

/// Every step, for a human.
pub(crate) const USAGE: &str = "\
steps, with --then between them:
  pause                     sleep and reap until a signal comes; for the sandbox
  sleep [SECONDS]           for ever without SECONDS
  echo WORDS...             prints the words
  env                       prints the environment, sorted
  devices                   prints each character device below /dev as `PATH MAJOR:MINOR`, sorted
  open PATH                 opens for reading and writing, prints `open PATH: ok` or the error's name
  mknod PATH MAJOR MINOR    makes the character device and opens it, prints a line for each
  wait-for PATH             waits until the path exists
  cat PATH                  prints a file
  exit CODE                 ends at once";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Sleep(Option<Duration>),
    Echo(String),
    Env,
    Devices,
    Open(PathBuf),
    MakeNode { path: PathBuf, major: u32, minor: u32 },
    WaitFor(PathBuf),
    Cat(PathBuf),
    Exit(i32),
}

impl Step {
    /// Reads one step; no words at all are `pause`.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words.as_slice() {
            [] | ["pause"] | ["sleep"] => Self::Sleep(None),
            ["sleep", seconds] => {
                let seconds = seconds.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                Self::Sleep(Some(seconds.ok_or("sleep: SECONDS must be a number of at least 0")?))
            }
            ["echo", rest @ ..] => Self::Echo(rest.join(" ")),
            ["env"] => Self::Env,
            ["devices"] => Self::Devices,
            ["open", path] => Self::Open(path.into()),
            ["mknod", path, major, minor] => {
                Self::MakeNode { path: path.into(), major: number("MAJOR", major)?, minor: number("MINOR", minor)? }
            }
            ["wait-for", path] => Self::WaitFor(path.into()),
            ["cat", path] => Self::Cat(path.into()),
            ["exit", code] => Self::Exit(number("CODE", code)?),
            other => return Err(format!("cannot make sense of {other:?}")),
        })
    }

    /// Does it, and says whether it went well.
    pub(crate) fn run(&self) -> bool {
        match self {
            Self::Sleep(None) => rest(),
            Self::Sleep(Some(time)) => sleep(*time),
            Self::Echo(text) => println!("{text}"),
            Self::Env => print_environment(),
            Self::Devices => print_devices(Path::new("/dev")),
            Self::Open(path) => return open(path),
            Self::MakeNode { path, major, minor } => return make_node(path, *major, *minor) && open(path),
            Self::WaitFor(path) => {
                while !path.exists() {
                    sleep(Duration::from_millis(20));
                }
                println!("wait-for {}: ok", path.display());
            }
            Self::Cat(path) => match fs::read_to_string(path) {
                Ok(text) => print!("{text}"),
                Err(error) => {
                    println!("cat {}: {}", path.display(), errno_name(&error));
                    return false;
                }
            },
            Self::Exit(code) => std::process::exit(*code),
        }
        true
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name} must be a whole number, not {text:?}"))
}

/// Until a signal comes. Children can only be orphans of the pod's processes, when those share this one's PID space.
fn rest() -> ! {
    loop {
        if wait(WaitOptions::empty()).is_err() {
            sleep(Duration::from_secs(1));
        }
    }
}

fn print_environment() {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        println!("{}={}", name.to_string_lossy(), value.to_string_lossy());
    }
}

fn print_devices(directory: &Path) {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::path);
    for entry in entries {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_dir() {
            print_devices(&entry.path());
        } else if metadata.file_type().is_char_device() {
            println!("{} {}:{}", entry.path().display(), major(metadata.rdev()), minor(metadata.rdev()));
        }
    }
}

fn open(path: &Path) -> bool {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    report("open", path, opened.map(|_| ()))
}

fn make_node(path: &Path, major: u32, minor: u32) -> bool {
    let made = mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o600), makedev(major, minor));
    report("mknod", path, made.map_err(std::io::Error::from))
}

fn report(what: &str, path: &Path, outcome: std::io::Result<()>) -> bool {
    match &outcome {
        Ok(()) => println!("{what} {}: ok", path.display()),
        Err(error) => println!("{what} {}: {}", path.display(), errno_name(error)),
    }
    outcome.is_ok()
}

/// `EPERM` and its kind: the one word that a test looks for.
fn errno_name(error: &std::io::Error) -> String {
    const NAMES: &[(rustix::io::Errno, &str)] = &[
        (rustix::io::Errno::ACCESS, "EACCES"),
        (rustix::io::Errno::BUSY, "EBUSY"),
        (rustix::io::Errno::EXIST, "EEXIST"),
        (rustix::io::Errno::IO, "EIO"),
        (rustix::io::Errno::ISDIR, "EISDIR"),
        (rustix::io::Errno::NODEV, "ENODEV"),
        (rustix::io::Errno::NOENT, "ENOENT"),
        (rustix::io::Errno::NXIO, "ENXIO"),
        (rustix::io::Errno::PERM, "EPERM"),
        (rustix::io::Errno::ROFS, "EROFS"),
    ];
    let Some(errno) = rustix::io::Errno::from_io_error(error) else { return error.to_string() };
    match NAMES.iter().find(|(known, _)| *known == errno) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("errno {}", errno.raw_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Step, String> {
        Step::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn steps_read_from_words() {
        let node = Step::MakeNode { path: "/dev/x".into(), major: 4, minor: 40 };
        let cases = [
            ("", Step::Sleep(None)),
            ("pause", Step::Sleep(None)),
            ("sleep 1.5", Step::Sleep(Some(Duration::from_millis(1500)))),
            ("mknod /dev/x 4 40", node),
            ("echo a b", Step::Echo("a b".to_owned())),
            ("exit 3", Step::Exit(3)),
        ];
        for (line, wanted) in cases {
            assert_eq!(parse(line), Ok(wanted), "{line}");
        }
        for line in ["sleep soon", "sleep -1", "mknod /dev/x four 40", "open", "fly"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_refusal_is_told_by_its_name() {
        let error = fs::File::open("/no/such/file").unwrap_err();
        assert_eq!(errno_name(&error), "ENOENT");
    }
}
