//! Automatic dependencies: what a built tree needs and provides, found as melange's `pkg/sca` does.

mod elf;
mod pkgconfig;
mod shebang;

pub use elf::{Dynamic, read_dynamic};

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::tree::{self, resolve};
use crate::{Error, Result};

const LIBRARY_FOLDERS: [&str; 4] = ["lib", "usr/lib", "lib64", "usr/lib64"];
const COMMAND_FOLDERS: [&str; 4] = ["bin", "sbin", "usr/bin", "usr/sbin"];
const PKGCONFIG_FOLDERS: [&str; 5] = [
    "usr/local/lib/pkgconfig",
    "usr/local/share/pkgconfig",
    "usr/lib/pkgconfig",
    "usr/lib64/pkgconfig",
    "usr/share/pkgconfig",
];
/// Bytes of a `.pc` file or a linker configuration that is read.
const TEXT_BYTES: u64 = 1 << 20;

/// What not to look for: a package's `options` in its definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// `no-provides`: nothing found is provided.
    pub no_provides: bool,
    /// `no-depends`: nothing found is needed.
    pub no_depends: bool,
    /// `no-commands`: no `cmd:` is provided or needed.
    pub no_commands: bool,
    /// `no-versioned-shlib-deps`: no `so-ver:` is needed.
    pub no_versioned_shlib_deps: bool,
}

/// One package's tree, and what is known around it.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// The package's name.
    pub name: &'a str,
    /// Its version with `-rN`: that of the commands and `.pc` files it provides.
    pub version: &'a str,
    /// Its tree.
    pub root: &'a Path,
    /// The trees of the other packages of the same build: a `-dev` package's `libz.so` link leads
    /// to the library in one of them.
    pub siblings: &'a [&'a Path],
    /// The `runtime` dependencies of its definition: where they name a Python or Ruby, none is
    /// added.
    pub declared_depends: &'a [String],
    /// By `SONAME`, the version of the package that provides it as `so-ver:` in the build root.
    /// A library that is listed here is needed as `so-ver:NAME>=VERSION` too.
    pub library_versions: &'a BTreeMap<String, String>,
    /// What not to look for.
    pub options: ScanOptions,
}

/// What a scan found; each list sorted, nothing twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What the files need: `so:libz.so.1`, `cmd:perl`, `pc:zlib`.
    pub depends: Vec<String>,
    /// What they provide: `so:libz.so.1=1`, `so-ver:libz.so.1=1.3-r0`, `cmd:redis-cli=8-r0`.
    pub provides: Vec<String>,
    /// Libraries and `.pc` files outside the folders that are searched: they satisfy the package's
    /// own needs and nobody else's.
    pub vendored: Vec<String>,
    /// What couldn't be made sense of, for the build log: it neither provides nor needs anything.
    pub warnings: Vec<String>,
}

