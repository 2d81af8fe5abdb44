use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::document::{Content, NO_ASSERTION, Package, timestamp};
use crate::{Error, ImageSbom, IndexSbom, image, index};

const SCHEMA: &str = "http://cyclonedx.org/schema/bom-1.6.schema.json";

/// The CycloneDX 1.6 document of an image of one platform: the facts of
/// [`image_document`](crate::image_document), with upstream sources as the ancestors of their packages.
///
/// # Errors
/// As [`image_document`](crate::image_document).
pub fn image_bom(image: &ImageSbom) -> Result<Vec<u8>, Error> {
    write(&image::content(image)?, image.created)
}

/// The CycloneDX 1.6 document of an image index: which images it lists.
///
/// # Errors
/// As [`index_document`](crate::index_document).
pub fn index_bom(index: &IndexSbom) -> Result<Vec<u8>, Error> {
    write(&index::content(index)?, index.created)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: &'static str,
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
}

#[derive(Serialize)]
struct Tools {
    components: [Component; 1],
}

#[derive(Serialize, Default)]
#[serde(rename_all = "kebab-case")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bom_ref: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Organisation>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copyright: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpe: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pedigree: Option<Pedigree>,
    #[serde(rename = "externalReferences", skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<Reference>,
}

#[derive(Serialize)]
struct Organisation {
    name: String,
}

#[derive(Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

#[derive(Serialize)]
struct License {
    expression: String,
}

#[derive(Serialize)]
struct Pedigree {
    ancestors: Vec<Component>,
}

#[derive(Serialize)]
struct Reference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    of: String,
    depends_on: Vec<String>,
}

/// The serial number comes from a digest of the rest, so two documents share one only if they are
/// the same.
fn write(content: &Content, created: i64) -> Result<Vec<u8>, Error> {
    let mut elements = content.packages.iter();
    let subject = elements.next().map(component).unwrap_or_default();
    let is_source = |package: &&Package| package.primary_package_purpose.as_deref() == Some("SOURCE");
    let components: Vec<Component> = elements
        .filter(|package| !is_source(package))
        .map(|package| Component { pedigree: pedigree(content, package), ..component(package) })
        .collect();
    let dependency = Dependency {
        of: subject.bom_ref.clone().unwrap_or_default(),
        depends_on: components.iter().filter_map(|component| component.bom_ref.clone()).collect(),
    };
    let tool = Component {
        kind: "application",
        name: "minimill".to_owned(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..Component::default()
    };
    let mut bom = Bom {
        schema: SCHEMA,
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: String::new(),
        version: 1,
        metadata: Metadata { timestamp: timestamp(created)?, tools: Tools { components: [tool] }, component: subject },
        components,
        dependencies: vec![dependency],
    };
    bom.serial_number = serial_number(&serde_json::to_vec(&bom).map_err(Error::Json)?);
    let mut bytes = serde_json::to_vec_pretty(&bom).map_err(Error::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn component(package: &Package) -> Component {
    let purl = purl(package);
    let known = |value: &Option<String>| value.clone().filter(|value| value != NO_ASSERTION);
    let kind = match package.primary_package_purpose.as_deref() {
        Some("CONTAINER") => "container",
        Some("OPERATING_SYSTEM") => "operating-system",
        Some("INSTALL" | "SOURCE") => "library",
        // Layers, and what packages' own documents describe beside themselves.
        _ => "file",
    };
    Component {
        kind,
        bom_ref: Some(package.id.clone()),
        supplier: known(&package.supplier)
            .and_then(|supplier| supplier.strip_prefix("Organization: ").map(str::to_owned))
            .map(|name| Organisation { name }),
        name: package.name.clone(),
        version: package.version_info.clone(),
        description: package.description.clone(),
        hashes: package
            .checksums
            .iter()
            .filter_map(|checksum| {
                let alg = match checksum.algorithm.as_str() {
                    "SHA1" => "SHA-1",
                    "SHA256" => "SHA-256",
                    "SHA512" => "SHA-512",
                    _ => return None,
                };
                Some(Hash { alg, content: checksum.checksum_value.clone() })
            })
            .collect(),
        licenses: known(&package.license_declared).map(|expression| License { expression }).into_iter().collect(),
        copyright: known(&package.copyright_text),
        cpe: reference(package, "cpe23Type"),
        purl,
        pedigree: None,
        external_references: known(&package.homepage)
            .map(|url| Reference { kind: "website", url })
            .into_iter()
            .collect(),
    }
}

fn purl(package: &Package) -> Option<String> {
    reference(package, "purl")
}

/// The first reference of a type.
fn reference(package: &Package, kind: &str) -> Option<String> {
    let found = package.external_refs.iter().find(|reference| reference.reference_type == kind);
    found.map(|reference| reference.reference_locator.clone())
}

/// The sources that a package was made from.
fn pedigree(content: &Content, package: &Package) -> Option<Pedigree> {
    let sources = content.relationships.iter().filter(|relationship| {
        relationship.relationship_type == "GENERATED_FROM" && relationship.spdx_element_id == package.id
    });
    let ancestors: Vec<Component> = sources
        .filter_map(|relationship| content.packages.iter().find(|other| other.id == relationship.related_spdx_element))
        // Several packages may have one source, and a reference names one component.
        .map(|source| Component { bom_ref: None, ..component(source) })
        .collect();
    (!ancestors.is_empty()).then_some(Pedigree { ancestors })
}

/// A UUID of version 8, which leaves its bits to whoever makes it (RFC 9562, 5.8).
fn serial_number(content: &[u8]) -> String {
    let mut bytes: [u8; 16] = [0; 16];
    for (byte, digest) in bytes.iter_mut().zip(Sha256::digest(content)) {
        *byte = digest;
    }
    let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
    *version = *version & 0x0f | 0x80;
    *variant = *variant & 0x3f | 0x80;
    let text = hex::encode(bytes);
    let mut out = String::from("urn:uuid:");
    for (position, digit) in text.chars().enumerate() {
        if matches!(position, 8 | 12 | 16 | 20) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}
