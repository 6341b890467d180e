//! The kernel's side of the PCI bus: what a write to one of its files does.
//!
//! Follows `drivers/base/{bus,dd}.c`, `drivers/pci/{pci-driver,pci-sysfs}.c` and `drivers/vfio` of Linux 6.8, also where
//! that surprises:
//!
//! - `unbind` takes the `driver` links away first and calls the driver's remove then, which may take for ever; until it
//!   has returned, `dev->driver` is still set.
//! - `drivers_probe` looks at `dev->driver` before it takes the device's lock: while somebody else unbinds, it succeeds
//!   at once and does nothing. It also succeeds when a driver refuses the function, or none is found.
//! - `driver_override` is written *and read* under the device's lock: both wait while a driver is busy with the function.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use simulated_hardware::PciAddress;

use crate::function::{self, Function};
use crate::holders;
use crate::matching::{self, Id};
use crate::nodes;
use crate::rule::{self, Operation, Rule};
use crate::setup::{Driver, Setup, WhileHeld};
use crate::tree::{self, Tree};

/// How often a driver that waits looks whether the function is still in use (nvidia sleeps as long, `os_delay(500)`,
/// but tests need not).
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Longest name that `driver_override` takes: a page, less the newline and the end.
const LONGEST_OVERRIDE: usize = 4094;

/// The kernel of one machine.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The machine's root.
    root: PathBuf,
    /// The rendered sysfs: what is on the bus.
    pub(crate) rendered: PathBuf,
    setup: Setup,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) functions: BTreeMap<PciAddress, Function>,
    /// The drivers that are loaded, in the order in which they came, with the ids that `new_id` gave them.
    pub(crate) drivers: Vec<(Driver, Vec<Id>)>,
    pub(crate) rules: Vec<Rule>,
    /// The nodes of VFIO that are there.
    nodes: BTreeSet<(String, u32)>,
    /// When the rendered bus last changed.
    bus: Option<SystemTime>,
    /// What sysfs shows of all this; made when somebody looks.
    tree: Option<Arc<Tree>>,
    stopping: bool,
}

impl State {
    pub(crate) fn driver(&self, name: &str) -> Option<&(Driver, Vec<Id>)> {
        self.drivers.iter().find(|(driver, _)| driver.name == name)
    }

    fn function(&mut self, address: PciAddress) -> Result<&mut Function, Errno> {
        self.functions.get_mut(&address).ok_or(Errno::NODEV)
    }
}

/// The device lock of one function. Whoever holds it may bind and unbind.
struct Locked<'a> {
    kernel: &'a Kernel,
    address: PciAddress,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(function) = self.kernel.state().functions.get_mut(&self.address) {
            function.locked = false;
        }
        self.kernel.changed.notify_all();
    }
}

