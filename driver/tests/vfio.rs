//! Passthrough against the simulated kernel: real file descriptors, real blocking, real error numbers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use simulated_hardware::{Machine, Profile};
use simulated_sysfs::{Added, Driver, Id, Mounted, Setup, WhileHeld};
use tempfile::TempDir;
use tessera_driver::vfio::{Action, Binding, Class, Interface, Original, Rebinder, Rebinding, VfioError, VfioState};
use tessera_driver::{Backend, Root, nvidia};
use tessera_vocabulary::PciAddress;

const GPU: &str = "0000:1b:00.0";
const AUDIO: &str = "0000:1b:00.1";

struct Node {
    kernel: Mounted,
    machine: Machine,
    rebinder: Rebinder,
    _directory: TempDir,
    _terminal: Option<fs::File>,
}

impl Node {
    fn new(setup: Setup) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("built.so");
        fs::write(&library, "library").unwrap();
        let profile = Profile::named("dgx-h100").unwrap();
        let machine = Machine::create(&directory.path().join("root"), &profile, &library).unwrap();
        let kernel = Mounted::boot(machine.root(), setup).unwrap();
        let rebinder = Rebinder::new(Root::new(machine.root(), "/"), "/proc");
        Self { kernel, machine, rebinder, _directory: directory, _terminal: None }
    }

    /// With a first GPU that no other test holds: the nodes of all simulated machines are the same devices.
    fn with_minor(setup: Setup, minor: u32) -> Self {
        let node = Self { _terminal: Some(only_here(minor)), ..Self::new(setup) };
        node.machine.run(&["set", "0", &format!("minor={minor}")]).unwrap();
        node
    }

    /// What an agent that was started anew has: nothing.
    fn start_anew(&mut self) {
        self.rebinder = Rebinder::new(self.root(), "/proc");
    }

    fn root(&self) -> Root {
        Root::new(self.machine.root(), "/")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.machine.root().join(path)
    }

    fn state(&self, function: &str) -> VfioState {
        self.rebinder.state(at(function), soon()).unwrap()
    }

    fn driver(&self, function: &str) -> Option<String> {
        match self.state(function).binding {
            Binding::Bound(driver) => Some(driver.to_string()),
            _ => None,
        }
    }

    fn plan(&self) -> Result<Rebinding, VfioError> {
        let nodes = nvidia::holding_node(&self.root(), at(GPU)).into_iter().collect();
        self.rebinder.plan(at(GPU), nodes, soon())
    }

    fn rule(&self, rule: &str) {
        self.kernel.add_rule(rule.parse().unwrap());
    }

    /// Another process that has a node open.
    fn holder(&self, node: &str) -> Held {
        let file = fs::File::open(self.path(node)).unwrap();
        Held(Command::new("sleep").arg("600").stdin(Stdio::from(file)).spawn().unwrap())
    }

    /// As before anybody came.
    fn assert_untouched(&self) {
        let state = self.state(GPU);
        assert_eq!(state.binding, Binding::Bound("nvidia".parse().unwrap()));
        assert_eq!(state.driver_override, None);
        assert!(state.legacy().is_none() && state.iommufd().is_none());
    }
}

/// Keeps out the same test of another run.
fn only_here(minor: u32) -> fs::File {
    let file = fs::File::create(std::env::temp_dir().join(format!("simulated-nvidia{minor}.lock"))).unwrap();
    file.lock().unwrap();
    file
}

struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn at(address: &str) -> PciAddress {
    address.parse().unwrap()
}

fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// In milliseconds: for what does not wait.
const SOON: u64 = 60_000;

/// In milliseconds: what comes before the step that waits is done by then on a busy machine too.
const ENOUGH: u64 = 4_000;

fn soon() -> Instant {
    within(SOON)
}

fn with_audio() -> Setup {
    Setup { functions: vec![Added::audio_of(GPU.parse().unwrap())], ..Setup::default() }
}

