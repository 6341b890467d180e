//! The directory as runtimes see it, in good times and bad.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cdi::{ContainerEdits, Device, Directory, Error, FileName, Spec};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};

fn spec(value: &str) -> Spec {
    let edits = ContainerEdits { env: vec![format!("VALUE={value}")], ..Default::default() };
    Spec::new("example.com/gpu".parse().unwrap(), vec![Device::new("a".parse().unwrap(), edits)])
}

fn file(id: &str) -> FileName {
    FileName::transient(&spec("").kind, id).unwrap()
}

/// All names in the directory, also those that no runtime reads.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn io_kind(error: &Error) -> Option<io::ErrorKind> {
    match error {
        Error::Io { source, .. } => Some(source.kind()),
        _ => None,
    }
}

#[test]
fn files_come_change_and_go() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    assert_eq!(directory.read(&file("1")).unwrap(), None);
    assert!(!directory.remove(&file("1")).unwrap());

    directory.write(&file("1"), &spec("one")).unwrap();
    directory.write(&file("2"), &spec("two")).unwrap();
    directory.write(&file("1"), &spec("three")).unwrap();
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("three")));
    assert_eq!(names(root.path()), ["example.com-gpu_1.json", "example.com-gpu_2.json"]);
    assert_eq!(
        fs::read_to_string(root.path().join("example.com-gpu_2.json")).unwrap(),
        concat!(
            r#"{"cdiVersion":"0.3.0","kind":"example.com/gpu","#,
            r#""devices":[{"name":"a","containerEdits":{"env":["VALUE=two"]}}]}"#,
            "\n"
        )
    );

    assert!(directory.remove(&file("1")).unwrap());
    assert!(!directory.remove(&file("1")).unwrap());
    assert_eq!(directory.list("").unwrap(), [file("2")]);
}

#[test]
fn lists_specs_with_a_prefix_only() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    for name in ["example.com-gpu_2.json", "example.com-gpu_1.json", "other.com-gpu_1.json"] {
        directory.write(&name.parse().unwrap(), &spec("")).unwrap();
    }
    for other in ["example.com-gpu_3.yaml", "example.com-gpu_4.json.bak", ".example.com-gpu_5.json"] {
        fs::write(root.path().join(other), "").unwrap();
    }
    assert_eq!(directory.list(&FileName::transient_prefix(&spec("").kind)).unwrap(), [file("1"), file("2")]);
    assert_eq!(directory.list("nothing").unwrap(), []);
}

#[test]
fn the_directory_is_made_whenever_it_is_missing() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("run/cdi");
    let directory = Directory::open(&path).unwrap();
    fs::remove_dir(&path).unwrap();
    assert_eq!(directory.list("").unwrap(), []);
    assert_eq!(directory.read(&file("1")).unwrap(), None);
    assert!(!directory.remove(&file("1")).unwrap());

    fs::remove_dir(&path).unwrap();
    directory.write(&file("1"), &spec("")).unwrap();
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("")));
}

/// The umask belongs to the whole process, so this is the one test that changes it; the others do not mind.
#[test]
fn modes_do_not_depend_on_the_umask() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cdi");
    let before = rustix::process::umask(Mode::from_raw_mode(0o077));
    let directory = Directory::open(&path).unwrap();
    directory.write(&file("1"), &spec("")).unwrap();
    rustix::process::umask(before);
    assert_eq!((mode(&path), mode(&path.join(file("1").as_str()))), (0o755, 0o644));
}

#[test]
fn an_invalid_spec_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    directory.write(&file("1"), &spec("good")).unwrap();
    let error = directory.write(&file("1"), &Spec { devices: Vec::new(), ..spec("bad") }).unwrap_err();
    assert!(matches!(&error, Error::Invalid { source, .. } if source.field == "devices"), "{error}");
    assert!(error.to_string().contains("example.com-gpu_1.json: devices: there are no devices"), "{error}");
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("good")));
    assert_eq!(names(root.path()).len(), 1);
}

