//! Files of one accelerator that are missing, hold garbage, or cannot be read: nothing panics, and no other is lost.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::looks::others_as_before;
use crate::node::{Node, holds, look};

pub(crate) fn missing(node: &Node<'_>) -> Result<(), String> {
    each_file(node, |_, _| {})
}

pub(crate) fn garbage(node: &Node<'_>) -> Result<(), String> {
    let long = vec![b'9'; 100_000];
    let contents = [&b""[..], b"0x\n", b"-1\n", b"\xff\xfe\x00garbage\n", &long];
    // In turn: with each machine that a backend is checked on, files and contents meet otherwise.
    let shift = node.addresses().len();
    each_file(node, |position, path| fs::write(path, contents[(position + shift) % contents.len()]).unwrap())
}

/// Tests run as root too, whom no permission stops: a link that leads to itself cannot be read by anybody.
pub(crate) fn unreadable(node: &Node<'_>) -> Result<(), String> {
    each_file(node, |_, path| symlink(path.file_name().unwrap(), path).unwrap())?;
    // All at once: not even what there is can be told, and that is not to say that there is nothing.
    let devices = node.root().seen_by_agent("/sys/bus/pci/devices");
    let aside = devices.with_extension("aside");
    fs::rename(&devices, &aside).unwrap();
    symlink("devices", &devices).unwrap();
    let found = node.backend().discover();
    fs::remove_file(&devices).unwrap();
    fs::rename(&aside, &devices).unwrap();
    let told = found.is_err() || found.is_ok_and(|found| !found.on_the_bus.is_empty());
    holds(told, || "a bus that cannot be read is taken for an empty one".to_owned())
}

/// Puts something in the place of each file of the first accelerator, one after the other, and looks.
fn each_file(node: &Node<'_>, replace: impl Fn(usize, &Path)) -> Result<(), String> {
    let mut backend = node.backend();
    let before = look(&mut *backend)?;
    let first = &node.addresses()[0];
    let directory = node.root().seen_by_agent(&format!("/sys/bus/pci/devices/{first}")).canonicalize().unwrap();
    for (position, path) in files(&directory).into_iter().enumerate() {
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).unwrap();
        replace(position, &path);
        let found = look(&mut *backend).and_then(|after| others_as_before(&before, &after, first));
        let _ = fs::remove_file(&path);
        fs::rename(&aside, &path).unwrap();
        found.map_err(|found| format!("{}: {found}", path.strip_prefix(&directory).unwrap().display()))?;
        let again = look(&mut *backend)?;
        holds(again == before, || format!("{} is back and it is not as before", path.display()))?;
    }
    Ok(())
}

/// Files and links of a directory, and of those in it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}
