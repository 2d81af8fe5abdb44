use apk::PackageInformation;
use sha1::{Digest, Sha1};

use crate::Error;
use crate::document::{
    Checksum, Content, DOCUMENT, ExternalReference, File, NO_ASSERTION, Package, Relationship, VerificationCode, write,
};
use crate::identifier::Identifiers;
use crate::license::Extractions;
use crate::purl;

/// What is known of a package when it has been built.
#[derive(Clone, Debug, Default)]
pub struct PackageSbom {
    /// Name, version, architecture, licences and description; the sizes and `data_hash` are not
    /// read, since the document lies inside the data that they measure.
    pub information: PackageInformation,
    /// The identifier of the distribution (`ID` of its os-release), which is also the purl's
    /// namespace.
    pub distribution: String,
    /// The copyright statements; empty when not stated.
    pub copyright: String,
    /// Texts of licences that the sources carry.
    pub licence_texts: Vec<LicenceText>,
    /// What vulnerability databases call it (CPE 2.3), where that is known.
    pub cpe: Option<String>,
    /// Who makes the upstream software; empty when not known.
    pub originator: String,
    /// The regular files of the package, without this document.
    pub files: Vec<FileDigests>,
    /// The upstream sources that the package was built from.
    pub sources: Vec<Source>,
    /// The definition that says how it was built.
    pub definition: Option<Definition>,
    /// When, in seconds since 1970-01-01 UTC: `SOURCE_DATE_EPOCH` of the build.
    pub created: i64,
}

/// A licence's text as it lies in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LicenceText {
    /// What the definition calls the licence, such as `LicenseRef-valkey`.
    pub licence: String,
    /// Its text.
    pub text: String,
}

/// A regular file and its digests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileDigests {
    /// Path in the root file system, with or without its leading `/`.
    pub path: String,
    /// SHA-1 of the content, lowercase hexadecimal.
    pub sha1: String,
    /// SHA-256 of the content, lowercase hexadecimal.
    pub sha256: String,
}

/// An upstream source that was fetched and verified.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its package URL, for example `pkg:deb/debian/memcached@1.6.38?arch=source`; empty when the
    /// source has none.
    pub purl: String,
    /// Where it was fetched from; empty when the purl says it all.
    pub download_location: String,
    /// SHA-256 of the fetched file, lowercase hexadecimal.
    pub sha256: String,
}

/// The definition file of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// File name, for example `memcached.yaml`.
    pub name: String,
    /// SHA-256 of the file, lowercase hexadecimal.
    pub sha256: String,
}