#[test]
fn sweeps_what_a_crash_left_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    // The names that the next writes of this process would take, as if one with the same id had died often.
    for number in 0..100 {
        fs::write(root.path().join(format!(".tessera-{}-{number}.tmp", std::process::id())), "{").unwrap();
    }
    fs::write(root.path().join("spec.123.tmp"), "{").unwrap();
    directory.write(&file("1"), &spec("")).unwrap();
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("")));
    assert_eq!(names(root.path()).len(), 102);
    assert_eq!(directory.list("").unwrap(), [file("1")]);

    assert_eq!(directory.sweep().unwrap(), 100);
    assert_eq!(directory.sweep().unwrap(), 0);
    assert_eq!(names(root.path()), ["example.com-gpu_1.json", "spec.123.tmp"]);
}

#[test]
fn where_the_file_should_be_is_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    fs::create_dir(root.path().join(file("1").as_str())).unwrap();
    let error = directory.write(&file("1"), &spec("")).unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::IsADirectory));
    assert!(error.to_string().starts_with("renaming to /"), "{error}");
    assert_eq!(names(root.path()), [file("1").as_str()]);
    assert_eq!(io_kind(&directory.read(&file("1")).unwrap_err()), Some(io::ErrorKind::IsADirectory));
    assert_eq!(io_kind(&directory.remove(&file("1")).unwrap_err()), Some(io::ErrorKind::IsADirectory));
}

#[test]
fn where_the_directory_should_be_is_a_file() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("cdi");
    fs::write(&path, "").unwrap();
    let error = Directory::open(&path).unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::NotADirectory));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn files_that_hold_no_spec_are_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    for text in ["", "{", "[]", "null", "\0", r#"{"cdiVersion":"0.3.0"}"#] {
        fs::write(root.path().join(file("1").as_str()), text).unwrap();
        let error = directory.read(&file("1")).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{text:?}: {error}");
        assert!(error.to_string().contains("example.com-gpu_1.json: "), "{error}");
    }
}

/// A small file system of its own, gone when dropped; `None` where this process may not mount.
struct SmallFileSystem(tempfile::TempDir);

impl SmallFileSystem {
    fn new() -> Option<Self> {
        let root = tempfile::tempdir().unwrap();
        let options = c"size=8k,mode=0755";
        match rustix::mount::mount("tmpfs", root.path(), "tmpfs", MountFlags::empty(), options) {
            Ok(()) => Some(Self(root)),
            Err(error) => {
                eprintln!("skipped: mounting a tmpfs needs more rights ({error})");
                None
            }
        }
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_file_system_keeps_the_old_file() {
    let Some(mounted) = SmallFileSystem::new() else { return };
    let directory = Directory::open(mounted.0.path()).unwrap();
    directory.write(&file("1"), &spec("old")).unwrap();
    let error = directory.write(&file("1"), &spec(&"x".repeat(20_000))).unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::StorageFull), "{error}");
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("old")));
    assert_eq!(names(mounted.0.path()), [file("1").as_str()]);
    // There is room again for what fits: the unfinished file is gone.
    directory.write(&file("1"), &spec("new")).unwrap();
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("new")));
}

#[test]
fn a_read_only_file_system_keeps_the_old_file() {
    let Some(mounted) = SmallFileSystem::new() else { return };
    let directory = Directory::open(mounted.0.path()).unwrap();
    directory.write(&file("1"), &spec("old")).unwrap();
    rustix::mount::mount_remount(mounted.0.path(), MountFlags::RDONLY, c"").unwrap();
    for (doing, error) in [
        ("creating", directory.write(&file("1"), &spec("new")).unwrap_err()),
        ("removing", directory.remove(&file("1")).unwrap_err()),
    ] {
        assert_eq!(io_kind(&error), Some(io::ErrorKind::ReadOnlyFilesystem), "{error}");
        assert!(error.to_string().starts_with(doing), "{error}");
    }
    assert_eq!(directory.read(&file("1")).unwrap(), Some(spec("old")));
    assert_eq!(directory.list("").unwrap(), [file("1")]);
}
