//! Whether an image agrees with itself.

mod programs;

use std::collections::BTreeSet;

use crate::files::{Files, Kind};
use crate::report::{Checks, Finding};
use crate::{Error, Image, Suite, SuiteReport};
use programs::Programs;

const DATABASES: [&str; 2] = ["usr/lib/apk/db/installed", "lib/apk/db/installed"];
const MAXIMUM_FILE: u64 = 1 << 30;

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
/// - `architecture`: every ELF file is for the image's architecture;
/// - `libraries`: interpreter and libraries of every ELF file are in the image, by the loader's
///   rules;
/// - `host-paths`: no ELF file looks for libraries where only builds have them;
/// - `search-paths`: what `RPATH` and `RUNPATH` name is a folder of the image that only root
///   writes to;
/// - `relro`: what is relocated is read-only afterwards, all symbols being bound before the start;
/// - `nx`: no ELF file has an executable stack, or memory that can be written to and executed;
/// - `pie`: every program can be loaded at any address, without relocations in its code;
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

    Programs::of(image)?.check(image, &mut checks);
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