impl Scan<'_> {
    /// Scans the tree.
    ///
    /// - An ELF file needs its program interpreter (`ld-musl-*` as `libc.musl-*`, the name under
    ///   which musl's package provides it) and each `DT_NEEDED` that has `.so.` in it.
    /// - An ELF file without interpreter, or named like a library, provides each `DT_SONAME` as
    ///   `so:NAME=LIBVER` where `LIBVER` is what follows `.so.` if that is a number, else 0, and as
    ///   `so-ver:NAME=VERSION`; it does so in `lib`, `usr/lib`, `lib64`, `usr/lib64` and folders
    ///   named in an `etc/ld.so.conf.d/*.conf` of the build, and is vendored elsewhere.
    /// - A link with `.so` in its path needs the `SONAME` of the library of that name that a package
    ///   of the build has.
    /// - An executable regular file in `bin`, `sbin`, `usr/bin`, `usr/sbin` provides `cmd:NAME`.
    ///   Links don't.
    /// - A `.pc` file provides `pc:NAME` at the package's version and needs what its `Requires`,
    ///   `Requires.private` and `Requires.internal` name.
    /// - A script in `usr/bin`, `usr/local/bin` or `usr/local/sbin` needs its interpreter's `cmd:`,
    ///   but for `sh`, `awk`, `luajit`, `python` and `python3`.
    /// - `pythonX.Y/site-packages` needs `python-X.Y-base`, `ruby/gems/X.Y.Z/gems` needs `ruby-X.Y`,
    ///   and a package named `*-doc` needs `man-db` or `texinfo` for its pages.
    ///
    /// melange's rules for Go FIPS programs, kernels and NVIDIA's libraries are not followed.
    pub fn run(&self) -> Result<Found> {
        let mut found = Found::default();
        let files = tree::walk(self.root)?;
        let mut folders: Vec<String> = LIBRARY_FOLDERS.map(str::to_owned).into();
        folders.extend(self.linker_folders()?);
        for file in &files {
            self.libraries(file, &folders, &mut found)?;
            self.command(file, &mut found);
            self.pkgconfig(file, &mut found)?;
            shebang::scan(file, &mut found)?;
            self.documentation(file, &mut found);
        }
        self.languages(&files, &mut found);
        for list in [&mut found.depends, &mut found.provides, &mut found.vendored, &mut found.warnings] {
            list.sort_unstable();
            list.dedup();
        }
        let ScanOptions { no_provides, no_depends, no_commands, .. } = self.options;
        found.provides.retain(|name| !(no_provides || no_commands && name.starts_with("cmd:")));
        found.depends.retain(|name| !(no_depends || no_commands && name.starts_with("cmd:")));
        Ok(found)
    }

    fn trees(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.root).chain(self.siblings.iter().copied())
    }

    /// The absolute folders that `etc/ld.so.conf.d/*.conf` of any tree of the build name.
    fn linker_folders(&self) -> Result<Vec<String>> {
        let mut folders = Vec::new();
        for root in self.trees() {
            let configuration = root.join("etc/ld.so.conf.d");
            if !configuration.is_dir() {
                continue;
            }
            for file in tree::walk(&configuration)? {
                if file.metadata.is_file() && file.path.ends_with(".conf") {
                    let lines = read_text(&file.absolute)?;
                    folders.extend(
                        lines.lines().filter_map(|line| {
                            Some(line.trim_end().strip_prefix('/')?.trim_end_matches('/').to_owned())
                        }),
                    );
                }
            }
        }
        Ok(folders)
    }

    fn libraries(&self, file: &tree::TreeEntry, folders: &[String], found: &mut Found) -> Result<()> {
        let link = file.metadata.is_symlink();
        if link && file.path.contains(".so") {
            for soname in self.link_sonames(file, folders)? {
                self.need_library(&soname, found);
            }
        }
        if !link && !file.metadata.is_file() {
            return Ok(());
        }
        let Some(absolute) = resolve(self.root, &file.path) else {
            return Ok(());
        };
        let Some(object) = elf::read(&absolute)? else {
            return Ok(());
        };
        if let Some(interpreter) = &object.interpreter {
            let name = interpreter.rsplit_once('/').map_or(&**interpreter, |(_, name)| name);
            let name = name.strip_prefix("ld-musl").map_or_else(|| name.to_owned(), |rest| format!("libc.musl{rest}"));
            found.depends.push(format!("so:{name}"));
        }
        for library in object.needed.iter().filter(|library| library.contains(".so.")) {
            self.need_library(library, found);
        }
        let name = file.name();
        if object.interpreter.is_none() || name.contains(".so.") || name.ends_with(".so") {
            for soname in &object.sonames {
                let provides =
                    [format!("so:{soname}={}", library_version(soname)), format!("so-ver:{soname}={}", self.version)];
                let searched = folders.iter().any(|folder| folder == file.folder());
                if searched { found.provides.extend(provides) } else { found.vendored.extend(provides) }
            }
        }
        Ok(())
    }

    fn need_library(&self, soname: &str, found: &mut Found) {
        found.depends.push(format!("so:{soname}"));
        if let Some(version) = self.library_versions.get(soname)
            && !self.options.no_versioned_shlib_deps
        {
            found.depends.push(format!("so-ver:{soname}>={version}"));
        }
    }

    /// The `SONAME`s of the first library of the build that is named as the link's target.
    fn link_sonames(&self, link: &tree::TreeEntry, folders: &[String]) -> Result<Vec<String>> {
        let target = std::fs::read_link(&link.absolute).map_err(Error::at(&link.absolute))?;
        let Some(name) = target.file_name().and_then(|name| name.to_str()) else {
            return Ok(Vec::new());
        };
        for root in self.trees() {
            for folder in folders {
                if let Some(library) = resolve(root, &format!("{folder}/{name}")) {
                    return Ok(elf::read(&library)?.map(|object| object.sonames).unwrap_or_default());
                }
            }
        }
        Ok(Vec::new())
    }

    fn command(&self, file: &tree::TreeEntry, found: &mut Found) {
        let executable = file.metadata.is_file() && file.metadata.permissions().mode() & 0o555 == 0o555;
        if executable && COMMAND_FOLDERS.contains(&file.folder()) {
            found.provides.push(format!("cmd:{}={}", file.name(), self.version));
        }
    }

    fn pkgconfig(&self, file: &tree::TreeEntry, found: &mut Found) -> Result<()> {
        let Some(name) = file.name().strip_suffix(".pc").filter(|_| file.metadata.is_file()) else {
            return Ok(());
        };
        let provided = format!("pc:{name}={}", self.version);
        if !PKGCONFIG_FOLDERS.contains(&file.folder()) {
            found.vendored.push(provided);
            return Ok(());
        }
        found.provides.push(provided);
        let text = read_text(&file.absolute)?;
        found.depends.extend(pkgconfig::required(&text).into_iter().map(|name| format!("pc:{name}")));
        Ok(())
    }

    fn documentation(&self, file: &tree::TreeEntry, found: &mut Found) {
        if self.name.ends_with("-doc") {
            match file.folder() {
                "usr/share/man" => found.depends.push("man-db".to_owned()),
                "usr/share/info" => found.depends.push("texinfo".to_owned()),
                _ => {}
            }
        }
    }

    fn languages(&self, files: &[tree::TreeEntry], found: &mut Found) {
        let declared = |prefix: &str| self.declared_depends.iter().any(|name| name.starts_with(prefix));
        let folders = || files.iter().filter(|file| file.metadata.is_dir());
        let mut python = folders().filter_map(|folder| {
            let parent = folder.path.strip_suffix("/site-packages")?;
            parent.rsplit('/').next()?.strip_prefix("python").filter(|version| !version.is_empty())
        });
        if let Some(version) = python.next_back()
            && !declared("python")
        {
            found.depends.push(format!("python-{version}-base"));
        }
        let mut ruby = folders().filter_map(|folder| {
            let version = folder.path.strip_prefix("usr/lib/ruby/gems/")?.strip_suffix("/gems")?;
            let (version, patch) = version.rsplit_once('.')?;
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let (major, minor) = version.split_once('.')?;
            (digits(major) && digits(minor) && digits(patch)).then_some(version)
        });
        if let Some(version) = ruby.next()
            && !declared("ruby-")
            && !self.declared_depends.iter().any(|name| name == "ruby")
        {
            found.depends.push(format!("ruby-{version}"));
        }
    }
}

