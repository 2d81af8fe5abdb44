//! Whether an image agrees with itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::elf::{self, Elf};
use crate::files::{Files, Kind};
use crate::report::{Checks, Finding};
use crate::{Error, Image, Suite, SuiteReport};

const DATABASES: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];
const MAXIMUM_FILE: u64 = 1 << 30;
const LIBRARY_FOLDERS: [&str; 5] = ["lib", "usr/lib", "usr/local/lib", "lib64", "usr/lib64"];
/// What musl's loader answers itself for old programs: names that begin so need no file.
const MUSL_OWN: [&str; 8] = ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.", "libcrypt."];
/// Folders that only builds see.
const BUILD_FOLDERS: [&str; 4] = ["/home/build", "/sysroot", "/opt/minimill", "/var/cache/melange"];

/// What is known of an image besides its own bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Integrity<'a> {
    /// Paths that composition made and no package brings (`etc/passwd`, `lib/apk/db/installed`),
    /// relative to the root. Without it the ownership of files is not checked.
    pub composed: Option<&'a BTreeSet<String>>,
    /// The image's SPDX document. Without it its completeness is not checked.
    pub sbom: Option<&'a [u8]>,
    /// Whether root may be the image's user.
    pub root_allowed: bool,
}

/// Looks at an image without running it. Checks, each `integrity/` and:
///
/// - `owners`: every file is listed by a package of the apk database or made by composition, and
///   every listed file is there;
/// - `libraries`: interpreter and libraries of every ELF file are in the image, by the loader's
///   rules, for the image's architecture;
/// - `host-paths`: no ELF file looks for libraries where only builds have them;
/// - `set-id`: no file has a setuid or setgid bit;
/// - `user`: the image's user is not root;
/// - `sbom`: the SBOM names every package of the apk database with its version.
///
/// # Errors
/// When the unpacked image can't be read.
pub fn integrity(image: &Image, known: &Integrity<'_>) -> Result<SuiteReport, Error> {
    let mut checks = Checks::new(Suite::Integrity);
    let packages = packages(image)?;
    let no_packages = |reason: &String| Finding::failed(reason.clone(), Vec::new());
    let finding = match (&packages, known.composed) {
        (Err(reason), _) => no_packages(reason),
        (_, None) => Finding::not_run("what composition made is not known"),
        (Ok(packages), Some(composed)) => owners(image.files(), packages, composed),
    };
    checks.add("integrity/owners", finding);

    let (programs, unreadable) = programs(image)?;
    checks.add("integrity/libraries", libraries(image, &programs, unreadable));
    checks.add("integrity/host-paths", host_paths(&programs));
    checks.add("integrity/set-id", set_id(image.files()));
    checks.add("integrity/user", if known.root_allowed { root_allowed() } else { user(image) });
    let finding = match (&packages, known.sbom) {
        (Err(reason), _) => no_packages(reason),
        (_, None) => Finding::not_run("the image's SBOM was not given"),
        (Ok(packages), Some(sbom)) => sbom_names(packages, sbom),
    };
    checks.add("integrity/sbom", finding);
    Ok(checks.finish())
}

/// The packages of the image's apk database, or why there are none.
fn packages(image: &Image) -> Result<Result<Vec<apk::InstalledPackage>, String>, Error> {
    for path in DATABASES {
        if let Some(bytes) = image.read(path, MAXIMUM_FILE)? {
            let text = String::from_utf8_lossy(&bytes);
            return Ok(apk::parse_installed(path, &text).map_err(|error| error.to_string()));
        }
    }
    Ok(Err(format!("the image has no apk database at `/{}`", DATABASES.join("` or `/"))))
}

fn owners(files: &Files, packages: &[apk::InstalledPackage], composed: &BTreeSet<String>) -> Finding {
    let mut owned = BTreeSet::new();
    let mut missing = Vec::new();
    for package in packages {
        for file in &package.files {
            match files.place(&file.path).filter(|place| files.get(place).is_some()) {
                Some(place) => drop(owned.insert(place)),
                None => missing.push(format!("{} ({})", file.path, package.entry.information.name)),
            }
        }
    }
    let strangers: Vec<_> = files
        .iter()
        .filter(|(_, entry)| entry.kind != Kind::Directory)
        .map(|(path, _)| path)
        .filter(|path| !owned.contains(*path) && !composed.contains(*path))
        .map(str::to_owned)
        .collect();
    let mut complaints = Vec::new();
    if !strangers.is_empty() {
        complaints.push(format!("{} files belong to no package, first `/{}`", strangers.len(), first(&strangers)));
    }
    if !missing.is_empty() {
        complaints.push(format!("{} paths of packages are not there, first `/{}`", missing.len(), first(&missing)));
    }
    let mut finding =
        Finding::of(complaints, format!("every file is of one of {} packages or of the composition", packages.len()));
    finding.evidence = strangers.into_iter().chain(missing).collect();
    finding
}

fn first(items: &[String]) -> &str {
    items.first().map_or("", String::as_str)
}

