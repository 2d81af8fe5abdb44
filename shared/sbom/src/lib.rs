//! SPDX 2.3 documents for packages and images, and CycloneDX 1.6 documents for images.
//!
//! [`package_document`] writes what a package carries at `/var/lib/db/sbom/NAME-VERSION.spdx.json`.
//! [`image_document`] merges those documents into one for an image of one platform, and
//! [`index_document`] describes an image index. [`image_bom`] and [`index_bom`] say the same of images
//! in CycloneDX. All are pure: the same facts give the same
//! bytes, the time is given, and the document namespace comes from a digest of the content.

mod cyclonedx;
mod document;
mod error;
mod identifier;
mod image;
mod index;
mod license;
mod merge;
mod package;
mod purl;
mod vocabulary;

pub use cyclonedx::{image_bom, index_bom};
pub use error::Error;
pub use image::{Distribution, ImageSbom, InstalledPackage, Layer, image_document};
pub use index::{IndexSbom, PlatformImage, index_document};
pub use package::{Definition, FileDigests, LicenceText, PackageSbom, Source, package_document};
pub use purl::{file_source, git_source, image_purl, package_purls};
