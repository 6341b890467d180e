//! The hook as it is built for a node, and so as it is shipped.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::fs;
use std::process::Command;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// It runs wherever a runtime runs it: no loader is asked for, and no library.
#[test]
fn the_hook_needs_no_loader_and_no_library() {
    let path = simulated_node::hook().unwrap();
    let data = fs::read(&path).unwrap();
    let header = FileHeader64::<Endianness>::parse(&*data).unwrap();
    let endian = header.endian().unwrap();
    let segments = header.program_headers(endian, &*data).unwrap();
    assert!(
        segments.iter().all(|segment| segment.p_type(endian) != PT_INTERP),
        "{} has an interpreter",
        path.display()
    );
    for dynamic in segments.iter().filter(|segment| segment.p_type(endian) == PT_DYNAMIC) {
        // A program that can be loaded anywhere has this section too, for itself.
        let entries = dynamic.dynamic(endian, &*data).unwrap().unwrap();
        assert!(entries.iter().all(|entry| entry.d_tag(endian) != DT_NEEDED), "{} needs a library", path.display());
    }
    let help = Command::new(&path).arg("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("createContainer"));
}
