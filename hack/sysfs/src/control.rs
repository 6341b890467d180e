//! The words that `sys/kernel/debug/simulated-pci/control` takes, so that whoever sees the machine's sysfs can make its
//! kernel fail: a rule of [`crate::rule`], `none`, or `load <driver>` for what modprobe does.

use rustix::io::Errno;

use crate::kernel::Kernel;
use crate::rule::Rule;

/// Carries a line out. What is no command is EINVAL, and what was wrong goes to standard error.
pub(crate) fn run(kernel: &Kernel, text: &str) -> Result<(), Errno> {
    let text = text.trim();
    if text == "none" {
        kernel.change_rules(Vec::clear);
        return Ok(());
    }
    if let Some(driver) = text.strip_prefix("load ") {
        return kernel.load(driver.trim());
    }
    let rule: Rule = text.parse().map_err(|problem| {
        eprintln!("simulated-sysfs: {text:?}: {problem}");
        Errno::INVAL
    })?;
    kernel.change_rules(|rules| rules.push(rule));
    Ok(())
}
