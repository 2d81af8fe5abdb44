//! Whether the programs and libraries of an image can be loaded in it, and only as they should.

use std::collections::BTreeMap;

use crate::elf::{Elf, Kind as Type, Stack};
use crate::files::{Files, Kind};
use crate::report::{Checks, Complaint, Finding};
use crate::{Error, Image, elf};

use super::MAXIMUM_FILE;
use super::leftovers::Leftovers;

const LIBRARY_FOLDERS: [&str; 5] = ["lib", "usr/lib", "usr/local/lib", "lib64", "usr/lib64"];
/// What musl's loader answers itself for old programs: names that begin so need no file.
const MUSL_OWN: [&str; 8] = ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.", "libcrypt."];
/// Folders that only builds see.
pub(super) const BUILD_FOLDERS: [&str; 4] = ["/home/build", "/sysroot", "/opt/minimill", "/var/cache/melange"];

/// All ELF files, and what is wrong with those that can't be read.
#[derive(Default)]
pub(super) struct Programs {
    read: BTreeMap<String, Elf>,
    unreadable: Vec<Complaint>,
}

impl Programs {
    /// Reads every file of the image; what is not about programs goes to `leftovers`.
    pub(super) fn of(image: &Image, leftovers: &mut Leftovers) -> Result<Self, Error> {
        let mut programs = Programs::default();
        for (path, entry) in image.files().iter() {
            if !matches!(entry.kind, Kind::Regular(_)) {
                continue;
            }
            let Some(bytes) = image.read(path, MAXIMUM_FILE)? else { continue };
            leftovers.look(path, &bytes);
            if elf::is_elf(&bytes) {
                match elf::read(&bytes) {
                    Ok(elf) => drop(programs.read.insert(path.to_owned(), elf)),
                    Err(reason) => {
                        let message = format!("`/{path}` can't be read: {reason}");
                        programs.unreadable.push(Complaint::at(path, message));
                    }
                }
            }
        }
        Ok(programs)
    }

    /// Adds a check of each kind.
    pub(super) fn check(&self, image: &Image, checks: &mut Checks) {
        let files = image.files();
        let architecture = image.configuration().architecture().to_string();
        let loader = ["lib", "usr/lib"].iter().any(|folder| {
            let prefix = format!("{folder}/ld-musl-");
            files.iter().any(|(path, _)| path.starts_with(&prefix))
        });
        checks.add(
            "integrity/architecture",
            self.each("are for the image's architecture", |_, elf| {
                wrong_machine(&architecture, elf).into_iter().collect()
            }),
        );
        checks.add(
            "integrity/libraries",
            self.each("have all that they need", |path, elf| missing(files, loader, path, elf)),
        );
        checks.add("integrity/host-paths", self.each("name no folder of their build", |_, elf| build_folders(elf)));
        checks.add(
            "integrity/search-paths",
            self.each("look for libraries only in folders of the image", |path, elf| {
                elf.search_paths.iter().filter_map(|asked| stray(files, path, asked)).collect()
            }),
        );
        checks.add("integrity/relro", self.each("are read-only once they are relocated", |_, elf| relro(elf)));
        checks.add("integrity/nx", self.each("have no memory that can be written to and executed", |_, elf| nx(elf)));
        checks.add("integrity/pie", self.each("can be loaded at any address", |_, elf| pie(elf)));
    }

    /// Holds every file against a rule. What is wrong follows its path in the message.
    fn each(&self, passed: &str, rule: impl Fn(&str, &Elf) -> Vec<String>) -> Finding {
        if self.read.is_empty() && self.unreadable.is_empty() {
            return Finding::not_applicable("the image has no ELF file");
        }
        let found = self.read.iter().flat_map(|(path, elf)| {
            let complaints = rule(path, elf).into_iter();
            complaints.map(move |complaint| Complaint::at(path, format!("`/{path}` {complaint}")))
        });
        let complaints: Vec<Complaint> = self.unreadable.iter().cloned().chain(found).collect();
        Finding::listing(complaints, format!("all {} ELF files {passed}", self.read.len()))
    }
}

fn wrong_machine(architecture: &str, elf: &Elf) -> Option<String> {
    let expected = match architecture {
        "amd64" => object::elf::EM_X86_64.0,
        "arm64" => object::elf::EM_AARCH64.0,
        other => return Some(format!("can't be judged: which machine `{other}` is, isn't known here")),
    };
    if elf.machine == expected && elf.wide {
        return None;
    }
    let machine = match elf.machine {
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        3 => "i386".to_owned(),
        40 => "arm".to_owned(),
        243 => "riscv".to_owned(),
        other => format!("the machine {other}"),
    };
    let bits = if elf.wide { 64 } else { 32 };
    Some(format!(
        "is for {machine} ({bits} bits), the image for {architecture}; build its package for the image's architecture"
    ))
}

