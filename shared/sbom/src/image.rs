use apk::PackageInformation;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Error;
use crate::document::{Checksum, Content, DOCUMENT, ExternalReference, Package, Relationship, write};
use crate::identifier::Identifiers;
use crate::license::Extractions;
use crate::merge::{self, Embedded};
use crate::package::apk_element;
use crate::purl;

/// The distribution that an image's packages belong to, as its `/etc/os-release` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`, for example `minimill`; also the namespace of its packages' purls.
    pub id: String,
    /// `NAME`.
    pub name: String,
    /// `VERSION_ID`; empty for a distribution without versions.
    pub version: String,
}

/// What is known of an image of one platform when it has been composed.
#[derive(Clone, Debug)]
pub struct ImageSbom {
    /// Repository without a tag, for example `localhost:8080/redis` or `redis`.
    pub repository: String,
    /// Digest of the manifest, `sha256:HEX`.
    pub digest: String,
    /// OCI name of the architecture, for example `amd64`.
    pub architecture: String,
    /// The distribution of its packages.
    pub distribution: Distribution,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// The packages of the image's apk database, in any order.
    pub packages: Vec<InstalledPackage>,
    /// When, in seconds since 1970-01-01 UTC: the image's own `created`.
    pub created: i64,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Digest of the compressed layer, `sha256:HEX`.
    pub digest: String,
    /// Digest of the uncompressed layer, `sha256:HEX`.
    pub diff_id: String,
    /// Its media type.
    pub media_type: String,
}

/// An apk package inside an image.
#[derive(Clone, Debug)]
pub struct InstalledPackage {
    /// What the package says of itself. `data_hash` is written as its SHA-256 when present.
    pub information: PackageInformation,
    /// `C:` of the apk database: `Q1` and the base64 of the control member's SHA-1.
    pub checksum: String,
    /// The document that the package carries, or `None` when it carries none: then its element is
    /// made from `information` alone.
    pub embedded: Option<Vec<u8>>,
}

/// The SPDX 2.3 document of an image of one platform.
///
/// Every package of the apk database is an element with its purl, licence and checksums. What the
/// packages' own documents add, such as the upstream sources, is merged; their lists of files stay
/// in them.
///
/// # Errors
/// When a digest or checksum can't be read, a package's own document is no SPDX 2 JSON or is larger
/// than 64 MiB, or the time can't be written.
pub fn image_document(image: &ImageSbom) -> Result<Vec<u8>, Error> {
    write(format!("{}@{}", image.repository, image.digest), image.created, content(image)?)
}

/// The elements of an image, the image itself first.
pub(crate) fn content(image: &ImageSbom) -> Result<Content, Error> {
    let mut identifiers = Identifiers::default();
    let mut extractions = Extractions::default();
    let mut content = Content::default();

    let mut element = oci_element(
        identifiers.unique("Image", &image.digest),
        &image.repository,
        &image.digest,
        &[
            ("arch", &image.architecture),
            ("mediaType", "application/vnd.oci.image.manifest.v1+json"),
            ("os", "linux"),
            ("repository_url", repository_url(&image.repository)),
        ],
    )?;
    element.primary_package_purpose = Some("CONTAINER".to_owned());
    let id = element.id.clone();
    content.packages.push(element);
    content.relationships.push(Relationship::new(DOCUMENT, "DESCRIBES", &id));

    for layer in &image.layers {
        let mut element = oci_element(
            identifiers.unique("Layer", &layer.digest),
            &image.repository,
            &layer.digest,
            &[("arch", &image.architecture), ("mediaType", &layer.media_type), ("os", "linux")],
        )?;
        element.comment = Some(format!("uncompressed digest (diff_id): {}", layer.diff_id));
        content.relationships.push(Relationship::new(&id, "CONTAINS", &element.id));
        content.packages.push(element);
    }

    let system = system_element(&image.distribution, &mut identifiers);
    content.relationships.push(Relationship::new(&id, "CONTAINS", &system.id));
    content.packages.push(system);

    let mut packages: Vec<&InstalledPackage> = image.packages.iter().collect();
    packages.sort_by_key(|package| (&package.information.name, &package.information.version));
    for package in packages {
        let information = &package.information;
        let label = format!("{}-{}", information.name, information.version);
        let mut element =
            apk_element(information, &image.distribution.id, identifiers.unique("Package", &label), &mut extractions);
        element.checksums.push(control_checksum(package)?);
        if !information.data_hash.is_empty() {
            element.checksums.push(Checksum::checked("SHA256", &information.data_hash, format!("package `{label}`"))?);
        }
        content.relationships.push(Relationship::new(&id, "CONTAINS", &element.id));
        let position = content.packages.len();
        content.packages.push(element);
        if let Some(bytes) = &package.embedded {
            let embedded = Embedded::read(&label, bytes)?;
            merge::add(&mut content, position, embedded, &mut identifiers, &mut extractions);
        }
    }
    content.extracted = extractions.into_list();
    Ok(content)
}

/// An element for something that an OCI registry holds.
pub(crate) fn oci_element(
    id: String,
    repository: &str,
    digest: &str,
    qualifiers: &[(&str, &str)],
) -> Result<Package, Error> {
    let mut element = Package::new(id, format!("{repository}@{digest}"));
    element.version_info = Some(digest.to_owned());
    element.supplier = Some("Organization: Minimill".to_owned());
    element.checksums.push(Checksum::checked(
        "SHA256",
        digest.strip_prefix("sha256:").unwrap_or(digest),
        format!("`{repository}`"),
    )?);
    element.external_refs.push(ExternalReference::purl(purl::oci(repository, digest, qualifiers)));
    Ok(element)
}

/// The repository, if it names a registry; a bare name says nothing that the purl doesn't.
pub(crate) fn repository_url(repository: &str) -> &str {
    if repository.contains('/') { repository } else { "" }
}

fn system_element(distribution: &Distribution, identifiers: &mut Identifiers) -> Package {
    let mut element = Package::new(identifiers.unique("OperatingSystem", &distribution.id), distribution.id.clone());
    element.description = Some(distribution.name.clone());
    element.primary_package_purpose = Some("OPERATING_SYSTEM".to_owned());
    element.supplier = Some("Organization: Minimill".to_owned());
    if !distribution.version.is_empty() {
        element.version_info = Some(distribution.version.clone());
    }
    element
}

fn control_checksum(package: &InstalledPackage) -> Result<Checksum, Error> {
    let wrong = || Error::Checksum { package: package.information.name.clone(), checksum: package.checksum.clone() };
    let encoded = package.checksum.strip_prefix("Q1").ok_or_else(wrong)?;
    let digest = STANDARD.decode(encoded).map_err(|_| wrong())?;
    Checksum::checked("SHA1", &hex::encode(digest), "").map_err(|_| wrong())
}
