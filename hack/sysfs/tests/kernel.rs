//! The simulated kernel, seen through its files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use simulated_hardware::{Machine, PciAddress, Profile};
use simulated_sysfs::{Added, Mounted, Setup, WhileHeld};
use tempfile::TempDir;

const GPU: &str = "0000:1b:00.0";

struct Node {
    kernel: Mounted,
    machine: Machine,
    _directory: TempDir,
}

/// A machine whose first GPU no other test holds, nor the same one of another run: the nodes of all simulated machines
/// are the same devices.
fn only_here(setup: Setup, minor: u32) -> (Node, fs::File) {
    let file = fs::File::create(std::env::temp_dir().join(format!("simulated-nvidia{minor}.lock"))).unwrap();
    file.lock().unwrap();
    let node = Node::new(setup);
    node.machine.run(&["set", "0", &format!("minor={minor}")]).unwrap();
    (node, file)
}

impl Node {
    fn new(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("built.so");
        fs::write(&library, "library").unwrap();
        let profile = Profile::named("dgx-h100").unwrap();
        let machine = Machine::create(&directory.path().join("root"), &profile, &library).unwrap();
        let kernel = Mounted::boot(machine.root(), setup).unwrap();
        Self { kernel, machine, _directory: directory }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.machine.root().join(path)
    }

    fn write(&self, path: &str, text: &str) -> Result<(), i32> {
        write(&self.path(path), text).map_err(|error| error.raw_os_error().unwrap())
    }

    fn driver(&self, address: &str) -> Option<String> {
        let link = fs::read_link(self.path(&format!("sys/bus/pci/devices/{address}/driver"))).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Another process that has a node open.
    fn holder(&self, node: &str) -> Child {
        let file = fs::File::open(self.path(node)).unwrap();
        Command::new("sleep").arg("600").stdin(Stdio::from(file)).spawn().unwrap()
    }
}

/// One write, as the kernel's files want it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut fs::File::options().write(true).open(path)?, text.as_bytes())
}

/// How long is waited for what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const OVERRIDE: &str = "sys/bus/pci/devices/0000:1b:00.0/driver_override";
const PROBE: &str = "sys/bus/pci/drivers_probe";
const UNBIND_NVIDIA: &str = "sys/bus/pci/drivers/nvidia/unbind";
const UNBIND_VFIO: &str = "sys/bus/pci/drivers/vfio-pci/unbind";

const ENODEV: i32 = 19;
const EBUSY: i32 = 16;
const EINVAL: i32 = 22;
const EIO: i32 = 5;
const EACCES: i32 = 13;

#[test]
fn a_function_goes_to_vfio_and_back() {
    let node = Node::new(Setup::default());
    assert_eq!(node.driver(GPU).as_deref(), Some("nvidia"));
    assert_eq!(node.read(OVERRIDE), "(null)\n");
    assert!(node.path("dev/vfio/vfio").exists() && node.path("dev/iommu").exists());

    node.write(OVERRIDE, "vfio-pci\n").unwrap();
    assert_eq!(node.read(OVERRIDE), "vfio-pci\n");
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    assert_eq!(node.driver(GPU), None);
    assert!(!node.path(&format!("sys/bus/pci/drivers/nvidia/{GPU}")).exists());
    assert!(!node.path(&format!("sys/bus/pci/devices/{GPU}/drm")).exists());
    assert!(!node.read(&format!("sys/bus/pci/devices/{GPU}/uevent")).contains("DRIVER"));
    node.write(PROBE, &format!("{GPU}\n")).unwrap();
    assert_eq!(node.driver(GPU).as_deref(), Some("vfio-pci"));

    let group = fs::read_link(node.path(&format!("sys/bus/pci/devices/{GPU}/iommu_group"))).unwrap();
    let group = group.file_name().unwrap().to_str().unwrap();
    assert!(node.path(&format!("sys/kernel/iommu_groups/{group}/devices/{GPU}/vendor")).exists());
    let data = fs::metadata(node.path(&format!("dev/vfio/{group}"))).unwrap();
    assert!(data.file_type().is_char_device() && data.rdev() != 0);
    assert!(node.path(&format!("sys/bus/pci/devices/{GPU}/vfio-dev/vfio0/dev")).exists());
    assert!(node.path("dev/vfio/devices/vfio0").exists());

    node.write(OVERRIDE, "\n").unwrap();
    node.write(UNBIND_VFIO, GPU).unwrap();
    assert!(!node.path(&format!("dev/vfio/{group}")).exists() && !node.path("dev/vfio/devices/vfio0").exists());
    node.write(PROBE, GPU).unwrap();
    assert_eq!(node.driver(GPU).as_deref(), Some("nvidia"));
    assert!(node.path(&format!("sys/bus/pci/devices/{GPU}/drm")).exists());
}

