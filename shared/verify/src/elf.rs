//! What a program or library asks of its image.

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{ElfFile, FileHeader, ProgramHeader};
use object::{Endianness, Object};

/// The dynamic part of an ELF file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) machine: String,
    pub(crate) interpreter: Option<String>,
    pub(crate) needed: Vec<String>,
    /// Folders of `RPATH` and `RUNPATH`, as they are written.
    pub(crate) search_paths: Vec<String>,
}

/// Whether the bytes begin as an ELF file does.
pub(crate) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads a 64-bit ELF file.
pub(crate) fn read(bytes: &[u8]) -> Result<Elf, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let failed = |error: object::Error| error.to_string();
    let file = ElfFile::<FileHeader64<Endianness>>::parse(bytes).map_err(failed)?;
    let endian = file.endian();
    let mut elf = Elf { machine: format!("{:?}", file.architecture()), ..Elf::default() };
    let mut dynamic = false;
    for segment in file.elf_header().program_headers(endian, bytes).map_err(failed)? {
        if let Some(interpreter) = segment.interpreter(endian, bytes).map_err(failed)? {
            elf.interpreter = Some(text(interpreter));
        }
        dynamic |= segment.dynamic(endian, bytes).map_err(failed)?.is_some();
    }
    let table = file.elf_dynamic_table().map_err(failed)?;
    if dynamic && table.is_empty() {
        return Err("it has no section table, so that its libraries can't be read".to_owned());
    }
    for entry in &table {
        match entry.tag {
            DT_NEEDED => elf.needed.push(text(table.string(entry).map_err(failed)?)),
            DT_RPATH | DT_RUNPATH => {
                let paths = text(table.string(entry).map_err(failed)?);
                elf.search_paths.extend(paths.split(':').filter(|path| !path.is_empty()).map(str::to_owned));
            }
            _ => {}
        }
    }
    Ok(elf)
}
