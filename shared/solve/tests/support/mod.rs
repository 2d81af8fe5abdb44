//! What the tests of this crate share: apk index text, and a checker of solutions that knows nothing
//! of the solver.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing)]

use std::path::PathBuf;

use apk::{Dependency, IndexEntry, IndexRecord, PackageInformation, Requirement, Version};

/// The corpus folder.
pub fn corpus() -> PathBuf {
    std::env::var_os("MINIMILL_CORPUS")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus").into(), PathBuf::from)
}

/// Reads the text of an index. The solver cases repeat letters and have checksums of any form, which
/// a real index must not.
pub fn read_index(text: &str) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for record in text.split("\n\n") {
        let mut entry = IndexEntry::default();
        let information = &mut entry.information;
        for line in record.lines() {
            let Some((letter, value)) = line.split_once(':') else {
                continue;
            };
            let words = || value.split_whitespace().map(str::to_owned);
            match letter {
                "P" => information.name = value.to_owned(),
                "V" => information.version = value.to_owned(),
                "A" => information.architecture = value.to_owned(),
                "S" => entry.size = value.parse().unwrap(),
                "I" => information.installed_size = value.parse().unwrap(),
                "C" => entry.checksum = value.to_owned(),
                "k" => information.provider_priority = value.parse().unwrap(),
                "D" => information.depends.extend(words()),
                "p" => information.provides.extend(words()),
                "i" => information.install_if.extend(words()),
                _ => {}
            }
        }
        if !entry.information.name.is_empty() {
            entries.push(entry);
        }
    }
    entries
}

/// A package for a universe made in a test: `name`, version, depends, provides, install_if.
pub fn package(name: &str, version: &str, [depends, provides, install_if]: [&[&str]; 3]) -> IndexEntry {
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    IndexEntry {
        information: PackageInformation {
            name: name.to_owned(),
            version: version.to_owned(),
            installed_size: 1,
            depends: texts(depends),
            provides: texts(provides),
            install_if: texts(install_if),
            ..PackageInformation::default()
        },
        ..IndexEntry::default()
    }
}

/// The entries as the solver takes them.
pub fn records(entries: &[IndexEntry]) -> Vec<IndexRecord<'_>> {
    entries.iter().map(IndexRecord::from).collect()
}

/// The entry that the solver chose.
pub fn entry_of<'e>(entries: &'e [IndexEntry], selected: &solve::Selected<'_>) -> &'e IndexEntry {
    &entries[selected.place.unwrap().position]
}

/// In which versions (`None`: without one) a package has or provides `name`.
fn provisions(entry: &IndexEntry, name: &str) -> Vec<Option<Version>> {
    let information = &entry.information;
    let mut provisions = Vec::new();
    if information.name == name {
        provisions.push(information.version.parse().ok());
    }
    for provided in &information.provides {
        let Ok(provided) = provided.parse::<Dependency>() else {
            continue;
        };
        if provided.name == name {
            provisions.push(match provided.requirement {
                Requirement::Version(_, version) => Some(version),
                Requirement::Any | Requirement::Checksum(_) => None,
            });
        }
    }
    provisions
}

fn holds(dependency: &Dependency, asker: Option<&IndexEntry>, chosen: &[&IndexEntry]) -> bool {
    let mut provided = chosen
        .iter()
        .filter(|entry| !(dependency.conflict && asker.is_some_and(|asker| std::ptr::eq(asker, **entry))))
        .flat_map(|entry| provisions(entry, &dependency.name));
    if dependency.conflict {
        provided.all(|version| dependency.satisfied_by(version.as_ref()))
    } else {
        provided.any(|version| dependency.satisfied_by(version.as_ref()))
    }
}

/// What is wrong with `chosen` as an answer to `wants`: unmet or broken constraints, and names that
/// two packages provide.
pub fn violations(wants: &[Dependency], chosen: &[&IndexEntry]) -> Vec<String> {
    let mut violations = Vec::new();
    for want in wants {
        if !holds(want, None, chosen) {
            violations.push(format!("the want `{want}` does not hold"));
        }
    }
    let mut provided: Vec<(String, bool, usize)> = Vec::new();
    for (number, entry) in chosen.iter().enumerate() {
        let information = &entry.information;
        for text in &information.depends {
            let dependency: Dependency = text.parse().unwrap();
            if !holds(&dependency, Some(entry), chosen) {
                violations.push(format!("`{text}` of `{}` does not hold", information.name));
            }
        }
        provided.push((information.name.clone(), true, number));
        for text in &information.provides {
            let Ok(provision) = text.parse::<Dependency>() else { continue };
            let versioned = provision.requirement != Requirement::Any;
            provided.push((provision.name, versioned, number));
        }
    }
    provided.sort();
    for (position, (name, versioned, owner)) in provided.iter().enumerate() {
        for (other_name, other_versioned, other) in &provided[position + 1..] {
            if other_name != name {
                break;
            }
            if other != owner && (*versioned || *other_versioned) {
                violations.push(format!(
                    "`{name}` comes from both `{}` and `{}`",
                    chosen[*owner].information.name, chosen[*other].information.name
                ));
            }
        }
    }
    violations
}