#[test]
fn a_gpu_goes_to_user_space_and_comes_back() {
    let node = Node::new(Setup::default());
    let before = node.state(GPU);
    assert!(before.iommu && !before.is_passed_through() && before.group.as_ref().unwrap().members.len() == 1);
    let driver = before.vfio_driver.unwrap();
    assert!(!driver.is_variant() && driver.driver == Some("vfio-pci".parse().unwrap()));

    let rebinding = node.plan().unwrap();
    assert_eq!(rebinding.moved.len(), 1);
    assert_eq!(rebinding.moved[0].original, Original::Driver("nvidia".parse().unwrap()));
    assert_eq!(rebinding.moved[0].nodes, ["/dev/nvidia0"]);
    node.assert_untouched();

    for _ in 0..2 {
        let state = node.rebinder.bind(&rebinding, soon()).unwrap();
        assert!(state.is_passed_through() && state.group.as_ref().unwrap().is_viable());
        let legacy = state.legacy().unwrap();
        assert_eq!(legacy, Interface::Legacy { group: state.group.as_ref().unwrap().number });
        let iommufd = state.iommufd().unwrap();
        assert_eq!(iommufd, Interface::Iommufd { device: 0 });
        for interface in [legacy, iommufd] {
            for device in interface.container_edits(&node.root()).device_nodes {
                assert!(node.path(&device.path[1..]).exists(), "{}", device.path);
            }
        }
    }
    assert!(rebinding.steps().iter().all(|step| node.rebinder.holds(&rebinding, step, soon())));

    for _ in 0..2 {
        node.rebinder.take_back(&rebinding, soon()).unwrap();
        node.assert_untouched();
    }
}

#[test]
fn a_gpu_of_user_space_is_on_the_bus_and_not_nvmls() {
    let directory = tempfile::tempdir().unwrap();
    let library = simulated_hardware::library().unwrap();
    let machine = Machine::create(directory.path(), &Profile::named("dgx-h100").unwrap(), &library).unwrap();
    let _kernel = Mounted::boot(machine.root(), Setup::default()).unwrap();
    let root = Root::new(machine.root(), "/");
    let rebinder = Rebinder::new(root.clone(), "/proc");
    let counts = || {
        let found = nvidia::Nvidia::new(root.clone(), nvidia::Session::new(root.clone())).discover().unwrap();
        (found.accelerators.iter().filter(|one| one.has_driver_facts()).count(), found.on_the_bus.len())
    };
    assert_eq!(counts(), (8, 8));
    let rebinding = rebinder.plan(at(GPU), Vec::new(), soon()).unwrap();
    rebinder.bind(&rebinding, soon()).unwrap();
    assert_eq!(counts(), (7, 8));
    rebinder.take_back(&rebinding, soon()).unwrap();
    assert_eq!(counts(), (8, 8));
}

#[test]
fn a_death_between_any_two_steps_is_no_matter() {
    let mut node = Node::new(with_audio());
    let rebinding = node.plan().unwrap();
    let steps = rebinding.steps();
    assert_eq!(steps.len(), 6);
    for done in 0..=steps.len() {
        for step in &steps[..done] {
            node.rebinder.apply(&rebinding, step, soon()).unwrap();
            assert!(node.rebinder.holds(&rebinding, step, soon()), "{step:?}");
        }
        // Dies, comes back and goes on, from the record.
        node.start_anew();
        assert!(node.rebinder.bind(&rebinding, soon()).unwrap().is_passed_through(), "{done}");
        assert_eq!(node.driver(AUDIO).as_deref(), Some("vfio-pci"));

        // And the same on the way back.
        for step in steps.iter().rev().take(done) {
            node.rebinder.undo(&rebinding, step, soon()).unwrap();
        }
        node.start_anew();
        node.rebinder.take_back(&rebinding, soon()).unwrap();
        node.assert_untouched();
        assert_eq!(node.driver(AUDIO).as_deref(), Some("snd_hda_intel"));

        // Dies on the way there, and the claim is gone when it is back.
        for step in &steps[..done] {
            node.rebinder.apply(&rebinding, step, soon()).unwrap();
        }
        node.start_anew();
        for moved in &rebinding.moved {
            node.rebinder.restore(moved.address, &moved.original, soon()).unwrap();
        }
        node.assert_untouched();
        assert_eq!(node.driver(AUDIO).as_deref(), Some("snd_hda_intel"));
    }
}

#[test]
fn without_a_record_the_kernel_chooses() {
    let node = Node::new(Setup::default());
    let rebinding = node.plan().unwrap();
    node.rebinder.bind(&rebinding, soon()).unwrap();
    node.rebinder.restore(at(GPU), &Original::KernelsChoice, soon()).unwrap();
    node.assert_untouched();
}

