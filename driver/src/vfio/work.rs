//! The moves themselves, each about one function until a deadline.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tessera_vocabulary::PciAddress;

use super::pending::left;
use super::{Action, Binding, Holder, Interface, KernelDriver, Original, Rebinder, VfioError, files};
use crate::Root;

/// How often is looked again whether a driver has let go, or a process.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The least time between two looks at all processes, which costs a call for each of their files.
const ASK_PROCESSES_AGAIN: Duration = Duration::from_millis(250);

/// What the kernel answers about a driver that does not have the function.
const ENODEV: i32 = 19;

/// A function and what is done to it until when.
pub(super) struct Work<'a> {
    pub(super) rebinder: &'a Rebinder,
    pub(super) function: PciAddress,
    /// For texts.
    pub(super) action: Action,
    /// What processes hold it by, besides what VFIO shows.
    pub(super) nodes: &'a [String],
    pub(super) deadline: Instant,
}

impl Work<'_> {
    fn root(&self) -> &Root {
        &self.rebinder.root
    }

    fn binding(&self) -> Binding {
        files::binding(self.root(), self.function)
    }

    pub(super) fn must_exist(&self) -> Result<(), VfioError> {
        let exists = files::function(self.root(), self.function).exists();
        if exists { Ok(()) } else { Err(VfioError::NoDevice { device: self.function }) }
    }

    /// Makes a call that may never be answered.
    pub(super) fn call<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> Result<T, VfioError> {
        let answer = self.rebinder.pending.call(self.function, self.deadline, call);
        answer.map_err(|_| self.too_late())
    }

    fn write(&self, path: PathBuf, text: String) -> Result<io::Result<()>, VfioError> {
        self.call(move || files::write(&path, &text))
    }

    fn refused(&self, cause: io::Error) -> VfioError {
        VfioError::Refused { device: self.function, step: self.action, cause }
    }

    fn too_late(&self) -> VfioError {
        let (device, step) = (self.function, self.action);
        let holders = self.holders();
        if !holders.is_empty() {
            return VfioError::Held { device, step, holders };
        }
        let driver = match self.binding() {
            Binding::Releasing(driver) => Some(driver),
            _ => None,
        };
        VfioError::TimedOut { device, step, driver }
    }

    /// Waits a little; fails when there is no time left.
    fn wait(&self, time: Duration) -> Result<(), VfioError> {
        match left(self.deadline) {
            Duration::ZERO => Err(self.too_late()),
            left => {
                thread::sleep(time.min(left));
                Ok(())
            }
        }
    }

    pub(super) fn set_override(&self, driver: Option<&KernelDriver>) -> Result<(), VfioError> {
        let path = files::driver_override(self.root(), self.function);
        // An empty line clears it; an empty write would not reach the kernel.
        let text = format!("{}\n", driver.map_or("", KernelDriver::as_str));
        self.write(path, text)?.map_err(|cause| self.refused(cause))
    }

    /// Takes the function from the driver that has it, if `from` says so, as soon as nobody holds it.
    ///
    /// The processes are asked first: a driver that has been told to let go cannot be told to stay, and shuts out
    /// everybody who comes to look.
    pub(super) fn free(&self, from: impl Fn(&KernelDriver) -> bool) -> Result<(), VfioError> {
        loop {
            let driver = match self.binding() {
                Binding::Bound(driver) if from(&driver) => driver,
                Binding::Bound(_) | Binding::Unbound => return Ok(()),
                Binding::Releasing(_) => {
                    self.wait(LOOK_AGAIN)?;
                    continue;
                }
            };
            if !self.holders().is_empty() {
                self.wait(ASK_PROCESSES_AGAIN)?;
                continue;
            }
            let path = files::of_driver(self.root(), &driver, "unbind");
            match self.write(path, self.function.to_string())? {
                Ok(()) => {}
                // Somebody else was faster.
                Err(error) if error.raw_os_error() == Some(ENODEV) || error.kind() == io::ErrorKind::NotFound => {
                    self.wait(LOOK_AGAIN)?;
                }
                // A process came between our look and the write; without one it is the driver's own refusal.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    if self.holders().is_empty() {
                        return Err(self.refused(error));
                    }
                    self.wait(ASK_PROCESSES_AGAIN)?;
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    /// Lets the kernel find a driver, until `driver` has the function and its node is there.
    pub(super) fn give_to(&self, driver: &KernelDriver) -> Result<(), VfioError> {
        self.find_driver(driver)?;
        // The kernel tells of the device first and has the node made then.
        loop {
            let nodes = self.vfio_nodes();
            if nodes.iter().any(|node| self.root().seen_by_agent(node).exists()) {
                return Ok(());
            }
            let node = nodes.into_iter().next().unwrap_or_else(|| "its node in /dev/vfio".to_owned());
            self.wait(LOOK_AGAIN).map_err(|_| VfioError::NoNode { device: self.function, node })?;
        }
    }

    /// The nodes by which user space has the function from VFIO.
    fn vfio_nodes(&self) -> Vec<String> {
        let group = files::group(self.root(), self.function).map(|group| Interface::Legacy { group: group.number });
        let device = files::vfio_device(self.root(), self.function).map(|device| Interface::Iommufd { device });
        group.into_iter().chain(device).map(|interface| interface.node()).collect()
    }

    /// Who has the function open, from the driver that had it first or from VFIO.
    fn holders(&self) -> Vec<Holder> {
        let nodes: Vec<String> = self.nodes.iter().cloned().chain(self.vfio_nodes()).collect();
        self.rebinder.processes_at(&nodes)
    }

    /// Until `driver` has the function. The kernel takes a probe and does nothing while another driver still lets go, and
    /// says nothing when the driver refuses.
    fn find_driver(&self, driver: &KernelDriver) -> Result<(), VfioError> {
        let mut asked = false;
        loop {
            let found = match self.binding() {
                Binding::Bound(found) if found == *driver => return Ok(()),
                Binding::Bound(found) => Some(found),
                Binding::Unbound if !asked => {
                    self.probe()?;
                    asked = true;
                    continue;
                }
                Binding::Unbound => None,
                Binding::Releasing(_) => {
                    self.wait(LOOK_AGAIN)?;
                    continue;
                }
            };
            return Err(VfioError::NotTaken { device: self.function, wanted: driver.clone(), found });
        }
    }

    fn probe(&self) -> Result<(), VfioError> {
        let path = self.root().seen_by_agent(files::DRIVERS_PROBE);
        self.write(path, self.function.to_string())?.map_err(|cause| self.refused(cause))
    }

    /// Takes the function from a VFIO driver, as soon as no virtual machine has it.
    pub(super) fn leave_vfio(&self) -> Result<(), VfioError> {
        self.free(KernelDriver::is_vfio)
    }

    /// Gives a function that nobody has back to its first driver.
    pub(super) fn bring_back(&self, original: &Original) -> Result<(), VfioError> {
        while let Binding::Releasing(_) = self.binding() {
            self.wait(LOOK_AGAIN)?;
        }
        if self.binding() != Binding::Unbound {
            return Ok(());
        }
        match original {
            Original::Unbound => Ok(()),
            Original::KernelsChoice => self.probe(),
            Original::Driver(driver) => {
                // By name, since another driver may match too; it also says why it fails, which a probe does not.
                let path = files::of_driver(self.root(), driver, "bind");
                let written = self.write(path, self.function.to_string())?;
                let cause = match written {
                    Ok(()) => return Ok(()),
                    Err(cause) => cause,
                };
                match cause.kind() {
                    _ if self.binding() == Binding::Bound(driver.clone()) => Ok(()),
                    io::ErrorKind::NotFound => {
                        Err(VfioError::NoDriver { device: self.function, module: driver.to_string() })
                    }
                    _ => Err(self.refused(cause)),
                }
            }
        }
    }
}
