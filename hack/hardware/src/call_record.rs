//! The record of calls: what NVML was asked since somebody wanted to know, by all processes together.
//!
//! A line for each call when it comes in, before it may fail, and one more when it has changed the machine. So what a
//! piece of work asks of the driver need not be listed by hand: it is watched once, and then each call can be made to fail.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::pci::PciAddress;
use crate::state_file::StateFile;

const CHANGED: &str = " changed";

/// One call of an exported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The function, one of [`crate::FUNCTIONS`].
    pub function: String,
    /// The GPU that it was about; absent for the machine.
    pub gpu: Option<PciAddress>,
    /// Whether it has changed the machine.
    pub changed: bool,
}

/// Where the calls of a machine are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    path: PathBuf,
}

impl CallRecord {
    /// The record of the machine that a state file belongs to.
    pub fn of(state: &StateFile) -> Self {
        Self { path: state.path().with_extension("calls") }
    }

    /// Keeps a call: once when it comes in, and again, with `changed`, when it has changed the machine.
    pub fn add(&self, call: &Call) -> Result<()> {
        let line = format!("{call}\n");
        // In one write to the end, so that the calls of several processes keep apart.
        let file = File::options().append(true).create(true).open(&self.path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(Error::file("write", &self.path))
    }

    /// All that was kept, in the order in which the calls came in.
    pub fn read(&self) -> Result<Vec<Call>> {
        let text = match fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text.map_err(Error::file("read", &self.path))?,
        };
        let mut calls: Vec<Call> = Vec::new();
        for line in text.lines() {
            let read = call(line).ok_or_else(|| unreadable(&self.path, line))?;
            let came_in =
                |known: &&mut Call| !known.changed && (&known.function, known.gpu) == (&read.function, read.gpu);
            match calls.iter_mut().rev().find(came_in).filter(|_| read.changed) {
                Some(known) => known.changed = true,
                None => calls.push(read),
            }
        }
        Ok(calls)
    }

    /// Forgets all calls.
    pub(crate) fn clear(&self) -> Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", &self.path)(error)),
            _ => Ok(()),
        }
    }
}

fn call(line: &str) -> Option<Call> {
    let (line, changed) = line.strip_suffix(CHANGED).map_or((line, false), |line| (line, true));
    let (function, gpu) = match line.split_once(' ') {
        Some((function, gpu)) => (function, Some(gpu.parse().ok()?)),
        None => (line, None),
    };
    Some(Call { function: function.to_owned(), gpu, changed })
}

fn unreadable(path: &Path, line: &str) -> Error {
    Error::file("read", path)(io::Error::new(io::ErrorKind::InvalidData, format!("{line:?} is no call")))
}

/// The line in the record: the function, the GPU, and whether the machine was changed.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        self.gpu.map_or(Ok(()), |gpu| write!(f, " {gpu}"))?;
        f.write_str(if self.changed { CHANGED } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let record = CallRecord::of(&StateFile::below(directory.path()));
        assert_eq!(record.read().unwrap(), []);
        let gpu = Some("0000:1b:00.0".parse().unwrap());
        let call = |function: &str, gpu, changed| Call { function: function.to_owned(), gpu, changed };
        let [count, first, second] =
            [("nvmlDeviceGetCount_v2", None), ("nvmlDeviceSetMigMode", gpu), ("nvmlDeviceSetMigMode", gpu)]
                .map(|(function, gpu)| call(function, gpu, false));
        let changed = Call { changed: true, ..second.clone() };
        // The change is that of the latest call of the same.
        for line in [&first, &second, &count, &changed] {
            record.add(line).unwrap();
        }
        assert_eq!(record.read().unwrap(), [first, changed, count]);
        record.clear().unwrap();
        record.clear().unwrap();
        assert_eq!(record.read().unwrap(), []);
    }
}
