//! The hook against container roots of all kinds, hostile ones too, and against glibc's own tools.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;
use tessera_hook::{Arguments, Cache, RootDirectory, create_container};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06";

/// A bundle with a root, beside a directory that stands for the rest of the host.
struct Container {
    all: TempDir,
}

impl Container {
    fn new() -> Self {
        let container = Self { all: tempfile::tempdir().unwrap() };
        fs::create_dir_all(container.path("usr/lib/x86_64-linux-gnu")).unwrap();
        fs::create_dir_all(container.host()).unwrap();
        fs::write(container.path(LIBRARY), "library").unwrap();
        fs::write(container.all.path().join("config.json"), r#"{"root":{"path":"rootfs"}}"#).unwrap();
        container
    }

    fn path(&self, path: &str) -> PathBuf {
        self.all.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    fn host(&self) -> PathBuf {
        self.all.path().join("host")
    }

    fn state(&self) -> String {
        format!(r#"{{"id":"a","bundle":{:?},"pid":1}}"#, self.all.path())
    }

    fn run(&self) -> Result<(), String> {
        create_container(self.state().as_bytes(), &arguments()).map_err(|error| error.to_string())
    }

    fn cache(&self) -> Vec<(String, String)> {
        let root = RootDirectory::open(&self.path("")).unwrap();
        let cache = Cache::parse(&root.read("/etc/ld.so.cache", 1 << 20).unwrap().unwrap()).unwrap();
        let text = |text: &std::ffi::OsStr| text.to_str().unwrap().to_owned();
        cache.entries().iter().map(|entry| (text(entry.name()), text(entry.path()))).collect()
    }

    fn link(&self, name: &str) -> String {
        let path = self.path("usr/lib/x86_64-linux-gnu").join(name);
        fs::read_link(path).unwrap().to_str().unwrap().to_owned()
    }

    /// Whether the rest of the host is as it was: empty.
    fn host_is_untouched(&self) -> bool {
        fs::read_dir(self.host()).unwrap().next().is_none()
    }
}

fn arguments() -> Arguments {
    Arguments {
        links: vec!["../libcuda.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so".parse().unwrap()],
        libraries: vec![format!("x86-64:{LIBRARY}=libcuda.so.1,libcuda.so").parse().unwrap()],
        ..Arguments::default()
    }
}

fn ours() -> Vec<(String, String)> {
    let directory = "/usr/lib/x86_64-linux-gnu";
    ["libcuda.so.1", "libcuda.so"].map(|name| (name.to_owned(), format!("{directory}/{name}"))).to_vec()
}

#[test]
fn links_cache_and_configuration_are_made_and_a_second_device_changes_nothing() {
    let container = Container::new();
    container.run().unwrap();
    assert_eq!(container.link("libcuda.so.1"), "libcuda.so.580.65.06");
    assert_eq!(container.link("libcuda.so"), "libcuda.so.580.65.06");
    assert_eq!(container.link("gbm/nvidia-drm_gbm.so"), "../libcuda.so.1");
    assert_eq!(container.cache(), ours());
    let text = |path: &str| fs::read_to_string(container.path(path)).unwrap();
    assert_eq!(text("etc/ld.so.conf.d/00-tessera.conf"), "/usr/lib/x86_64-linux-gnu\n");
    assert_eq!(text("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf\n");
    assert_eq!(fs::metadata(container.path("etc/ld.so.cache")).unwrap().permissions().mode() & 0o777, 0o644);

    let written = |path: &str| fs::metadata(container.path(path)).unwrap().modified().unwrap();
    let before = (written("etc/ld.so.cache"), written("etc"), written("usr/lib/x86_64-linux-gnu"));
    container.run().unwrap();
    assert_eq!((written("etc/ld.so.cache"), written("etc"), written("usr/lib/x86_64-linux-gnu")), before);
}

#[test]
fn what_the_image_has_stays() {
    let container = Container::new();
    fs::create_dir_all(container.path("etc")).unwrap();
    fs::write(container.path("etc/ld.so.conf"), "# mine\ninclude ld.so.conf.d/*.conf\n").unwrap();
    let there = Path::new("/etc/ld.so.cache");
    if !there.exists() {
        return;
    }
    fs::copy(there, container.path("etc/ld.so.cache")).unwrap();
    let before = container.cache();
    container.run().unwrap();
    assert_eq!(fs::read_to_string(container.path("etc/ld.so.conf")).unwrap(), "# mine\ninclude ld.so.conf.d/*.conf\n");
    let mut after = container.cache();
    after.retain(|entry| !ours().contains(entry));
    assert_eq!(after, before);
}

#[test]
fn no_link_of_the_image_leads_out() {
    // What the image does, and whether the container can be started with it.
    type Set = fn(&Container);
    let cases: &[(&str, Set, bool)] = &[
        ("etc is a link to the host's, absolute", |one| symlink(one.host(), one.path("etc")).unwrap(), false),
        ("etc leads up and out", |one| symlink("../host", one.path("etc")).unwrap(), false),
        (
            "etc leads elsewhere inside",
            |one| {
                fs::create_dir(one.path("config")).unwrap();
                symlink("/../../config", one.path("etc")).unwrap();
            },
            true,
        ),
        ("etc is a circle", |one| symlink("etc", one.path("etc")).unwrap(), false),
        ("etc is a file", |one| fs::write(one.path("etc"), "").unwrap(), false),
        (
            "the cache is a link to the host's",
            |one| {
                fs::create_dir(one.path("etc")).unwrap();
                symlink(one.host().join("cache"), one.path("etc/ld.so.cache")).unwrap();
            },
            true,
        ),
        (
            "the cache is a FIFO",
            |one| {
                fs::create_dir(one.path("etc")).unwrap();
                rustix::fs::mknodat(CWD, one.path("etc/ld.so.cache"), FileType::Fifo, Mode::RWXU, 0).unwrap();
            },
            true,
        ),
        ("the cache is a directory", |one| fs::create_dir_all(one.path("etc/ld.so.cache")).unwrap(), false),
        (
            "the cache is garbage",
            |one| {
                fs::create_dir(one.path("etc")).unwrap();
                fs::write(one.path("etc/ld.so.cache"), "glibc-ld.so.cache1.1 and so on").unwrap();
            },
            true,
        ),
        (
            "the configuration is a FIFO",
            |one| {
                fs::create_dir(one.path("etc")).unwrap();
                rustix::fs::mknodat(CWD, one.path("etc/ld.so.conf"), FileType::Fifo, Mode::RWXU, 0).unwrap();
            },
            true,
        ),
        (
            "the directory of configurations leads out",
            |one| {
                fs::create_dir(one.path("etc")).unwrap();
                symlink("../../host", one.path("etc/ld.so.conf.d")).unwrap();
            },
            false,
        ),
        (
            "a library's name leads to the host",
            |one| {
                symlink(one.host().join("x"), one.path("usr/lib/x86_64-linux-gnu/libcuda.so.1")).unwrap();
            },
            true,
        ),
        (
            "a library's name is a directory",
            |one| {
                fs::create_dir(one.path("usr/lib/x86_64-linux-gnu/libcuda.so.1")).unwrap();
            },
            false,
        ),
        (
            "a directory of links leads out",
            |one| {
                symlink(one.host(), one.path("usr/lib/x86_64-linux-gnu/gbm")).unwrap();
            },
            false,
        ),
    ];
    for (what, set, starts) in cases {
        let container = Container::new();
        set(&container);
        let result = container.run();
        assert!(container.host_is_untouched(), "{what}");
        assert_eq!(result.is_ok(), *starts, "{what}: {result:?}");
        match result {
            Ok(()) => assert_eq!(
                (container.cache(), container.link("libcuda.so.1").as_str()),
                (ours(), "libcuda.so.580.65.06")
            ),
            Err(error) => assert!(error.contains("in the container"), "{what}: {error}"),
        }
        let leftovers = Command::new("find").arg(container.all.path()).args(["-name", ".tessera-*"]).output().unwrap();
        assert!(leftovers.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&leftovers.stdout));
    }
}

#[test]
fn a_root_that_cannot_be_written_is_told() {
    let container = Container::new();
    let root = container.path("");
    let mount =
        |flags| rustix::mount::mount_bind(&root, &root).and_then(|()| rustix::mount::mount_remount(&root, flags, ""));
    if mount(rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY).is_err() {
        // Only root may mount.
        return;
    }
    let error = container.run();
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH).unwrap();
    let error = error.unwrap_err();
    assert!(error.contains("read-only") && error.contains("without a hook"), "{error}");
}

#[test]
fn the_program_reads_the_state_and_says_what_is_wrong() {
    let program = |state: String, arguments: &[String]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tessera-hook"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), state.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let container = Container::new();
    assert!(program(container.state(), &arguments().to_args()[1..]).status.success());
    assert_eq!(container.cache(), ours());

    fs::remove_dir_all(container.path("")).unwrap();
    let output = program(container.state(), &arguments().to_args()[1..]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.starts_with("tessera-hook: the container's root "), "{error}");
}

/// In a mount namespace of its own, as a container is.
#[test]
fn the_driver_is_told_to_make_no_device_nodes() {
    let container = Container::new();
    let parameters = container.path("proc/driver/nvidia/params");
    fs::create_dir_all(parameters.parent().unwrap()).unwrap();
    fs::write(&parameters, "ModifyDeviceFiles: 1\nDeviceFileUID: 0\n").unwrap();
    let hook = format!("echo '{}' | {} --device-files-as-given", container.state(), env!("CARGO_BIN_EXE_tessera-hook"));
    let look = format!(
        "cat {0}; echo x > {0}; ls {1}; grep -c {1} /proc/self/mountinfo",
        parameters.display(),
        parameters.parent().unwrap().display()
    );
    let script = format!("{hook} && {hook} && {look}");
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output();
    let Ok(output) = output.as_ref().map(|output| String::from_utf8_lossy(&output.stdout)) else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // What is shown cannot be written, the directory is to be seen again, and one mount is left, also after two devices.
    assert_eq!(output, "ModifyDeviceFiles: 0\nDeviceFileUID: 0\nparams\n1\n");
    assert_eq!(fs::read_to_string(&parameters).unwrap(), "ModifyDeviceFiles: 1\nDeviceFileUID: 0\n");
}

/// The judge is glibc's loader: a program in the container finds a library by name in a directory where no loader looks.
#[test]
fn a_loader_of_glibc_finds_what_was_written() {
    let container = Container::new();
    let listed = Command::new("ldd").arg("/bin/true").output();
    let Ok(listed) = listed.map(|output| String::from_utf8(output.stdout).unwrap()) else { return };
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/sbin/chroot").exists() {
        return;
    }
    let needed = listed.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/true"]);
    for file in needed {
        fs::create_dir_all(container.path(file).parent().unwrap()).unwrap();
        fs::copy(file, container.path(file)).unwrap();
    }
    let libc = listed.split_whitespace().find(|word| word.starts_with('/') && word.contains("libc.so")).unwrap();
    fs::create_dir_all(container.path("opt/odd")).unwrap();
    fs::copy(libc, container.path("opt/odd/libodd.so.580")).unwrap();
    let loader = listed.split_whitespace().find(|word| word.contains("/ld-linux")).unwrap();
    let complaint = || {
        // Not by a variable of the environment: that would be for chroot as well.
        let inside = [loader, "--preload", "libodd.so.7", "/bin/true"];
        let output = Command::new("/usr/sbin/chroot").arg(container.path("")).args(inside).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(complaint().contains("libodd.so.7"), "{}", complaint());

    let architecture = if cfg!(target_arch = "aarch64") { "aarch64" } else { "x86-64" };
    let library = format!("{architecture}:/opt/odd/libodd.so.580=libodd.so.7").parse().unwrap();
    let arguments = Arguments { libraries: vec![library], ..Arguments::default() };
    create_container(container.state().as_bytes(), &arguments).unwrap();
    assert_eq!(complaint(), "");
    // Not because the link is in a directory that is searched anyway.
    fs::remove_file(container.path("etc/ld.so.cache")).unwrap();
    assert!(complaint().contains("libodd.so.7"));
}

/// And `ldconfig` prints of our cache what it prints of its own.
#[test]
fn ldconfig_reads_what_was_written() {
    let there = Path::new("/etc/ld.so.cache");
    let listing = |cache: &Path| {
        let output = Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(cache).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    let Some(theirs) = there.exists().then(|| listing(there)).flatten() else { return };
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("cache");
    fs::write(&copy, Cache::parse(&fs::read(there).unwrap()).unwrap().to_bytes().unwrap()).unwrap();
    let entries = |text: &str| text.lines().filter(|line| line.contains("=>")).map(str::to_owned).collect::<Vec<_>>();
    assert!(!entries(&theirs).is_empty());
    assert_eq!(entries(&listing(&copy).unwrap()), entries(&theirs));
}