fn missing(files: &Files, loader: bool, path: &str, elf: &Elf) -> Vec<String> {
    let lacks = |what: String| format!("needs {what}, which is not in the image; add the package that has it");
    let interpreter = elf.interpreter.iter().filter(|interpreter| files.follow(interpreter).is_none());
    let interpreter = interpreter.map(|interpreter| lacks(format!("the interpreter `{interpreter}`")));
    let needed = elf.needed.iter().filter(|needed| {
        let own = loader && MUSL_OWN.iter().any(|prefix| needed.starts_with(prefix));
        !own && !is_found(files, path, elf, needed)
    });
    interpreter.chain(needed.map(|needed| lacks(format!("`{needed}`")))).collect()
}

fn is_found(files: &Files, path: &str, elf: &Elf, needed: &str) -> bool {
    if needed.contains('/') {
        return files.follow(needed).is_some();
    }
    let own = elf.search_paths.iter().map(|asked| from_origin(asked, path));
    own.chain(LIBRARY_FOLDERS.map(str::to_owned)).any(|folder| files.follow(&format!("{folder}/{needed}")).is_some())
}

/// A search path with the file's own folder in place of `$ORIGIN`.
fn from_origin(asked: &str, path: &str) -> String {
    let origin = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("/{folder}"));
    asked.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", &origin)
}

fn build_folders(elf: &Elf) -> Vec<String> {
    let asked = elf.search_paths.iter().chain(&elf.interpreter).chain(&elf.needed);
    asked
        .filter(|asked| BUILD_FOLDERS.iter().any(|folder| asked.starts_with(folder)))
        .map(|asked| format!("looks for libraries in `{asked}`, which only its build had; link it without that path"))
        .collect()
}

/// Why a search path must not be: whoever can make or change that folder, gives the program code.
fn stray(files: &Files, path: &str, asked: &str) -> Option<String> {
    const REMEDY: &str = "remove it with `patchelf --remove-rpath`, or link without `-rpath`";
    let folder = from_origin(asked, path);
    if !folder.starts_with('/') {
        return Some(format!("looks for libraries in `{asked}`, which depends on the working folder; {REMEDY}"));
    }
    let climbs = folder.split('/').try_fold(0_i32, |depth, part| match part {
        "" | "." => Some(depth),
        ".." if depth == 0 => None,
        ".." => Some(depth - 1),
        _ => Some(depth + 1),
    });
    if climbs.is_none() {
        return Some(format!("looks for libraries in `{asked}`, which leads out of the image; {REMEDY}"));
    }
    let place = files.follow(&folder).filter(|place| place.is_empty() || files.get(place).is_some());
    let Some(place) = place else {
        return Some(format!("looks for libraries in `{asked}`, which is not in the image; {REMEDY}"));
    };
    let entry = files.get(&place)?;
    let open = entry.mode & 0o002 != 0 || entry.uid != 0;
    open.then(|| format!("looks for libraries in `{asked}`, which not only root can write to; {REMEDY}"))
}

fn relro(elf: &Elf) -> Vec<String> {
    if elf.kind == Type::Other || !elf.dynamic || elf.relro && elf.bind_now {
        return Vec::new();
    }
    let lacks = match (elf.relro, elf.bind_now) {
        (false, false) => "has neither a read-only part after relocation nor symbols that are bound before it starts",
        (false, true) => "has no part that is read-only after relocation (`PT_GNU_RELRO`)",
        _ => "binds symbols while it runs (no `BIND_NOW`), so that their table stays writable",
    };
    vec![format!("{lacks}; link it with `-Wl,-z,relro,-z,now`")]
}

fn nx(elf: &Elf) -> Vec<String> {
    if elf.kind == Type::Other {
        return Vec::new();
    }
    const REMEDY: &str = "link it with `-Wl,-z,noexecstack`, and see that assembly has a `.note.GNU-stack` section";
    let mut complaints = Vec::new();
    match elf.stack {
        Stack::Protected => {}
        Stack::Executable => complaints.push(format!("wants an executable stack; {REMEDY}")),
        Stack::Unstated => complaints.push(format!("does not say that its stack is not executable; {REMEDY}")),
    }
    if elf.writable_code {
        complaints.push("has a segment that can be written to and executed; link it without `-N`".to_owned());
    }
    complaints
}

fn pie(elf: &Elf) -> Vec<String> {
    let mut complaints = Vec::new();
    if elf.kind == Type::Fixed {
        complaints
            .push("is loaded at one address (no PIE); compile it with `-fPIE` and link it with `-pie`".to_owned());
    }
    if elf.text_relocations {
        complaints.push("has relocations in its code; compile it with `-fPIC`".to_owned());
    }
    complaints
}