impl Found {
    /// Adds what was found to what a definition declares and returns the package's final
    /// `depend` and `provides`, sorted, nothing twice.
    ///
    /// A need that the package itself satisfies is dropped: a found one also where a vendored
    /// library satisfies it, a declared one only where the package really provides it.
    pub fn complete(&self, declared_depends: &[String], declared_provides: &[String]) -> (Vec<String>, Vec<String>) {
        let mut provides: Vec<String> = declared_provides.iter().chain(&self.provides).cloned().collect();
        provides.sort_unstable();
        provides.dedup();
        let satisfied = |need: &str, by: &[String]| {
            let need = need.split_once(">=").filter(|_| need.starts_with("so-ver:")).map_or(need, |(name, _)| name);
            by.iter().any(|provided| provided.split_once('=').map_or(&**provided, |(name, _)| name) == need)
        };
        let found = self.depends.iter().filter(|need| !satisfied(need, &self.vendored));
        let mut depends: Vec<String> =
            declared_depends.iter().chain(found).filter(|need| !satisfied(need, &provides)).cloned().collect();
        depends.sort_unstable();
        depends.dedup();
        (depends, provides)
    }
}

/// What follows `.so.` where it is digits and dots, else 0.
fn library_version(soname: &str) -> &str {
    let version = soname.split(".so.").nth(1).unwrap_or("0");
    if version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && !version.is_empty() { version } else { "0" }
}

fn read_text(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(Error::at(path))?;
    file.take(TEXT_BYTES + 1).read_to_end(&mut bytes).map_err(Error::at(path))?;
    if bytes.len() as u64 > TEXT_BYTES {
        return Err(Error::limit(&path.display().to_string(), "the text in bytes", TEXT_BYTES));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