/// All ELF files, and what is wrong with those that can't be read.
fn programs(image: &Image) -> Result<(BTreeMap<String, Elf>, Vec<String>), Error> {
    let (mut programs, mut unreadable) = (BTreeMap::new(), Vec::new());
    for (path, entry) in image.files().iter() {
        if !matches!(entry.kind, Kind::Regular(_)) {
            continue;
        }
        let Some(bytes) = image.read(path, MAXIMUM_FILE)? else { continue };
        if elf::is_elf(&bytes) {
            match elf::read(&bytes) {
                Ok(elf) => drop(programs.insert(path.to_owned(), elf)),
                Err(reason) => unreadable.push(format!("`/{path}`: {reason}")),
            }
        }
    }
    Ok((programs, unreadable))
}

fn libraries(image: &Image, programs: &BTreeMap<String, Elf>, unreadable: Vec<String>) -> Finding {
    if programs.is_empty() && unreadable.is_empty() {
        return Finding::not_applicable("the image has no ELF file");
    }
    let files = image.files();
    let machine = match image.configuration().architecture().to_string().as_str() {
        "amd64" => "X86_64".to_owned(),
        "arm64" => "Aarch64".to_owned(),
        other => other.to_owned(),
    };
    let loader = ["lib", "usr/lib"].iter().any(|folder| {
        let prefix = format!("{folder}/ld-musl-");
        files.iter().any(|(path, _)| path.starts_with(&prefix))
    });
    let mut complaints = unreadable;
    for (path, elf) in programs {
        if elf.machine != machine {
            complaints.push(format!("`/{path}` is for {}, the image for {machine}", elf.machine));
        }
        if let Some(interpreter) = &elf.interpreter
            && files.follow(interpreter).is_none()
        {
            complaints.push(format!("`/{path}` needs the interpreter `{interpreter}`, which is not in the image"));
        }
        for needed in &elf.needed {
            let own = loader && MUSL_OWN.iter().any(|prefix| needed.starts_with(prefix));
            if !own && !is_found(files, path, elf, needed) {
                complaints.push(format!("`/{path}` needs `{needed}`, which is not in the image"));
            }
        }
    }
    let mut finding = Finding::of(complaints.clone(), format!("{} ELF files have all that they need", programs.len()));
    finding.evidence = if complaints.len() > 1 { complaints } else { Vec::new() };
    finding
}

fn is_found(files: &Files, path: &str, elf: &Elf, needed: &str) -> bool {
    if needed.contains('/') {
        return files.follow(needed).is_some();
    }
    let origin = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let own = elf.search_paths.iter().map(|path| path.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin));
    own.chain(LIBRARY_FOLDERS.map(str::to_owned)).any(|folder| files.follow(&format!("{folder}/{needed}")).is_some())
}

fn host_paths(programs: &BTreeMap<String, Elf>) -> Finding {
    let mut complaints = Vec::new();
    for (path, elf) in programs {
        let asked = elf.search_paths.iter().chain(&elf.interpreter).chain(&elf.needed);
        for asked in asked.filter(|asked| BUILD_FOLDERS.iter().any(|folder| asked.starts_with(folder))) {
            complaints.push(format!("`/{path}` looks for libraries in `{asked}`, which only its build had"));
        }
    }
    Finding::of(complaints, format!("none of {} ELF files names a folder of its build", programs.len()))
}

fn set_id(files: &Files) -> Finding {
    let complaints = files
        .iter()
        .filter(|(_, entry)| matches!(entry.kind, Kind::Regular(_)) && entry.mode & 0o6000 != 0)
        .map(|(path, entry)| format!("`/{path}` has the mode {:04o}", entry.mode))
        .collect();
    Finding::of(complaints, "no file has a setuid or setgid bit")
}

fn user(image: &Image) -> Finding {
    let user = image.configuration().config().as_ref().and_then(|config| config.user().clone()).unwrap_or_default();
    match user.split(':').next().unwrap_or_default() {
        "" | "root" => Finding::failed("the image runs as root; set `accounts.run-as`", Vec::new()),
        id if id.parse::<u64>() == Ok(0) => {
            Finding::failed("the image runs as user 0; set `accounts.run-as`", Vec::new())
        }
        _ => Finding::passed(format!("the image runs as user `{user}`")),
    }
}

fn root_allowed() -> Finding {
    Finding::not_applicable("the image's definition allows root")
}

fn sbom_names(packages: &[apk::InstalledPackage], sbom: &[u8]) -> Finding {
    #[derive(serde::Deserialize)]
    struct Document {
        packages: Vec<Package>,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
        #[serde(rename = "versionInfo", default)]
        version: String,
    }
    let document: Document = match serde_json::from_slice(sbom) {
        Ok(document) => document,
        Err(error) => return Finding::failed(format!("the SBOM is no SPDX document: {error}"), Vec::new()),
    };
    let named: BTreeSet<_> =
        document.packages.iter().map(|package| (package.name.as_str(), package.version.as_str())).collect();
    let missing: Vec<_> = packages
        .iter()
        .map(|package| &package.entry.information)
        .filter(|package| !named.contains(&(package.name.as_str(), package.version.as_str())))
        .map(|package| format!("{}={}", package.name, package.version))
        .collect();
    if missing.is_empty() {
        Finding::passed(format!("the SBOM names all {} packages", packages.len()))
    } else {
        Finding::failed(format!("the SBOM lacks {}", missing.join(", ")), missing)
    }
}
