//! The directory that keeps what was built.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::fs::{FlockOperation, flock};

use super::Progress;

#[derive(Debug)]
pub(crate) struct Cache(PathBuf);

impl Cache {
    /// Opens the cache, making it where there is none.
    pub(crate) fn open() -> Result<Self> {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = variable("TESSERA_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|home| home.join("tessera")))
            .or_else(|| variable("HOME").map(|home| home.join(".cache/tessera")))
            .context("no place for a cache: set TESSERA_CACHE to a directory with 3 GiB of room")?;
        fs::create_dir_all(&directory).with_context(|| format!("making the cache {}", directory.display()))?;
        // The node links to the programs by absolute paths.
        let directory = directory.canonicalize().with_context(|| format!("resolving {}", directory.display()))?;
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of a complete entry. Where there is none, `fill` is called with a directory to write to, which
    /// becomes the entry when it succeeds.
    pub(crate) fn entry(
        &self,
        name: &str,
        progress: &mut Progress<'_>,
        fill: impl FnOnce(&Path, &mut Progress<'_>) -> Result<()>,
    ) -> Result<PathBuf> {
        let entry = self.0.join(name);
        if entry.is_dir() {
            return Ok(entry);
        }
        let _lock = self.lock(name, progress)?;
        if entry.is_dir() {
            return Ok(entry);
        }
        let aside = self.0.join(format!("{name}.unfinished"));
        if aside.exists() {
            fs::remove_dir_all(&aside).with_context(|| format!("removing {}", aside.display()))?;
        }
        fs::create_dir(&aside).with_context(|| format!("making {}", aside.display()))?;
        fill(&aside, progress)?;
        fs::rename(&aside, &entry).with_context(|| format!("naming {}", entry.display()))?;
        Ok(entry)
    }

    /// Waits until no other process fills the entry. The lock goes when the file is closed, however this process ends.
    fn lock(&self, name: &str, progress: &mut Progress<'_>) -> Result<File> {
        let path = self.0.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            progress.tick(true);
            sleep(Duration::from_millis(100));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    fn entry(cache: &Cache, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let mut report = |_: &super::super::Building| {};
        let mut progress = Progress::new("cni", 1, 1, Duration::ZERO, &mut report);
        cache.entry("part-1", &mut progress, |target, _| fill(target))
    }

    #[test]
    fn an_entry_is_filled_once_and_never_left_half_made() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache(directory.path().to_owned());
        let interrupted = entry(&cache, |target| {
            fs::write(target.join("half"), "")?;
            anyhow::bail!("interrupted")
        });
        assert!(interrupted.is_err());
        assert!(!directory.path().join("part-1").exists());

        let made = entry(&cache, |target| Ok(fs::write(target.join("whole"), "")?)).unwrap();
        assert!(made.join("whole").exists());
        assert!(!made.join("half").exists());
        entry(&cache, |_| anyhow::bail!("filled twice")).unwrap();
    }

    #[test]
    fn of_many_who_want_an_entry_at_once_one_fills_it() {
        let directory = tempfile::tempdir().unwrap();
        let filled = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let fill = |_: &Path| {
                        filled.fetch_add(1, Ordering::Relaxed);
                        sleep(Duration::from_millis(50));
                        Ok(())
                    };
                    assert!(entry(&Cache(directory.path().to_owned()), fill).unwrap().is_dir());
                });
            }
        });
        assert_eq!(filled.load(Ordering::Relaxed), 1);
    }
}
