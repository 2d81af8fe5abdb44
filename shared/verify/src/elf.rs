//! What a program or library asks of its image, and how it wants to be loaded. All is read as the
//! kernel and the loader read it: by program headers, since a stripped file may have no sections.

use object::elf::{self, DynamicTag};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

/// A program or library.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// `e_machine`: 62 for x86_64, 183 for aarch64.
    pub(crate) machine: u16,
    /// Whether its words are of 64 bits.
    pub(crate) wide: bool,
    pub(crate) kind: Kind,
    pub(crate) interpreter: Option<String>,
    pub(crate) needed: Vec<String>,
    /// Folders of `RPATH` and `RUNPATH`, as they are written; an empty one is the working folder.
    pub(crate) search_paths: Vec<String>,
    /// Whether it has a dynamic section: the loader, or its own start, relocates it.
    pub(crate) dynamic: bool,
    pub(crate) stack: Stack,
    /// Whether a segment can be written to and executed.
    pub(crate) writable_code: bool,
    /// Whether the loader has to write to its code.
    pub(crate) text_relocations: bool,
    /// Whether what is relocated is made read-only afterwards (`PT_GNU_RELRO`).
    pub(crate) relro: bool,
    /// Whether all symbols are bound before it starts.
    pub(crate) bind_now: bool,
}

/// What kind of file it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A program that must be loaded at one address (`ET_EXEC`).
    Fixed,
    /// A library, or a program that can be loaded anywhere (`ET_DYN`).
    Independent,
    /// An object file, or something else that is not run.
    #[default]
    Other,
}

/// What it says of its stack (`PT_GNU_STACK`).
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stack {
    /// Nothing: older kernels make it executable.
    #[default]
    Unstated,
    /// That it is executable.
    Executable,
    /// That it is not.
    Protected,
}

/// Whether the bytes begin as an ELF file does.
pub(crate) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// Reads an ELF file.
pub(crate) fn read(bytes: &[u8]) -> Result<Elf, String> {
    match FileKind::parse(bytes).map_err(refused)? {
        FileKind::Elf32 => facts::<elf::FileHeader32<Endianness>>(bytes),
        FileKind::Elf64 => facts::<elf::FileHeader64<Endianness>>(bytes),
        _ => Err("it is no ELF file".to_owned()),
    }
}

fn refused(error: object::Error) -> String {
    error.to_string()
}

fn facts<Header: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Elf, String> {
    let header = Header::parse(bytes).map_err(refused)?;
    let endian = header.endian().map_err(refused)?;
    let kind = match header.e_type(endian) {
        elf::ET_EXEC => Kind::Fixed,
        elf::ET_DYN => Kind::Independent,
        _ => Kind::Other,
    };
    let mut found = Elf { machine: header.e_machine(endian).0, wide: header.is_type_64(), kind, ..Elf::default() };
    let segments = header.program_headers(endian, bytes).map_err(refused)?;
    let mut entries = None;
    for segment in segments {
        let flags = segment.p_flags(endian).0;
        let (writable, executable) = (flags & elf::PF_W.0 != 0, flags & elf::PF_X.0 != 0);
        match segment.p_type(endian) {
            elf::PT_LOAD => found.writable_code |= writable && executable,
            elf::PT_GNU_STACK => found.stack = if executable { Stack::Executable } else { Stack::Protected },
            elf::PT_GNU_RELRO => found.relro = true,
            elf::PT_INTERP => found.interpreter = segment.interpreter(endian, bytes).map_err(refused)?.map(text),
            elf::PT_DYNAMIC => entries = segment.dynamic(endian, bytes).map_err(refused)?,
            _ => {}
        }
    }
    let Some(entries) = entries else { return Ok(found) };
    found.dynamic = true;
    let until_null = entries.iter().take_while(|entry| entry.tag(endian) != elf::DT_NULL);
    let entries: Vec<(DynamicTag, u64)> = until_null.map(|entry| (entry.tag(endian), entry.val(endian))).collect();
    let value = |tag| entries.iter().find(|(other, _)| *other == tag).map_or(0, |(_, value)| *value);
    let (address, size) = (value(elf::DT_STRTAB), value(elf::DT_STRSZ));
    let strings = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == elf::PT_LOAD)
        .find_map(|segment| segment.data_range(endian, bytes, address, size).ok().flatten());
    let string = |offset: u64| {
        let from = strings.zip(usize::try_from(offset).ok()).and_then(|(strings, offset)| strings.get(offset..));
        let string = from.and_then(|from| from.split(|byte| *byte == 0).next());
        string.map(text).ok_or_else(|| "its dynamic section names a string that it doesn't have".to_owned())
    };
    for &(tag, value) in &entries {
        match tag {
            elf::DT_NEEDED => found.needed.push(string(value)?),
            elf::DT_RPATH | elf::DT_RUNPATH => {
                let paths = string(value)?;
                found.search_paths.extend(paths.split(':').filter(|_| !paths.is_empty()).map(str::to_owned));
            }
            elf::DT_TEXTREL => found.text_relocations = true,
            elf::DT_BIND_NOW => found.bind_now = true,
            elf::DT_FLAGS => {
                found.text_relocations |= value & elf::DF_TEXTREL.0 != 0;
                found.bind_now |= value & elf::DF_BIND_NOW.0 != 0;
            }
            elf::DT_FLAGS_1 => found.bind_now |= value & elf::DF_1_NOW.0 != 0,
            _ => {}
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
