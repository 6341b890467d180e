use std::fs::File;

use object::elf::{
    DT_SONAME, DT_STRTAB, EM_386, EM_AARCH64, EM_ARM, EM_X86_64, ET_DYN, FileHeader32, FileHeader64, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::read::{FileKind, ReadCache, ReadRef};
use object::{Endianness, read::StringTable};
use tessera_hook::Architecture;

/// What the dynamic loader goes by.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SharedObject {
    pub(super) architecture: Architecture,
    /// The name by which others ask for it. Some have none: their file's name it is, then.
    pub(super) soname: Option<String>,
}

/// Reads the few parts of a library that tell; drivers have libraries of a hundred megabytes. `None` for what no loader
/// that we know would take.
pub(super) fn shared_object(file: File) -> Option<SharedObject> {
    let data = ReadCache::new(file);
    match FileKind::parse(&data).ok()? {
        FileKind::Elf64 => of_class::<FileHeader64<Endianness>>(&data),
        FileKind::Elf32 => of_class::<FileHeader32<Endianness>>(&data),
        _ => None,
    }
}

fn of_class<H: FileHeader<Endian = Endianness>>(data: &ReadCache<File>) -> Option<SharedObject> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.e_type(endian) != ET_DYN {
        return None;
    }
    let architecture = match (header.e_machine(endian), header.is_class_64()) {
        (EM_X86_64, true) => Architecture::X86_64,
        (EM_386, false) => Architecture::I386,
        (EM_AARCH64, true) => Architecture::Aarch64,
        (EM_ARM, false) => Architecture::ArmHardFloat,
        _ => return None,
    };
    Some(SharedObject { architecture, soname: soname(header, endian, data) })
}

fn soname<H: FileHeader>(header: &H, endian: H::Endian, data: &ReadCache<File>) -> Option<String> {
    let segments = header.program_headers(endian, data).ok()?;
    let dynamic = segments.iter().find_map(|segment| segment.dynamic(endian, data).ok().flatten())?;
    let value = |tag: i64| {
        let entry = dynamic.iter().find(|entry| entry.d_tag(endian).into() == tag)?;
        Some(entry.d_val(endian).into())
    };
    let (name, strings): (u64, u64) = (value(DT_SONAME)?, value(DT_STRTAB)?);
    // The table is known by its address in memory.
    let (start, end) = segments.iter().filter(|segment| segment.p_type(endian) == PT_LOAD).find_map(|segment| {
        let (address, size) = (segment.p_vaddr(endian).into(), segment.p_filesz(endian).into());
        let within = strings.checked_sub(address).filter(|within| *within < size)?;
        let offset = segment.p_offset(endian).into();
        Some((offset.checked_add(within)?, offset.checked_add(size)?))
    })?;
    let end = end.min(data.len().ok()?);
    let text = StringTable::new(data, start, end).get(u32::try_from(name).ok()?).ok()?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}