impl Kernel {
    pub(crate) fn new(root: &Path, rendered: PathBuf, setup: Setup) -> Self {
        let drivers = setup.drivers.iter().filter(|driver| driver.loaded).map(|driver| (driver.clone(), Vec::new()));
        let state = State { drivers: drivers.collect(), ..State::default() };
        let kernel = Self { root: root.to_owned(), rendered, setup, state: Mutex::new(state), changed: Condvar::new() };
        kernel.look_at_the_bus(&mut kernel.state());
        kernel
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everything that waits fail, so that the file system can be taken away.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// Adds a rule, or takes all away.
    pub(crate) fn change_rules(&self, change: impl FnOnce(&mut Vec<Rule>)) {
        change(&mut self.state().rules);
    }

    /// What sysfs shows now.
    pub(crate) fn tree(&self) -> Arc<Tree> {
        let mut state = self.state();
        self.look_at_the_bus(&mut state);
        match &state.tree {
            Some(tree) => Arc::clone(tree),
            None => {
                let tree = Arc::new(tree::build(&state, &self.setup, &self.rendered));
                state.tree = Some(Arc::clone(&tree));
                tree
            }
        }
    }

    /// Functions that were plugged in appear as after a boot, with the driver that the profile gives them.
    fn look_at_the_bus(&self, state: &mut State) {
        let modified = std::fs::metadata(self.rendered.join("bus/pci/devices")).and_then(|data| data.modified()).ok();
        if state.bus.is_some() && state.bus == modified {
            return;
        }
        let now = function::on_the_bus(&self.rendered, &self.setup);
        state.functions.retain(|address, _| now.contains_key(address));
        for (address, function) in now {
            state.functions.entry(address).or_insert(function);
        }
        function::number_groups(&mut state.functions, &self.setup);
        state.bus = modified;
        self.show(state);
    }

    /// Makes a change visible: in sysfs, in `dev/` and to those who wait.
    fn show(&self, state: &mut State) {
        state.tree = None;
        let vfio = state.drivers.iter().any(|(driver, _)| driver.vfio);
        let mut present = std::mem::take(&mut state.nodes);
        let updated = nodes::update(&self.root, &self.setup, vfio, state.functions.values(), &mut present);
        if let Err(error) = updated {
            // The kernel cannot fail here; a test that misses its node finds the reason.
            eprintln!("simulated-sysfs: nodes of VFIO below {}: {error}", self.root.display());
        }
        state.nodes = present;
        self.changed.notify_all();
    }

    fn lock(&self, address: PciAddress) -> Result<Locked<'_>, Errno> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return Err(Errno::NODEV);
            }
            let function = state.function(address)?;
            if !function.locked {
                function.locked = true;
                return Ok(Locked { kernel: self, address });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn pause(&self, time: Duration) {
        let end = Instant::now() + time;
        let mut state = self.state();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|_| !state.stopping) {
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets the rules act.
    fn obey(&self, operation: Operation, address: PciAddress, driver: Option<&str>) -> Result<(), Errno> {
        let (latency, error) = rule::act(&mut self.state().rules, operation, address, driver);
        self.pause(latency);
        error.map_or(Ok(()), Err)
    }

    /// `bus_find_device_by_name`: the exact name, with or without a newline.
    fn find(&self, text: &str) -> Result<PciAddress, Errno> {
        let name = text.strip_suffix('\n').unwrap_or(text);
        let address: PciAddress = name.parse().map_err(|_| Errno::NODEV)?;
        let known = address.to_string() == name && self.state().functions.contains_key(&address);
        if known { Ok(address) } else { Err(Errno::NODEV) }
    }

    /// A read of `driver_override`.
    pub(crate) fn driver_override(&self, address: PciAddress) -> Result<String, Errno> {
        let _lock = self.lock(address)?;
        let name = self.state().function(address)?.driver_override.clone();
        Ok(format!("{}\n", name.as_deref().unwrap_or("(null)")))
    }

    /// A write to `driver_override` (`driver_set_override`): a line that is empty clears it.
    pub(crate) fn set_driver_override(&self, address: PciAddress, text: &str) -> Result<(), Errno> {
        if text.len() > LONGEST_OVERRIDE {
            return Err(Errno::INVAL);
        }
        self.obey(Operation::Override, address, None)?;
        let _lock = self.lock(address)?;
        let name = text.split('\n').next().filter(|name| !name.is_empty());
        self.state().function(address)?.driver_override = name.map(str::to_owned);
        Ok(())
    }

    /// A write to a driver's `bind` (`bind_store`).
    pub(crate) fn bind(&self, driver: &str, text: &str) -> Result<(), Errno> {
        let address = self.find(text)?;
        self.obey(Operation::Bind, address, Some(driver))?;
        if !self.matches(driver, address)? {
            return Err(Errno::NODEV);
        }
        let lock = self.lock(address)?;
        if self.state().function(address)?.driver.is_some() {
            return Err(Errno::BUSY);
        }
        self.probe(&lock, driver)
    }

    /// A write to a driver's `unbind` (`unbind_store`).
    pub(crate) fn unbind(&self, driver: &str, text: &str) -> Result<(), Errno> {
        let address = self.find(text)?;
        let bound = |kernel: &Self| {
            let is = kernel.state().function(address)?.driver.as_deref() == Some(driver);
            if is { Ok(()) } else { Err(Errno::NODEV) }
        };
        bound(self)?;
        self.obey(Operation::Unbind, address, Some(driver))?;
        let while_held = self.state().driver(driver).map(|(driver, _)| driver.while_held);
        if while_held == Some(WhileHeld::Refuses) && holders::is_held(&self.devices(address)?) {
            return Err(Errno::BUSY);
        }
        let lock = self.lock(address)?;
        // Somebody else may have been faster: `device_driver_detach` then does nothing, and the write succeeds.
        if bound(self).is_ok() { self.remove(&lock, driver) } else { Ok(()) }
    }

    /// A write to `drivers_probe` (`drivers_probe_store`).
    pub(crate) fn drivers_probe(&self, text: &str) -> Result<(), Errno> {
        let address = self.find(text)?;
        self.obey(Operation::DriversProbe, address, None)?;
        if self.state().function(address)?.driver.is_some() {
            return Ok(());
        }
        let lock = self.lock(address)?;
        self.attach(&lock)
    }

    /// A write to a driver's `new_id` (`new_id_store`): vendor and device in hexadecimal. Functions without a driver
    /// that match are taken at once.
    pub(crate) fn new_id(&self, name: &str, text: &str) -> Result<(), Errno> {
        let mut numbers = text.split_whitespace().map(|word| u16::from_str_radix(word.trim_start_matches("0x"), 16));
        let (Some(Ok(vendor)), Some(Ok(device))) = (numbers.next(), numbers.next()) else { return Err(Errno::INVAL) };
        let id = Id { vendor: Some(vendor), device: Some(device), class: None, override_only: false };
        {
            let mut state = self.state();
            let known = state.drivers.iter_mut().find(|(driver, _)| driver.name == name);
            let (driver, dynamic) = known.ok_or(Errno::NODEV)?;
            if dynamic.contains(&id) || driver.ids.contains(&id) {
                return Err(Errno::EXIST);
            }
            dynamic.push(id);
        }
        self.attach_all(name)
    }

    /// What `modprobe` does for a driver of the setup that is not loaded.
    pub(crate) fn load(&self, name: &str) -> Result<(), Errno> {
        let driver = self.setup.drivers.iter().find(|driver| driver.name == name).ok_or(Errno::NOENT)?;
        {
            let mut state = self.state();
            if state.driver(name).is_some() {
                return Ok(());
            }
            state.drivers.push((driver.clone(), Vec::new()));
            self.show(&mut state);
        }
        self.attach_all(name)
    }

    /// `driver_attach`: a driver takes what nobody has.
    fn attach_all(&self, driver: &str) -> Result<(), Errno> {
        let free: Vec<PciAddress> = {
            let state = self.state();
            let free = state.functions.iter().filter(|(_, function)| function.driver.is_none());
            free.map(|(address, _)| *address).collect()
        };
        for address in free {
            let lock = self.lock(address)?;
            if self.state().function(address)?.driver.is_none() && self.matches(driver, address)? {
                // That one is refused keeps no other from being taken.
                let _ = self.probe(&lock, driver);
            }
        }
        Ok(())
    }

    /// `device_attach`: each driver that matches is asked, until one takes the function. That none does is no error.
    fn attach(&self, lock: &Locked<'_>) -> Result<(), Errno> {
        let drivers: Vec<String> = self.state().drivers.iter().map(|(driver, _)| driver.name.clone()).collect();
        for driver in drivers {
            let free = self.state().function(lock.address)?.driver.is_none();
            if free && self.matches(&driver, lock.address)? && self.probe(lock, &driver).is_ok() {
                break;
            }
        }
        Ok(())
    }

    fn matches(&self, name: &str, address: PciAddress) -> Result<bool, Errno> {
        let state = self.state();
        let function = state.functions.get(&address).ok_or(Errno::NODEV)?;
        let (driver, dynamic) = state.driver(name).ok_or(Errno::NODEV)?;
        let driver_override = function.driver_override.as_deref();
        Ok(matching::matches(name, &driver.ids, dynamic, &function.identity, driver_override))
    }

    /// `really_probe`.
    fn probe(&self, lock: &Locked<'_>, name: &str) -> Result<(), Errno> {
        let address = lock.address;
        let vfio = self.state().driver(name).is_some_and(|(driver, _)| driver.vfio);
        // A driver of the kernel's own may not touch a group that user space has (`iommu_device_use_default_domain`).
        if !vfio && holders::is_held(&self.group_devices(address)?) {
            return Err(Errno::BUSY);
        }
        {
            let mut state = self.state();
            let function = state.function(address)?;
            function.driver = Some(name.to_owned());
            function.linked = true;
            self.show(&mut state);
        }
        let refused = self.obey(Operation::Probe, address, Some(name));
        let mut state = self.state();
        let refused = refused.and_then(|()| if vfio { vfio_takes(state.function(address)?) } else { Ok(()) });
        let numbers: BTreeSet<u32> = state.functions.values().filter_map(|function| function.vfio_device).collect();
        let free = (0..).find(|number| !numbers.contains(number)).filter(|_| vfio && self.setup.iommufd);
        let function = state.function(address)?;
        match refused {
            Ok(()) => function.vfio_device = free,
            Err(_) => (function.driver, function.linked) = (None, false),
        }
        self.show(&mut state);
        refused
    }

    /// `__device_release_driver`.
    fn remove(&self, lock: &Locked<'_>, name: &str) -> Result<(), Errno> {
        let address = lock.address;
        let devices = self.devices(address)?;
        {
            let mut state = self.state();
            let function = state.function(address)?;
            // VFIO first makes sure that nobody new comes (`vfio_unregister_group_dev`).
            (function.linked, function.vfio_device) = (false, None);
            self.show(&mut state);
        }
        // A remove has no result; the rule's error is that of its author.
        let _ = self.obey(Operation::Remove, address, Some(name));
        while holders::is_held(&devices) {
            if self.state().stopping {
                return Err(Errno::NODEV);
            }
            self.pause(LOOK_AGAIN);
        }
        let mut state = self.state();
        state.function(address)?.driver = None;
        self.show(&mut state);
        Ok(())
    }

    /// The devices by which a process can hold a function: those of VFIO, and the node that nvidia gave it.
    fn devices(&self, address: PciAddress) -> Result<Vec<u64>, Errno> {
        let mut devices = Vec::new();
        let (driver, own) = {
            let mut state = self.state();
            let function = state.function(address)?;
            (function.driver.clone(), function.vfio_device)
        };
        if driver.as_deref() == Some("nvidia") {
            devices.extend(self.nvidia_minor(address).map(|minor| format!("dev/nvidia{minor}")));
        }
        devices.extend(own.map(|number| format!("dev/vfio/devices/vfio{number}")));
        let mut devices: Vec<u64> =
            devices.iter().filter_map(|node| holders::device_number(&self.root.join(node))).collect();
        if driver.is_some_and(|name| self.state().driver(&name).is_some_and(|(driver, _)| driver.vfio)) {
            devices.extend(self.group_devices(address)?);
        }
        Ok(devices)
    }

    fn group_devices(&self, address: PciAddress) -> Result<Vec<u64>, Errno> {
        let group = self.state().function(address)?.group;
        let node = group.map(|number| self.root.join(format!("dev/vfio/{number}")));
        Ok(node.and_then(|node| holders::device_number(&node)).into_iter().collect())
    }

    fn nvidia_minor(&self, address: PciAddress) -> Option<u32> {
        let path = self.root.join(format!("proc/driver/nvidia/gpus/{address}/information"));
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?.trim().parse().ok()
    }
}

/// What VFIO's PCI drivers refuse (`vfio_pci_core_register_device`, `vfio_pci_probe`).
fn vfio_takes(function: &Function) -> Result<(), Errno> {
    match function {
        Function { group: None, .. } => Err(Errno::INVAL),
        Function { identity, .. } if identity.is_bridge() => Err(Errno::INVAL),
        Function { virtual_functions: Some(1..), .. } => Err(Errno::BUSY),
        _ => Ok(()),
    }
}
