//! The program brings itself to the node.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;

/// Puts a copy of the running program at `to`; directories above it are made.
///
/// A runtime may be about to start the one that is there, so the new one is written aside and takes its place as a
/// whole.
///
/// # Errors
/// What the system says of the copy; nothing is left of it then.
pub fn install(to: &Path) -> io::Result<()> {
    let named = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let (directory, name) = (to.parent().ok_or_else(named)?, to.file_name().ok_or_else(named)?);
    fs::create_dir_all(directory)?;
    let aside = directory.join(format!(".{}-{}", name.to_string_lossy(), process::id()));
    let copied = copy(&aside).and_then(|()| fs::rename(&aside, to));
    if copied.is_err() {
        // Best effort: the copy's own error is what counts.
        let _ = fs::remove_file(&aside);
    }
    copied
}

fn copy(to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    io::copy(&mut File::open("/proc/self/exe")?, &mut file)?;
    file.set_permissions(Permissions::from_mode(0o755))?;
    // A node that loses power must not find half a program: the kubelet's directory outlives a reboot.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_this_program_and_replaces_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("tessera.dev/0.1.0/tessera-hook");
        let running = fs::read("/proc/self/exe").unwrap();
        for before in [None, Some("an older one")] {
            if let Some(text) = before {
                fs::write(&to, text).unwrap();
            }
            install(&to).unwrap();
            assert!(fs::read(&to).unwrap() == running);
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o755);
            assert_eq!(fs::read_dir(to.parent().unwrap()).unwrap().count(), 1);
        }
        fs::create_dir(directory.path().join("taken")).unwrap();
        assert!(install(&directory.path().join("taken")).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