#[test]
fn refusals_are_the_kernels() {
    let node = Node::new(Setup::default());
    let bind = "sys/bus/pci/drivers/vfio-pci/bind";
    for (path, text, expected) in [
        (UNBIND_VFIO, GPU, Err(ENODEV)),
        (UNBIND_NVIDIA, "0000:ff:00.0", Err(ENODEV)),
        (UNBIND_NVIDIA, "0000:1B:00.0", Err(ENODEV)),
        (UNBIND_NVIDIA, "nonsense", Err(ENODEV)),
        (PROBE, "0000:ff:00.0", Err(ENODEV)),
        // Bound already: nothing happens.
        (PROBE, GPU, Ok(())),
        // Without an override vfio-pci takes nothing.
        (bind, GPU, Err(ENODEV)),
        ("sys/bus/pci/drivers/nvidia/bind", GPU, Err(EBUSY)),
        ("sys/bus/pci/drivers/vfio-pci/new_id", "10de", Err(EINVAL)),
        ("sys/bus/pci/devices/0000:1b:00.0/vendor", "x", Err(EACCES)),
        ("sys/kernel/debug/simulated-pci/control", "nonsense", Err(EINVAL)),
    ] {
        assert_eq!(node.write(path, text), expected, "{path} {text}");
    }
    assert_eq!(node.write(OVERRIDE, &"x".repeat(4095)), Err(EINVAL));
    assert_eq!(fs::read(node.path(UNBIND_NVIDIA)).unwrap_err().raw_os_error(), Some(EIO));
    assert!(fs::write(node.path("sys/bus/pci/new"), "").is_err());
}

#[test]
fn a_failed_probe_fails_bind_but_not_drivers_probe() {
    let node = Node::new(Setup::default());
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    node.write("sys/kernel/debug/simulated-pci/control", "probe driver=nvidia error=EIO times=2").unwrap();
    assert_eq!(node.write("sys/bus/pci/drivers/nvidia/bind", GPU), Err(EIO));
    assert_eq!(node.write(PROBE, GPU), Ok(()));
    assert_eq!(node.driver(GPU), None);
    assert_eq!(node.write("sys/bus/pci/drivers/nvidia/bind", GPU), Ok(()));
}

#[test]
fn a_dynamic_id_makes_vfio_take_what_is_free() {
    let node = Node::new(Setup::default());
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    node.write("sys/bus/pci/drivers/vfio-pci/new_id", "10de 2330").unwrap();
    assert_eq!(node.driver(GPU).as_deref(), Some("vfio-pci"));
    assert_eq!(node.driver("0000:43:00.0").as_deref(), Some("nvidia"));
}

