//! The few facts of an ELF file that linters ask for.

use object::elf;
use object::read::elf::{FileHeader, SectionHeader as _};
use object::{FileKind, ReadCache, ReadCacheOps, ReadRef};

use crate::contents::Elf;

/// Section headers that are looked at.
const SECTIONS: u64 = 1 << 16;

/// `None` where it is no ELF file, or one whose header is damaged.
pub(crate) fn read(file: impl ReadCacheOps) -> Option<Elf> {
    let cache = ReadCache::new(file);
    match FileKind::parse(&cache).ok()? {
        FileKind::Elf32 => facts::<elf::FileHeader32<object::Endianness>, _>(&cache),
        FileKind::Elf64 => facts::<elf::FileHeader64<object::Endianness>, _>(&cache),
        _ => None,
    }
}

fn facts<'d, Header: FileHeader, R: ReadRef<'d>>(data: R) -> Option<Elf> {
    let header = Header::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut found = Elf { machine: header.e_machine(endian).0, debug: false };
    let few = header.shnum(endian, data).is_ok_and(|count| count as u64 <= SECTIONS);
    // A file without readable sections has no debug sections that anybody could use.
    if let Some(sections) = few.then(|| header.sections(endian, data).ok()).flatten() {
        let debug = |name: &[u8]| name.starts_with(b".debug_") || name.starts_with(b".zdebug_");
        found.debug = sections
            .iter()
            .filter(|section| section.sh_type(endian) != elf::SHT_NOBITS)
            .any(|section| sections.section_name(endian, section).is_ok_and(debug));
    }
    Some(found)
}