#[test]
fn a_process_that_holds_the_device_is_named_and_nothing_is_done_to_it() {
    let node = Node::with_minor(Setup::default(), 20);
    let rebinding = node.plan().unwrap();
    let holder = node.holder("dev/nvidia20");
    let pid = holder.0.id();
    assert_eq!(node.rebinder.holders(&rebinding).iter().map(|holder| holder.pid).collect::<Vec<_>>(), [pid]);

    let start = Instant::now();
    let error = node.rebinder.bind(&rebinding, within(ENOUGH)).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(ENOUGH), "all the time that there is");
    assert_eq!(error.class(), Class::Busy);
    let text = error.to_string();
    assert!(text.contains(&format!("{GPU}: unbind: held by sleep (pid {pid}")) && text.len() < 256, "{text}");
    // The driver has not been asked to let go, so all can still be taken back.
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.assert_untouched();

    // Whoever has time waits until the process is done.
    let ending = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(holder);
    });
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().is_passed_through());
    ending.join().unwrap();
}

#[test]
fn a_virtual_machine_that_still_runs_is_named() {
    // Not the GPU of the other tests: its nodes too are the same devices on all simulated machines.
    let gpu = "0000:df:00.0";
    let _terminal = only_here(40);
    let node = Node::new(Setup::default());
    let rebinding = node.rebinder.plan(at(gpu), Vec::new(), soon()).unwrap();
    let state = node.rebinder.bind(&rebinding, soon()).unwrap();
    let holder = node.holder(&state.iommufd().unwrap().node()[1..]);
    let error = node.rebinder.take_back(&rebinding, within(100)).unwrap_err();
    assert!(error.to_string().contains(&format!("held by sleep (pid {}", holder.0.id())), "{error}");
    assert!(node.state(gpu).is_passed_through());
    drop(holder);
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    assert_eq!(node.driver(gpu).as_deref(), Some("nvidia"));
}

#[test]
fn a_driver_that_refuses_is_busy() {
    let mut setup = Setup::default();
    setup.driver("nvidia").unwrap().while_held = WhileHeld::Refuses;
    let node = Node::with_minor(setup, 21);
    let rebinding = node.plan().unwrap();
    // One that our look at the processes does not see: it holds a node of another name.
    let blind = Rebinding {
        moved: vec![tessera_driver::vfio::Moved { nodes: Vec::new(), ..rebinding.moved[0].clone() }],
        ..rebinding.clone()
    };
    let holder = node.holder("dev/nvidia21");
    let error = node.rebinder.bind(&blind, soon()).unwrap_err();
    assert!(matches!(error, VfioError::Refused { step: Action::Unbind, .. }), "{error}");
    assert_eq!(error.class(), Class::Busy);
    drop(holder);
    // A process that another test starts just then has what this one had open, for a moment.
    while !node.rebinder.holders(&rebinding).is_empty() {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(node.rebinder.bind(&blind, soon()).unwrap().is_passed_through());
}

#[test]
fn a_driver_that_never_lets_go_holds_up_only_its_device() {
    let mut node = Node::with_minor(Setup::default(), 22);
    let rebinding = node.plan().unwrap();
    let mut blind = rebinding.clone();
    blind.moved[0].nodes.clear();
    let holder = node.holder("dev/nvidia22");
    // Comes between the look at the processes and the write.
    let error = node.rebinder.bind(&blind, within(ENOUGH)).unwrap_err();
    assert!(matches!(&error, VfioError::TimedOut { driver: Some(_), step: Action::Unbind, .. }), "{error}");
    assert_eq!(error.class(), Class::Retry);

    // The write is still under way. Who knows the node learns who is to blame, now and after a death.
    for _ in 0..2 {
        let error = node.rebinder.bind(&rebinding, within(200)).unwrap_err();
        assert!(error.to_string().contains(&format!("held by sleep (pid {}", holder.0.id())), "{error}");
        let error = node.rebinder.take_back(&rebinding, within(200)).unwrap_err();
        assert!(matches!(error, VfioError::Held { .. }), "{error}");
        node.start_anew();
    }
    // Others do not notice: the driver lets go of the first one only later.
    let other = node.rebinder.plan(at("0000:43:00.0"), Vec::new(), soon()).unwrap();
    assert!(node.rebinder.bind(&other, soon()).unwrap().is_passed_through());

    drop(holder);
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.assert_untouched();
}

#[test]
fn what_is_slow_is_waited_for_and_may_be_given_up() {
    let node = Node::new(Setup::default());
    let rebinding = node.plan().unwrap();
    node.rule(&format!("remove {GPU} driver=nvidia latency_ms={} times=1", 2 * ENOUGH));
    node.rule(&format!("probe {GPU} latency_ms=100"));
    let error = node.rebinder.bind(&rebinding, within(ENOUGH)).unwrap_err();
    assert!(matches!(&error, VfioError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("nvidia has not let go"), "{error}");
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().is_passed_through());
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.assert_untouched();
}

#[test]
fn a_look_at_a_busy_device_ends_too() {
    let node = Node::new(Setup::default());
    node.rule(&format!("remove {GPU} latency_ms={ENOUGH}"));
    let path = node.path("sys/bus/pci/drivers/nvidia/unbind");
    let unbinding = thread::spawn(move || {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, GPU.as_bytes()).unwrap();
    });
    while node.path(&format!("sys/bus/pci/devices/{GPU}/driver")).exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let error = node.rebinder.state(at(GPU), within(50)).unwrap_err();
    assert_eq!(error.class(), Class::Retry);
    unbinding.join().unwrap();
    assert_eq!(node.state(GPU).binding, Binding::Unbound);
}