/// The SPDX 2.3 document of a package, which it carries at
/// `/var/lib/db/sbom/NAME-VERSION.spdx.json`.
///
/// # Errors
/// When a digest is not hexadecimal or the time can't be written.
pub fn package_document(package: &PackageSbom) -> Result<Vec<u8>, Error> {
    let information = &package.information;
    let label = format!("{}-{}", information.name, information.version);
    let mut identifiers = Identifiers::default();
    let mut extractions = Extractions::default();
    for LicenceText { licence, text } in &package.licence_texts {
        extractions.know(licence, text);
    }
    let mut content = Content::default();

    let mut element =
        apk_element(information, &package.distribution, identifiers.unique("Package", &label), &mut extractions);
    element.supplier = Some("Organization: Minimill".to_owned());
    if !package.copyright.trim().is_empty() {
        element.copyright_text = Some(package.copyright.trim().to_owned());
    }
    if !package.originator.is_empty() {
        element.originator = Some(format!("Organization: {}", package.originator));
    }
    element.external_refs.extend(package.cpe.clone().map(ExternalReference::cpe));
    let id = element.id.clone();
    content.relationships.push(Relationship::new(DOCUMENT, "DESCRIBES", &id));

    let mut files = package.files.clone();
    files.sort();
    files.dedup();
    if !files.is_empty() {
        element.files_analyzed = true;
        element.package_verification_code = Some(VerificationCode {
            package_verification_code_value: verification_code(&files),
            package_verification_code_excluded_files: vec![format!("./var/lib/db/sbom/{label}.spdx.json")],
        });
    }
    content.packages.push(element);

    let mut sources = package.sources.clone();
    sources.sort();
    sources.dedup();
    for source in &sources {
        let source = source_element(source, &mut identifiers)?;
        content.relationships.push(Relationship::new(&id, "GENERATED_FROM", &source.id));
        content.packages.push(source);
    }
    if let Some(definition) = &package.definition {
        let mut element = Package::new(identifiers.unique("Definition", &definition.name), definition.name.clone());
        element.primary_package_purpose = Some("SOURCE".to_owned());
        element.checksums.push(Checksum::checked(
            "SHA256",
            &definition.sha256,
            format!("definition `{}`", definition.name),
        )?);
        if !information.commit.is_empty() {
            element.version_info = Some(information.commit.clone());
        }
        content.relationships.push(Relationship::new(&id, "DESCRIBED_BY", &element.id));
        content.packages.push(element);
    }
    for file in &files {
        let path = file.path.trim_start_matches('/');
        let subject = || format!("file `{path}`");
        let element = File {
            id: identifiers.unique("File", path),
            file_name: format!("./{path}"),
            checksums: vec![
                Checksum::checked("SHA1", &file.sha1, subject())?,
                Checksum::checked("SHA256", &file.sha256, subject())?,
            ],
            license_concluded: NO_ASSERTION,
            copyright_text: NO_ASSERTION,
        };
        content.relationships.push(Relationship::new(&id, "CONTAINS", &element.id));
        content.files.push(element);
    }
    content.extracted = extractions.into_list();
    write(label, package.created, content)
}

/// The element of an apk package, from its own information.
pub(crate) fn apk_element(
    information: &PackageInformation,
    distribution: &str,
    id: String,
    extractions: &mut Extractions,
) -> Package {
    let mut element = Package::new(id, information.name.clone());
    element.version_info = Some(information.version.clone());
    element.license_declared = Some(extractions.declared(&information.licenses));
    element.primary_package_purpose = Some("INSTALL".to_owned());
    if !information.description.is_empty() {
        element.description = Some(information.description.clone());
    }
    if !information.url.is_empty() {
        element.homepage = Some(information.url.clone());
    }
    element.external_refs.push(ExternalReference::purl(purl::apk(
        distribution,
        &information.name,
        &information.version,
        &information.architecture,
        distribution,
    )));
    element
}

fn source_element(source: &Source, identifiers: &mut Identifiers) -> Result<Package, Error> {
    let name = if source.purl.is_empty() { &source.download_location } else { &source.purl };
    let mut element = Package::new(identifiers.unique("Source", name), source_name(name));
    element.version_info = source_version(&source.purl);
    element.primary_package_purpose = Some("SOURCE".to_owned());
    element.checksums.push(Checksum::checked("SHA256", &source.sha256, format!("source `{name}`"))?);
    if !source.download_location.is_empty() {
        element.download_location = source.download_location.clone();
    }
    if !source.purl.is_empty() {
        element.external_refs.push(ExternalReference::purl(source.purl.clone()));
    }
    Ok(element)
}

/// `memcached` of `pkg:deb/debian/memcached@1.6.38?arch=source`, or the file name of a URL.
fn source_name(text: &str) -> &str {
    let text = text.split(['?', '#']).next().unwrap_or(text);
    let name = text.rsplit('/').next().unwrap_or(text);
    let name = name.split('@').next().unwrap_or(name);
    if name.is_empty() { text } else { name }
}

fn source_version(purl: &str) -> Option<String> {
    let path = purl.split(['?', '#']).next()?;
    path.rsplit_once('@').map(|(_, version)| version.to_owned())
}

/// SPDX 2.3, 7.9: the SHA-1 of all files' SHA-1 values, sorted and put together.
fn verification_code(files: &[FileDigests]) -> String {
    let mut digests: Vec<&str> = files.iter().map(|file| file.sha1.as_str()).collect();
    digests.sort_unstable();
    hex::encode(Sha1::digest(digests.concat()))
}
