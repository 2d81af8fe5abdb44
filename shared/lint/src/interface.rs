//! What a package's programs and libraries offer to each other: the symbols that its libraries
//! export and those that it takes from the libraries of others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use object::elf;
use object::read::elf::{FileHeader, SectionHeader as _, SectionTable, Sym as _};
use object::{FileKind, ReadCache, ReadCacheOps, ReadRef, SymbolIndex};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Section headers and symbols that are read of one file.
const SECTIONS: usize = 1 << 16;
const SYMBOLS: usize = 1 << 20;

/// The dynamic symbols of one package. A symbol with a version is `NAME@VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// What each library exports, by its soname.
    pub exports: BTreeMap<String, BTreeSet<String>>,
    /// What the package needs, by the soname of the library that has it. A symbol without a version
    /// may come from any library that its file needs, and is listed under each.
    pub imports: BTreeMap<String, BTreeSet<String>>,
}

impl Interface {
    /// Reads every ELF file of the tree below `root`; links in it are not followed. A file that is
    /// damaged, or has more symbols than a linker would take, adds nothing.
    ///
    /// # Errors
    /// When the tree passes the bounds of [`apk::limits`] or can't be read.
    pub fn of_tree(root: &Path) -> Result<Self> {
        let mut interface = Self::default();
        for found in apk::walk_tree(root)?.into_iter().filter(|found| found.metadata.is_file()) {
            interface.add(File::open(&found.absolute).map_err(Error::at(&found.absolute))?);
        }
        Ok(interface)
    }

    fn add(&mut self, file: impl ReadCacheOps) {
        let cache = ReadCache::new(file);
        let found = match FileKind::parse(&cache) {
            Ok(FileKind::Elf32) => read::<elf::FileHeader32<object::Endianness>, _>(&cache),
            Ok(FileKind::Elf64) => read::<elf::FileHeader64<object::Endianness>, _>(&cache),
            _ => None,
        };
        let Some(object) = found else { return };
        if let Some(soname) = object.soname {
            self.exports.entry(soname).or_default().extend(object.exports);
        }
        for (symbol, from) in object.imports {
            match from {
                Some(library) => {
                    self.imports.entry(library).or_default().insert(symbol);
                }
                None => {
                    for library in &object.needed {
                        self.imports.entry(library.clone()).or_default().insert(symbol.clone());
                    }
                }
            }
        }
    }
}

/// The symbols of `old` that `new` lacks and that a program linked with `old` would miss. A symbol
/// that has gained or lost its version is still found by name.
pub fn removed<'a>(old: &'a BTreeSet<String>, new: &'a BTreeSet<String>) -> Vec<&'a str> {
    let versions = |set: &'a BTreeSet<String>| {
        let mut names: BTreeMap<&str, bool> = BTreeMap::new();
        for symbol in set {
            let unversioned = !symbol.contains('@');
            *names.entry(name(symbol)).or_default() |= unversioned;
        }
        names
    };
    let names = versions(new);
    let kept = |symbol: &str| {
        new.contains(symbol) || names.get(name(symbol)).is_some_and(|unversioned| *unversioned || !symbol.contains('@'))
    };
    old.iter().map(String::as_str).filter(|symbol| !kept(symbol)).collect()
}

fn name(symbol: &str) -> &str {
    symbol.split_once('@').map_or(symbol, |(name, _)| name)
}

#[derive(Default)]
struct Object {
    soname: Option<String>,
    needed: Vec<String>,
    exports: BTreeSet<String>,
    /// With the library that a version names.
    imports: Vec<(String, Option<String>)>,
}

fn read<'d, Elf: FileHeader, R: ReadRef<'d>>(data: R) -> Option<Object> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    if header.shnum(endian, data).ok()? as usize > SECTIONS {
        return None;
    }
    let sections = header.sections(endian, data).ok()?;
    let mut object = Object::default();
    let table = sections.dynamic_table(endian, data).ok()?;
    for entry in &table {
        match entry.tag {
            elf::DT_NEEDED => object.needed.push(text(table.string(entry).ok()?)),
            elf::DT_SONAME => object.soname = Some(text(table.string(entry).ok()?)),
            _ => {}
        }
    }
    symbols(endian, data, &sections, &mut object)?;
    Some(object)
}

fn symbols<'d, Elf: FileHeader, R: ReadRef<'d>>(
    endian: Elf::Endian,
    data: R,
    sections: &SectionTable<'d, Elf, R>,
    object: &mut Object,
) -> Option<()> {
    let few = sections.iter().find(|section| section.sh_type(endian) == elf::SHT_DYNSYM)?;
    if few.sh_size(endian).into() > (SYMBOLS * size_of::<Elf::Sym>()) as u64 {
        return None;
    }
    let table = sections.symbols(endian, data, elf::SHT_DYNSYM).ok()?;
    let versions = sections.versions(endian, data).ok()?.unwrap_or_default();
    for (index, symbol) in table.enumerate() {
        let (bind, kind) = (symbol.st_bind(), symbol.st_type());
        let named = table.symbol_name(endian, symbol).ok().filter(|name| !name.is_empty());
        let Some(name) = named.filter(|_| bind != elf::STB_LOCAL && kind != elf::STT_SECTION) else { continue };
        let version = if versions.is_empty() { None } else { version_of(&versions, endian, index) };
        let full = match &version {
            Some((version, _)) => format!("{}@{version}", text(name)),
            None => text(name),
        };
        if symbol.is_undefined(endian) {
            // A weak symbol may be missing: its program has seen to that.
            if bind != elf::STB_WEAK {
                object.imports.push((full, version.and_then(|(_, library)| library)));
            }
        } else if symbol.st_shndx(endian) != elf::SHN_ABS || version.is_none() {
            // An absolute symbol with a version is the version's own.
            object.exports.insert(full);
        }
    }
    Some(())
}

/// A symbol's version, and the library that is to have it.
fn version_of<Elf: FileHeader>(
    versions: &object::read::elf::VersionTable<'_, Elf>,
    endian: Elf::Endian,
    index: SymbolIndex,
) -> Option<(String, Option<String>)> {
    let version = versions.version(versions.version_index(endian, index).index()).ok()??;
    Some((text(version.name()), version.file().map(text)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(symbols: &[&str]) -> BTreeSet<String> {
        symbols.iter().map(|symbol| (*symbol).to_owned()).collect()
    }

    #[test]
    fn a_symbol_is_removed_when_nobody_would_find_it() {
        type Case<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (&["a", "b"], &["a", "b", "c"], &[]),
            (&["a", "b"], &["b"], &["a"]),
            (&["a"], &["a@V1"], &[]),
            (&["a@V1"], &["a"], &[]),
            (&["a@V1"], &["a@V2"], &["a@V1"]),
            (&["a@V1", "a@V2"], &["a@V2"], &["a@V1"]),
        ];
        for (old, new, expected) in cases {
            assert_eq!(removed(&set(old), &set(new)), expected, "{old:?} -> {new:?}");
        }
    }
}
