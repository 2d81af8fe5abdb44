//! The words that SPDX 2.3 allows, against which foreign documents are held.

use crate::document::{Package, Relationship};

const PURPOSES: [&str; 12] = [
    "APPLICATION",
    "ARCHIVE",
    "CONTAINER",
    "DEVICE",
    "FILE",
    "FIRMWARE",
    "FRAMEWORK",
    "INSTALL",
    "LIBRARY",
    "OPERATING_SYSTEM",
    "OTHER",
    "SOURCE",
];

const CATEGORIES: [&str; 4] = ["OTHER", "PACKAGE-MANAGER", "PERSISTENT-ID", "SECURITY"];

const ALGORITHMS: [&str; 17] = [
    "ADLER32",
    "BLAKE2b-256",
    "BLAKE2b-384",
    "BLAKE2b-512",
    "BLAKE3",
    "MD2",
    "MD4",
    "MD5",
    "MD6",
    "SHA1",
    "SHA224",
    "SHA256",
    "SHA3-256",
    "SHA3-384",
    "SHA3-512",
    "SHA384",
    "SHA512",
];

const RELATIONSHIPS: [&str; 45] = [
    "AMENDS",
    "ANCESTOR_OF",
    "BUILD_DEPENDENCY_OF",
    "BUILD_TOOL_OF",
    "CONTAINED_BY",
    "CONTAINS",
    "COPY_OF",
    "DATA_FILE_OF",
    "DEPENDENCY_MANIFEST_OF",
    "DEPENDENCY_OF",
    "DEPENDS_ON",
    "DESCENDANT_OF",
    "DESCRIBED_BY",
    "DESCRIBES",
    "DEV_DEPENDENCY_OF",
    "DEV_TOOL_OF",
    "DISTRIBUTION_ARTIFACT",
    "DOCUMENTATION_OF",
    "DYNAMIC_LINK",
    "EXAMPLE_OF",
    "EXPANDED_FROM_ARCHIVE",
    "FILE_ADDED",
    "FILE_DELETED",
    "FILE_MODIFIED",
    "GENERATED_FROM",
    "GENERATES",
    "HAS_PREREQUISITE",
    "METAFILE_OF",
    "OPTIONAL_COMPONENT_OF",
    "OPTIONAL_DEPENDENCY_OF",
    "OTHER",
    "PACKAGE_OF",
    "PATCH_APPLIED",
    "PATCH_FOR",
    "PREREQUISITE_FOR",
    "PROVIDED_DEPENDENCY_OF",
    "REQUIREMENT_DESCRIPTION_FOR",
    "RUNTIME_DEPENDENCY_OF",
    "SPECIFICATION_FOR",
    "STATIC_LINK",
    "TEST_CASE_OF",
    "TEST_DEPENDENCY_OF",
    "TEST_OF",
    "TEST_TOOL_OF",
    "VARIANT_OF",
];

/// Makes a package's words those of SPDX 2.3, or says which is not among them.
pub(crate) fn correct_package(package: &mut Package) -> Result<(), String> {
    if let Some(purpose) = &mut package.primary_package_purpose {
        correct(purpose, "primaryPackagePurpose", &PURPOSES)?;
    }
    for reference in &mut package.external_refs {
        correct(&mut reference.reference_category, "referenceCategory", &CATEGORIES)?;
    }
    for checksum in &mut package.checksums {
        correct(&mut checksum.algorithm, "algorithm", &ALGORITHMS)?;
    }
    Ok(())
}

/// The same for a relationship.
pub(crate) fn correct_relationship(relationship: &mut Relationship) -> Result<(), String> {
    correct(&mut relationship.relationship_type, "relationshipType", &RELATIONSHIPS)
}

/// Generators mix up `-` and `_`, since the tag-value and JSON forms of SPDX spell them differently.
fn correct(word: &mut String, field: &str, allowed: &[&str]) -> Result<(), String> {
    let same = |known: &str| known.replace('-', "_") == word.replace('-', "_");
    match allowed.iter().find(|known| same(known)) {
        Some(known) => {
            (*known).clone_into(word);
            Ok(())
        }
        None => Err(format!("`{field}` is `{}`, which SPDX 2.3 doesn't know", word.escape_debug())),
    }
}