#[test]
fn nvidia_does_not_let_go_while_a_process_holds_the_device() {
    let (node, _lock) = only_here(Setup::default(), 16);
    let holder = node.holder("dev/nvidia16");
    let (sender, receiver) = mpsc::channel();
    let (path, probe) = (node.path(UNBIND_NVIDIA), node.path(PROBE));
    thread::spawn(move || sender.send(write(&path, GPU).is_ok()));
    eventually("the links are gone", || node.driver(GPU).is_none());
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());

    // But the driver has it still, as the uevent says; a probe is taken and does nothing.
    assert!(node.read(&format!("sys/bus/pci/devices/{GPU}/uevent")).contains("DRIVER=nvidia\n"));
    write(&probe, GPU).unwrap();
    assert_eq!(node.driver(GPU), None);
    // Whoever wants the device's lock waits too; nobody else does.
    let waiting = node.path(OVERRIDE);
    let (told, tell) = mpsc::channel();
    thread::spawn(move || told.send(fs::read_to_string(waiting)));
    assert!(tell.recv_timeout(Duration::from_millis(100)).is_err());
    node.write("sys/bus/pci/drivers/nvidia/unbind", "0000:43:00.0").unwrap();

    end(holder);
    assert!(receiver.recv_timeout(PATIENCE).unwrap());
    assert_eq!(tell.recv_timeout(PATIENCE).unwrap().unwrap(), "(null)\n");
    assert!(!node.read(&format!("sys/bus/pci/devices/{GPU}/uevent")).contains("DRIVER"));
}

#[test]
fn a_driver_may_refuse_instead() {
    let mut setup = Setup::default();
    setup.driver("nvidia").unwrap().while_held = WhileHeld::Refuses;
    let (node, _lock) = only_here(setup, 17);
    let holder = node.holder("dev/nvidia17");
    assert_eq!(node.write(UNBIND_NVIDIA, GPU), Err(EBUSY));
    assert_eq!(node.driver(GPU).as_deref(), Some("nvidia"));
    end(holder);
    // A process that another test starts just then has what this one had open, for a moment.
    eventually("it lets go", || node.write(UNBIND_NVIDIA, GPU).map_err(|error| assert_eq!(error, EBUSY)).is_ok());
}

