use simulated_hardware::{Hardware, Profile};
use tessera_driver::nvidia::{Nvidia, Session};
use tessera_driver::tpu::{NodeLabels, Settings, Tpu};
use tessera_driver::{Backend, Root};
use tessera_vocabulary::DriverName;

/// A backend under test, and what of the simulated hardware is its.
pub(crate) trait Subject {
    /// The name of its driver.
    fn driver(&self) -> DriverName;

    /// The machines to check it on.
    fn machines(&self) -> Vec<&'static str>;

    /// Its way to the hardware below a root.
    fn backend(&self, root: Root) -> Box<dyn Backend>;

    /// The PCI addresses of its accelerators.
    fn addresses(&self, hardware: &Hardware) -> Vec<String>;

    /// Pulls one of them out, or puts it back.
    fn plug(&self, hardware: &mut Hardware, position: usize, present: bool);

    /// Numbers anew what its driver numbers when it is loaded. Twice, it is as before.
    fn reload(&self, hardware: &mut Hardware);
}

/// NVIDIA's GPUs.
pub(crate) struct NvidiaGpus;

impl Subject for NvidiaGpus {
    fn driver(&self) -> DriverName {
        DriverName::nvidia_gpu()
    }

    fn machines(&self) -> Vec<&'static str> {
        Profile::names_with_gpus().collect()
    }

    fn backend(&self, root: Root) -> Box<dyn Backend> {
        Box::new(Nvidia::new(root.clone(), Session::new(root)))
    }

    fn addresses(&self, hardware: &Hardware) -> Vec<String> {
        hardware.gpus.iter().map(|gpu| gpu.pci.to_string()).collect()
    }

    fn plug(&self, hardware: &mut Hardware, position: usize, present: bool) {
        hardware.gpus[position].present = present;
    }

    fn reload(&self, hardware: &mut Hardware) {
        let minors: Vec<u32> = hardware.gpus.iter().map(|gpu| gpu.minor).rev().collect();
        hardware.gpus.iter_mut().zip(minors).for_each(|(gpu, minor)| gpu.minor = minor);
    }
}

/// Google's TPUs.
pub(crate) struct Tpus;

impl Subject for Tpus {
    fn driver(&self) -> DriverName {
        DriverName::google_tpu()
    }

    fn machines(&self) -> Vec<&'static str> {
        Profile::names_with_tpus().collect()
    }

    fn backend(&self, root: Root) -> Box<dyn Backend> {
        let settings = Settings { node: "node-1".to_owned(), ..Settings::default() };
        Box::new(Tpu::new(root, settings, NodeLabels::default()))
    }

    fn addresses(&self, hardware: &Hardware) -> Vec<String> {
        hardware.tpus.iter().map(|tpu| tpu.pci.to_string()).collect()
    }

    fn plug(&self, hardware: &mut Hardware, position: usize, present: bool) {
        hardware.tpus[position].present = present;
    }

    fn reload(&self, hardware: &mut Hardware) {
        let numbers: Vec<u32> = hardware.tpus.iter().map(|tpu| tpu.number).rev().collect();
        hardware.tpus.iter_mut().zip(numbers).for_each(|(tpu, number)| tpu.number = number);
    }
}
