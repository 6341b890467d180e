//! GPUs that were handed to user space.

use tessera_core::{Ledger, PreparedDevice};
use tessera_driver::{Outcome, Work};
use tessera_vocabulary::PciAddress;

use super::{Invariant, Violation, broken, hold};
use crate::disk::Files;
use crate::hardware::{Gpu, Hardware};
use crate::vfio::Driver;

/// [`Invariant::MovesOwned`].
pub(crate) fn moves_owned(files: &Files, hardware: &Hardware) -> Result<(), Violation> {
    for gpu in hardware.gpus.iter().filter(|gpu| gpu.functions.are_moved()) {
        let says = |work: &Work| matches!(work, Work::Pass { accelerator } if *accelerator == gpu.address());
        if !files.work().any(says) {
            return broken(Invariant::MovesOwned, || {
                format!("nobody owns what became of {}: {:?}", gpu.address(), gpu.functions)
            });
        }
    }
    Ok(())
}

/// [`Invariant::PassedThere`] of records that are whole.
pub(crate) fn passed_there(ledger: &Ledger, hardware: &Hardware) -> Result<(), Violation> {
    for record in ledger.records().filter(|record| record.is_whole()) {
        for (work, outcome) in record.work() {
            let (Work::Pass { accelerator }, Some(Outcome::Passed { ways, .. })) = (work, outcome) else { continue };
            let gpu = clear(hardware, *accelerator);
            hold(gpu.is_none_or(|gpu| gpu.functions.ways() == *ways), Invariant::PassedThere, || {
                format!("{} has {accelerator} by {ways:?}, which is not so", record.claim.uid)
            })?;
        }
    }
    Ok(())
}

/// [`Invariant::PassedThere`] of what the kubelet is told: user space can reach what the CDI spec names, and what no claim
/// has for user space is with its driver, as long as people keep their hands off it.
pub(crate) fn is_with_its_driver(device: &PreparedDevice, spec: &str, hardware: &Hardware) -> Result<(), Violation> {
    if device.admin_access {
        return Ok(());
    }
    let passed = device.work.iter().any(|work| matches!(work, Work::Pass { .. }));
    let told = |gpu: &&Gpu| gpu.passthrough_name() == device.device;
    if let Some(gpu) = hardware.gpus.iter().find(told).filter(|_| passed) {
        let reached = gpu.functions.ways().legacy().is_some_and(|way| spec.contains(&format!("\"{}\"", way.node())));
        return hold(reached || gpu.functions.are_unclear(), Invariant::PassedThere, || {
            format!("{} was handed out and is not there: {:?}", device.device, gpu.functions)
        });
    }
    let ours = |gpu: &&Gpu| super::parts(device).iter().any(|(name, _)| *name == gpu.name()) && !told(gpu);
    for gpu in hardware.gpus.iter().filter(ours) {
        let stays = gpu.functions.driver() == Some(Driver::Own) || !gpu.functions.are_moved();
        hold(stays, Invariant::PassedThere, || {
            format!("{} was handed out while user space has {}", device.device, gpu.address())
        })?;
    }
    Ok(())
}

/// A GPU that is on the bus and of which everybody can tell whose doing it is what drivers it has.
fn clear(hardware: &Hardware, address: PciAddress) -> Option<&Gpu> {
    let clear = |gpu: &&Gpu| gpu.address() == address && !gpu.functions.are_unclear();
    hardware.gpus.iter().find(clear)
}
