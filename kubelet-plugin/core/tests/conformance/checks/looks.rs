//! What a look finds, and finds again.

use std::collections::{BTreeMap, BTreeSet};

use tessera_driver::{Discovery, Root};

use crate::node::{Node, holds, look};

/// It is there where its hardware is, and not where nothing is: its driver is served only there.
pub(crate) fn presence(node: &Node<'_>) -> Result<(), String> {
    holds(node.backend().is_present(), || "absent where its hardware is".to_owned())?;
    let nothing = tempfile::tempdir().unwrap();
    let backend = node.subject.backend(Root::new(nothing.path(), "/"));
    holds(!backend.is_present(), || "present where nothing of it is".to_owned())
}

/// Everything is found, in order, the same each time and by each that looks.
pub(crate) fn agree(node: &Node<'_>) -> Result<(), String> {
    let mut backend = node.backend();
    let first = look(&mut *backend)?;
    let addresses: Vec<String> = first.accelerators.iter().map(|one| one.address.to_string()).collect();
    holds(addresses == node.addresses(), || format!("{addresses:?} instead of {:?}", node.addresses()))?;
    let on_the_bus = first.on_the_bus.iter().map(ToString::to_string);
    holds(on_the_bus.eq(node.addresses()), || format!("on the bus: {:?}", first.on_the_bus))?;
    let names: BTreeSet<_> = first.accelerators.iter().map(|one| one.name()).collect();
    holds(names.len() == addresses.len(), || format!("names that are shared: {names:?}"))?;
    holds(look(&mut *backend)? == first, || "the second look differs".to_owned())?;
    holds(look(&mut *node.backend())? == first, || "another agent sees something else".to_owned())
}

/// A UUID keeps its name, address and what is said of it.
pub(crate) fn names_survive_a_reload(node: &Node<'_>) -> Result<(), String> {
    let known = |found: Discovery| -> BTreeMap<_, _> {
        let of = |one: &tessera_driver::Accelerator| (one.uuid().to_owned(), (one.name(), one.attributes()));
        found.accelerators.iter().map(of).collect()
    };
    let mut backend = node.backend();
    let before = known(look(&mut *backend)?);
    node.change(|hardware| node.subject.reload(hardware));
    let after = known(look(&mut *backend)?);
    holds(before == after, || format!("{before:?} became {after:?}"))?;
    let anew = known(look(&mut *node.backend())?);
    node.change(|hardware| node.subject.reload(hardware));
    holds(before == anew, || format!("to another agent {before:?} became {anew:?}"))
}

/// What is pulled out is off the bus and nothing else changes, and it comes back as it was.
pub(crate) fn one_that_is_gone_changes_no_other(node: &Node<'_>) -> Result<(), String> {
    for position in 0..node.addresses().len() {
        let mut backend = node.backend();
        let before = look(&mut *backend)?;
        node.change(|hardware| node.subject.plug(hardware, position, false));
        let after = look(&mut *backend)?;
        let gone = before.accelerators[position].address;
        holds(!after.on_the_bus.contains(&gone), || format!("{gone} is on the bus"))?;
        others_as_before(&before, &after, &gone.to_string())?;
        node.change(|hardware| node.subject.plug(hardware, position, true));
        holds(look(&mut *backend)? == before, || format!("{gone} comes back as another"))?;
    }
    Ok(())
}

/// All but one are there and are said to be what they were. What they are linked to may have changed.
pub(crate) fn others_as_before(before: &Discovery, after: &Discovery, but: &str) -> Result<(), String> {
    for one in before.accelerators.iter().filter(|one| one.address.to_string() != but) {
        let found = after.accelerators.iter().find(|found| found.address == one.address);
        let found = found.ok_or_else(|| format!("{} is gone with {but}; {:?}", one.address, after.problems))?;
        let same =
            (found.name(), found.attributes(), found.capacities()) == (one.name(), one.attributes(), one.capacities());
        holds(same, || format!("{} changed with {but}: {one:?} became {found:?}", one.address))?;
    }
    Ok(())
}
