use crate::Error;
use crate::document::{Content, DOCUMENT, Relationship, write};
use crate::identifier::Identifiers;
use crate::image::{oci_element, repository_url};

/// What is known of an image index.
#[derive(Clone, Debug)]
pub struct IndexSbom {
    /// Repository without a tag.
    pub repository: String,
    /// Digest of the index, `sha256:HEX`.
    pub digest: String,
    /// The images that it lists, in its order.
    pub images: Vec<PlatformImage>,
    /// When, in seconds since 1970-01-01 UTC: the newest of the images' times.
    pub created: i64,
}

/// An image of one platform in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformImage {
    /// OCI name of the architecture, for example `arm64`.
    pub architecture: String,
    /// Digest of its manifest, `sha256:HEX`.
    pub digest: String,
}

/// The SPDX 2.3 document of an image index: which images it lists. What is inside each image is in
/// that image's own document.
///
/// # Errors
/// When a digest can't be read or the time can't be written.
pub fn index_document(index: &IndexSbom) -> Result<Vec<u8>, Error> {
    write(format!("{}@{}", index.repository, index.digest), index.created, content(index)?)
}

/// The elements of an index, the index itself first.
pub(crate) fn content(index: &IndexSbom) -> Result<Content, Error> {
    let mut identifiers = Identifiers::default();
    let mut content = Content::default();
    let mut element = oci_element(
        identifiers.unique("Index", &index.digest),
        &index.repository,
        &index.digest,
        &[
            ("mediaType", "application/vnd.oci.image.index.v1+json"),
            ("repository_url", repository_url(&index.repository)),
        ],
    )?;
    element.primary_package_purpose = Some("CONTAINER".to_owned());
    let id = element.id.clone();
    content.packages.push(element);
    content.relationships.push(Relationship::new(DOCUMENT, "DESCRIBES", &id));
    for image in &index.images {
        let mut element = oci_element(
            identifiers.unique("Image", &image.digest),
            &index.repository,
            &image.digest,
            &[
                ("arch", &image.architecture),
                ("mediaType", "application/vnd.oci.image.manifest.v1+json"),
                ("os", "linux"),
                ("repository_url", repository_url(&index.repository)),
            ],
        )?;
        element.primary_package_purpose = Some("CONTAINER".to_owned());
        content.relationships.push(Relationship::new(&id, "CONTAINS", &element.id));
        content.relationships.push(Relationship::new(&element.id, "VARIANT_OF", &id));
        content.packages.push(element);
    }
    Ok(content)
}
