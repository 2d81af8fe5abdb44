//! Whether an image agrees with itself.

mod document;
mod leftovers;
mod programs;
mod sbom;

use std::collections::BTreeSet;

use crate::database::Database;
use crate::files::{Files, Kind};
use crate::report::{Checks, Complaint, Finding};
use crate::{Error, Image, Suite, SuiteReport};
use leftovers::Leftovers;
use programs::Programs;
use sbom::Format;

const MAXIMUM_FILE: u64 = 1 << 30;

/// What is known of an image besides its own bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Integrity<'a> {
    /// Paths that composition made and no package brings (`etc/passwd`, `lib/apk/db/installed`),
    /// relative to the root. Without it the ownership of files is not checked.
    pub composed: Option<&'a BTreeSet<String>>,
    /// The image's SPDX document. Without it its completeness is not checked.
    pub sbom: Option<&'a [u8]>,
    /// The image's CycloneDX document. Without it its completeness is not checked.
    pub bom: Option<&'a [u8]>,
    /// The index that lists the image. Without it that is not checked.
    pub index: Option<&'a [u8]>,
    /// The index's digest, `sha256:HEX`, as each composition gave it. With fewer than two
    /// nothing is known of whether the image can be made again.
    pub compositions: &'a [String],
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
/// - `leftovers`: no cache, log or trace of a session is left;
/// - `keys`: no private key is left, nor a file in which programs keep secrets;
/// - `build-paths`: no file names a folder that only builds have;
/// - `manifest`, `configuration`, `index`: they are what the OCI image specification wants;
/// - `annotations`: the manifest says what the image is, and the labels the same;
/// - `entrypoint`: what the image starts is in it, and its user may run it;
/// - `reproducible`: composing the image again has given the same index;
/// - `sbom-schema`, `bom-schema`: the SPDX and the CycloneDX document are valid by their schemas;
/// - `sbom`, `bom`: each names every package of the apk database with version, licence, purl and
///   checksum, no package that is not installed, and the image's manifest and layers.
///
/// # Errors
/// When the unpacked image can't be read.
pub fn integrity(image: &Image, known: &Integrity<'_>) -> Result<SuiteReport, Error> {
    let mut checks = Checks::new(Suite::Integrity);
    let database = Database::of(image)?;
    let packages = database.as_ref().map(|database| database.packages.as_slice());
    let no_packages = |reason: &str| Finding::failed(reason, Vec::new());
    let finding = match (packages, known.composed) {
        (Err(reason), _) => no_packages(reason),
        (_, None) => Finding::not_run("what composition made is not known"),
        (Ok(packages), Some(composed)) => owners(image.files(), packages, composed),
    };
    checks.add("integrity/owners", finding);

    let mut leftovers = Leftovers::default();
    Programs::of(image, &mut leftovers)?.check(image, &mut checks);
    checks.add("integrity/leftovers", leftovers::caches(image.files()));
    checks.add("integrity/keys", leftovers.keys(image.files()));
    checks.add("integrity/build-paths", leftovers.build_paths());
    checks.add("integrity/manifest", document::manifest(image));
    checks.add("integrity/configuration", document::configuration(image));
    let finding = known.index.map(|index| document::index(image, index));
    checks.add("integrity/index", finding.unwrap_or_else(|| Finding::not_run("the image's index was not given")));
    checks.add("integrity/annotations", document::annotations(image));
    checks.add("integrity/entrypoint", document::entrypoint(image));
    checks.add("integrity/reproducible", reproducible(known.compositions));
    for (name, format, document) in [("sbom", Format::Spdx, known.sbom), ("bom", Format::CycloneDx, known.bom)] {
        let missing = || Finding::not_run(format!("the image's {} document was not given", format.name()));
        let finding = document.map(|document| sbom::schema(format, document));
        checks.add(format!("integrity/{name}-schema"), finding.unwrap_or_else(missing));
        let finding = match (packages, document) {
            (Err(reason), _) => no_packages(reason),
            (_, None) => missing(),
            (Ok(packages), Some(document)) => sbom::complete(format, image, packages, document),
        };
        checks.add(format!("integrity/{name}"), finding);
    }
    Ok(checks.finish_with(database.as_ref().ok()))
}

fn owners(files: &Files, packages: &[apk::InstalledPackage], composed: &BTreeSet<String>) -> Finding {
    let mut owned = BTreeSet::new();
    let mut missing = Vec::new();
    for package in packages {
        for file in &package.files {
            match files.place(&file.path).filter(|place| files.get(place).is_some()) {
                Some(place) => drop(owned.insert(place)),
                None => {
                    let name = &package.entry.information.name;
                    let message =
                        format!("`/{}` of the package `{name}` is not there; compose the image again", file.path);
                    missing.push(Complaint { package: Some(name.clone()), ..Complaint::at(&file.path, message) });
                }
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
    let (mut complaints, (no_package, no_file)) = (Vec::new(), (strangers.len(), missing.len()));
    let strangers = strangers
        .into_iter()
        .map(|path| Complaint::at(&path, format!("`/{path}` belongs to no package; put it into one, or take it out")));
    complaints.extend(strangers);
    complaints.extend(missing);
    let mut finding = Finding::listing(
        complaints,
        format!("every file is of one of {} packages or of the composition", packages.len()),
    );
    if no_package + no_file > 1 {
        finding
            .evidence
            .push(format!("{no_package} files belong to no package, {no_file} paths of packages are not there"));
    }
    finding
}

fn reproducible(compositions: &[String]) -> Finding {
    let [first, others @ ..] = compositions else {
        return Finding::not_run("the image was composed by a version that does not say whether it composed it again");
    };
    match others.iter().find(|other| *other != first) {
        Some(other) => Finding::failed(
            format!("composing twice gave {first} and then {other}; compare the two layers"),
            Vec::new(),
        ),
        None if others.is_empty() => Finding::not_run("the image was composed only once"),
        None => Finding::passed(format!("{} compositions gave {first}", compositions.len())),
    }
}