#[test]
fn the_functions_of_a_slot_go_together() {
    let node = Node::new(with_audio());
    let rebinding = node.plan().unwrap();
    let addresses: Vec<_> = rebinding.moved.iter().map(|moved| moved.address).collect();
    assert_eq!(addresses, [at(GPU), at(AUDIO)]);
    let state = node.rebinder.bind(&rebinding, soon()).unwrap();
    assert!(state.group.as_ref().unwrap().is_viable());
    assert_eq!(node.driver(AUDIO).as_deref(), Some("vfio-pci"));
    assert_ne!(node.state(AUDIO).vfio_device, state.vfio_device);
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    assert_eq!(node.driver(AUDIO).as_deref(), Some("snd_hda_intel"));
}

#[test]
fn a_foreign_device_in_the_group_is_named_and_a_bridge_is_not() {
    let disk = "0000:1c:00.0";
    let bridge = "0000:1d:00.0".parse().unwrap();
    let gpu = GPU.parse().unwrap();
    let mut setup = with_audio();
    setup.functions.extend([Added::disk(disk.parse().unwrap(), gpu), Added::bridge(bridge, gpu)]);
    setup.grouped_with.extend([(disk.parse().unwrap(), gpu), (bridge, gpu)]);
    let node = Node::new(setup);
    let error = node.plan().unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    let text = error.to_string();
    assert!(text.contains(&format!("also has {disk}, which nvme uses; bind it to vfio-pci")), "{text}");
    node.assert_untouched();

    // The admin does so.
    let disk = node.rebinder.plan(at(disk), Vec::new(), soon());
    assert!(disk.unwrap_err().to_string().contains("which nvidia uses and 1 more"));
    fs::write(node.path("sys/bus/pci/drivers/nvme/unbind"), "0000:1c:00.0").unwrap();
    let rebinding = node.plan().unwrap();
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().group.unwrap().is_viable());
    assert_eq!(node.driver("0000:1d:00.0").as_deref(), Some("pcieport"));
}

#[test]
fn what_was_with_vfio_at_the_start_is_understood_and_stays_there() {
    let mut node = Node::new(Setup::default());
    let first = node.plan().unwrap();
    node.rebinder.bind(&first, soon()).unwrap();
    node.start_anew();
    let state = node.state(GPU);
    assert!(state.is_passed_through() && state.driver_override.as_deref() == Some("vfio-pci"));
    assert_eq!(nvidia::holding_node(&node.root(), at("0000:ff:00.0")), None);

    let rebinding = node.plan().unwrap();
    assert!(rebinding.moved.is_empty() && rebinding.steps().is_empty());
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().legacy().is_some());
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    assert!(node.state(GPU).is_passed_through());
}

#[test]
fn a_device_without_a_driver_has_none_afterwards() {
    let node = Node::new(Setup::default());
    fs::write(node.path("sys/bus/pci/drivers/nvidia/unbind"), GPU).unwrap();
    let rebinding = node.plan().unwrap();
    assert_eq!(rebinding.moved[0].original, Original::Unbound);
    node.rebinder.bind(&rebinding, soon()).unwrap();
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    let state = node.state(GPU);
    assert_eq!((state.binding, state.driver_override), (Binding::Unbound, None));
}

