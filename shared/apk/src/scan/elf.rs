//! What the dynamic linker reads of an ELF file.

use std::fs::File;
use std::path::Path;

use object::elf;
use object::read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _};
use object::{FileKind, ReadCache, ReadRef};

use crate::{Error, Result};

/// Bytes of a dynamic section or an interpreter's path that are read.
const TABLE_BYTES: u64 = 1 << 20;
/// Section headers that are read.
const SECTIONS: u32 = 1 << 16;

/// What the dynamic linker reads of an ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// `e_machine`: 62 for x86_64, 183 for aarch64.
    pub machine: u16,
    /// Whether it is a shared object (`ET_DYN`), as position-independent programs are too.
    pub shared: bool,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `DT_SONAME`.
    pub sonames: Vec<String>,
}

/// `None` where the file is no ELF file or a damaged one, which no linker would read either.
pub(super) fn read(path: &Path) -> Result<Option<Dynamic>> {
    if !path.is_file() {
        return Ok(None);
    }
    Ok(read_dynamic(File::open(path).map_err(Error::at(path))?))
}

/// What the dynamic linker reads of a file; `None` where it is no ELF file or a damaged one.
pub fn read_dynamic(file: File) -> Option<Dynamic> {
    let cache = ReadCache::new(file);
    match FileKind::parse(&cache) {
        Ok(FileKind::Elf32) => dynamic::<elf::FileHeader32<object::Endianness>, _>(&cache),
        Ok(FileKind::Elf64) => dynamic::<elf::FileHeader64<object::Endianness>, _>(&cache),
        _ => None,
    }
}

fn dynamic<'d, Elf: FileHeader, R: ReadRef<'d>>(data: R) -> Option<Dynamic> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut found = Dynamic {
        machine: header.e_machine(endian).0,
        shared: header.e_type(endian) == elf::ET_DYN,
        ..Dynamic::default()
    };
    for segment in header.program_headers(endian, data).ok()? {
        if segment.p_type(endian) == elf::PT_INTERP && segment.p_filesz(endian).into() <= TABLE_BYTES {
            found.interpreter = segment.interpreter(endian, data).ok()?.map(text);
        }
    }
    if header.shnum(endian, data).ok()? as u64 > u64::from(SECTIONS) {
        return None;
    }
    let sections = header.sections(endian, data).ok()?;
    let Some(section) = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_DYNAMIC) else {
        return Some(found);
    };
    if section.sh_size(endian).into() > TABLE_BYTES {
        return None;
    }
    let table = sections.dynamic_table(endian, data).ok()?;
    for entry in &table {
        let list = match entry.tag {
            elf::DT_NEEDED => &mut found.needed,
            elf::DT_SONAME => &mut found.sonames,
            _ => continue,
        };
        list.push(text(table.string(entry).ok()?));
    }
    Some(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