#[test]
fn what_is_slow_takes_its_time() {
    let node = Node::new(Setup::default());
    node.kernel.add_rule(format!("remove {GPU} latency_ms=150").parse().unwrap());
    let start = Instant::now();
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[test]
fn groups_and_what_else_is_on_the_bus() {
    let gpu: PciAddress = GPU.parse().unwrap();
    let disk: PciAddress = "0000:1c:00.0".parse().unwrap();
    let mut setup = Setup { functions: vec![Added::audio_of(gpu), Added::disk(disk, gpu)], ..Setup::default() };
    setup.grouped_with.insert(disk, gpu);
    let node = Node::new(setup);
    let members = fs::read_dir(node.path(&format!("sys/bus/pci/devices/{GPU}/iommu_group/devices"))).unwrap();
    let mut members: Vec<_> = members.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    members.sort();
    assert_eq!(members, ["0000:1b:00.0", "0000:1b:00.1", "0000:1c:00.0"]);
    assert_eq!(node.driver("0000:1b:00.1").as_deref(), Some("snd_hda_intel"));
    assert_eq!(node.driver("0000:1c:00.0").as_deref(), Some("nvme"));
    assert_eq!(node.read("sys/bus/pci/devices/0000:1b:00.1/class"), "0x040300\n");
}

#[test]
fn without_an_iommu_vfio_takes_nothing() {
    let node = Node::new(Setup { iommu: false, ..Setup::default() });
    assert_eq!(fs::read_dir(node.path("sys/kernel/iommu_groups")).unwrap().count(), 0);
    node.write(OVERRIDE, "vfio-pci").unwrap();
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    assert_eq!(node.write("sys/bus/pci/drivers/vfio-pci/bind", GPU), Err(EINVAL));
}

#[test]
fn a_module_that_comes_later() {
    let mut setup = Setup::default();
    setup.driver("vfio-pci").unwrap().loaded = false;
    let node = Node::new(setup);
    assert!(!node.path("sys/bus/pci/drivers/vfio-pci").exists() && !node.path("dev/vfio/vfio").exists());
    let aliases = node.read("lib/modules/6.8.0-simulated/modules.alias");
    assert!(aliases.contains("alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"), "{aliases}");
    node.write("sys/kernel/debug/simulated-pci/control", "load vfio-pci").unwrap();
    let driver = node.path("sys/module/vfio_pci/drivers/pci:vfio-pci");
    assert!(driver.join("bind").exists() && node.path("dev/vfio/vfio").exists());
}

#[test]
fn what_is_on_the_bus_is_what_the_machine_says() {
    let node = Node::new(Setup::default());
    node.write(UNBIND_NVIDIA, GPU).unwrap();
    // A change elsewhere disturbs no binding.
    node.machine.run(&["set", "3", "present=false"]).unwrap();
    assert!(!node.path("sys/bus/pci/devices/0000:61:00.0").exists());
    assert!(!node.path("sys/bus/pci/drivers/nvidia/0000:61:00.0").exists());
    assert_eq!(node.driver(GPU), None);
    node.machine.run(&["set", "3", "present=true"]).unwrap();
    assert_eq!(node.driver("0000:61:00.0").as_deref(), Some("nvidia"));
}

#[test]
fn it_ends_without_a_trace_also_under_those_who_wait() {
    let (node, _lock) = only_here(Setup::default(), 18);
    let holder = node.holder("dev/nvidia18");
    let path = node.path(UNBIND_NVIDIA);
    let waiting = thread::spawn(move || write(&path, GPU));
    eventually("the links are gone", || node.driver(GPU).is_none());
    let Node { kernel, machine, _directory } = node;
    let open = fs::File::open(machine.root().join("sys/bus/pci/devices/0000:1b:00.0/vendor")).unwrap();
    drop(kernel);
    assert!(waiting.join().unwrap().is_err());
    assert!(!machine.root().join("hardware.sys").exists());
    // As it was rendered.
    let driver = machine.root().join("sys/bus/pci/devices/0000:1b:00.0/driver");
    assert!(fs::read_link(driver).unwrap().ends_with("nvidia"));
    machine.update(|_| ()).unwrap();
    let again = Mounted::boot(machine.root(), Setup::default()).unwrap();
    assert!(again.root().join(UNBIND_NVIDIA).exists());
    drop((open, again));
    end(holder);
}

#[test]
fn what_a_killed_kernel_left_is_cleared_up() {
    let Node { kernel, machine, _directory } = Node::new(Setup::default());
    drop(kernel);
    let mut process = Command::new(env!("CARGO_BIN_EXE_simulated-sysfs"))
        .arg(machine.root())
        .args(["--audio", GPU, "--unloaded", "nvme"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
    assert!(line.ends_with("sys lives\n"), "{line}");
    assert!(machine.root().join("sys/bus/pci/devices/0000:1b:00.1/driver").exists());
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(fs::read_dir(machine.root().join("sys")).is_err());
    let kernel = Mounted::boot(machine.root(), Setup::default()).unwrap();
    assert!(
        machine.root().join(OVERRIDE).exists() && !machine.root().join("sys/bus/pci/devices/0000:1b:00.1").exists()
    );
    drop(kernel);
}

/// The other half of the next test: serves a machine's kernel and waits for it, for ever.
#[test]
#[ignore = "does not end"]
fn serves_and_waits() {
    let (node, _lock) = only_here(Setup::default(), 19);
    let _held = fs::File::open(node.path("dev/nvidia19")).unwrap();
    println!("{}", node.machine.root().display());
    node.write(UNBIND_NVIDIA, GPU).unwrap();
}

#[test]
fn a_process_that_serves_and_waits_can_be_killed() {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "serves_and_waits", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = io::BufRead::lines(io::BufReader::new(process.stdout.take().unwrap()));
    // The harness has written the test's name before it.
    let line = lines.map(|line| line.unwrap()).find(|line| line.ends_with("/root")).unwrap();
    let root = PathBuf::from(&line[line.find('/').unwrap()..]);
    eventually("it is unbound", || !root.join(format!("sys/bus/pci/devices/{GPU}/driver")).exists());
    process.kill().unwrap();
    process.wait().unwrap();
    rustix::mount::unmount(root.join("sys"), rustix::mount::UnmountFlags::DETACH).unwrap();
    fs::remove_dir_all(root.parent().unwrap()).unwrap();
}