#[test]
fn preconditions_are_told() {
    let node = Node::new(Setup { iommu: false, ..Setup::default() });
    let error = node.plan().unwrap_err();
    assert!(matches!(error, VfioError::NoIommu { .. }) && error.to_string().contains("intel_iommu=on"), "{error}");
    assert!(!node.state(GPU).iommu);

    let mut setup = Setup::default();
    setup.driver("vfio-pci").unwrap().loaded = false;
    let node = Node::new(setup);
    let error = node.plan().unwrap_err();
    assert!(error.to_string().contains("module vfio_pci is not loaded"), "{error}");
    node.kernel.load("vfio-pci").unwrap();
    let rebinding = node.plan().unwrap();
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().is_passed_through());

    let error = node.rebinder.plan(at("0000:ff:00.0"), Vec::new(), soon()).unwrap_err();
    assert!(matches!(error, VfioError::NoDevice { .. }), "{error}");

    let device =
        Added { virtual_functions: Some(2), ..Added::disk("0000:1c:00.0".parse().unwrap(), GPU.parse().unwrap()) };
    let node = Node::new(Setup { functions: vec![device], ..Setup::default() });
    let error = node.rebinder.plan(at("0000:1c:00.0"), Vec::new(), soon()).unwrap_err();
    assert!(error.to_string().contains("2 SR-IOV virtual functions are enabled"), "{error}");
}

#[test]
fn a_driver_made_for_the_device_is_preferred() {
    let id = Id { vendor: Some(0x10de), device: Some(0x2330), class: None, override_only: true };
    let variant = Driver {
        vfio: true,
        module: "nvgrace_gpu_vfio_pci".to_owned(),
        ..Driver::new("nvgrace-gpu-vfio-pci", vec![id])
    };
    let mut setup = Setup::default();
    setup.drivers.push(variant);
    let node = Node::new(setup);
    let rebinding = node.plan().unwrap();
    assert_eq!(rebinding.driver.as_str(), "nvgrace-gpu-vfio-pci");
    assert!(node.rebinder.bind(&rebinding, soon()).unwrap().iommufd().is_some());
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.assert_untouched();
}

#[test]
fn each_interface_is_offered_where_the_kernel_has_it() {
    for (legacy, iommufd) in [(true, false), (false, true), (false, false)] {
        let node = Node::new(Setup { legacy, iommufd, ..Setup::default() });
        let rebinding = node.plan().unwrap();
        match node.rebinder.bind(&rebinding, within(if legacy || iommufd { SOON } else { ENOUGH })) {
            Ok(state) => assert_eq!((state.legacy().is_some(), state.iommufd().is_some()), (legacy, iommufd)),
            Err(error) => assert!(matches!(error, VfioError::NoNode { .. }) && !legacy && !iommufd, "{error}"),
        }
        node.rebinder.take_back(&rebinding, soon()).unwrap();
        node.assert_untouched();
    }
}

#[test]
fn a_driver_that_does_not_take_the_device_is_told() {
    let node = Node::new(Setup::default());
    let rebinding = node.plan().unwrap();
    node.rule(&format!("probe {GPU} driver=vfio-pci error=EIO times=1"));
    let error = node.rebinder.bind(&rebinding, soon()).unwrap_err();
    assert!(error.to_string().contains("vfio-pci did not take it, nobody has it"), "{error}");
    assert_eq!(error.class(), Class::Retry);

    node.rule(&format!("probe {GPU} driver=nvidia error=EIO times=1"));
    let error = node.rebinder.take_back(&rebinding, soon()).unwrap_err();
    assert!(matches!(error, VfioError::Refused { .. }), "{error}");
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.assert_untouched();
}

#[test]
fn a_device_that_was_pulled_out_needs_no_restoring() {
    let node = Node::new(Setup::default());
    let rebinding = node.plan().unwrap();
    node.rebinder.bind(&rebinding, soon()).unwrap();
    node.machine.run(&["set", "0", "present=false"]).unwrap();
    node.rebinder.take_back(&rebinding, soon()).unwrap();
    node.rebinder.restore(at(GPU), &Original::KernelsChoice, soon()).unwrap();
    let error = node.rebinder.bind(&rebinding, soon()).unwrap_err();
    assert!(matches!(error, VfioError::NoDevice { .. }), "{error}");
}
