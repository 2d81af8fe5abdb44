use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Error;
use crate::document::{Content, ExternalReference, NO_ASSERTION, Package, Relationship};
use crate::identifier::{Identifiers, sanitised};
use crate::license::{Extracted, Extractions, renamed};
use crate::vocabulary::{correct_package, correct_relationship};

/// The largest document that is read from inside a package, in bytes.
const LIMIT: usize = 64 << 20;

/// The parts of a package's own document that an image's document takes over. Files stay where
/// they are: they are described at `/var/lib/db/sbom` of the image itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Embedded {
    spdx_version: String,
    #[serde(rename = "SPDXID")]
    id: String,
    #[serde(default)]
    packages: Vec<Package>,
    #[serde(default)]
    document_describes: Vec<String>,
    #[serde(default)]
    has_extracted_licensing_infos: Vec<Extracted>,
    #[serde(default)]
    relationships: Vec<Relationship>,
}

impl Embedded {
    /// Reads the document that the package named `label` carries.
    pub fn read(label: &str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LIMIT {
            return Err(Error::EmbeddedSize { package: label.to_owned(), size: bytes.len(), limit: LIMIT });
        }
        let wrong = |reason: String| Error::Embedded { package: label.to_owned(), reason };
        let mut document: Self = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
        if !document.spdx_version.starts_with("SPDX-2.") {
            return Err(wrong(format!("its version is `{}`, expected SPDX-2.2 or SPDX-2.3", document.spdx_version)));
        }
        if document.described().is_empty() {
            return Err(wrong("it describes no package".to_owned()));
        }
        let packages = document.packages.iter_mut().try_for_each(correct_package);
        let relationships = document.relationships.iter_mut().try_for_each(correct_relationship);
        packages.and(relationships).map_err(wrong)?;
        Ok(document)
    }

    /// The identifiers of the packages that the document says it is about.
    fn described(&self) -> Vec<&str> {
        let related = self
            .relationships
            .iter()
            .filter(|relationship| {
                relationship.spdx_element_id == self.id && relationship.relationship_type == "DESCRIBES"
            })
            .map(|relationship| relationship.related_spdx_element.as_str());
        self.document_describes
            .iter()
            .map(String::as_str)
            .chain(related)
            .filter(|id| self.packages.iter().any(|package| package.id == *id))
            .collect()
    }
}

/// Merges a package's own document into the image's, where the package is the element at
/// `position`.
///
/// The described element fills in what the apk database doesn't know; other elements are added once
/// even if several packages name them; relationships between elements that are here are kept.
pub(crate) fn add(
    content: &mut Content,
    position: usize,
    embedded: Embedded,
    identifiers: &mut Identifiers,
    extractions: &mut Extractions,
) {
    let described: Vec<String> = embedded.described().into_iter().map(str::to_owned).collect();
    let licenses: BTreeMap<String, String> = embedded
        .has_extracted_licensing_infos
        .into_iter()
        .map(|extracted| {
            let mut own = extracted;
            let old = own.id.clone();
            own.id = old
                .strip_prefix("LicenseRef-")
                .map_or_else(|| old.clone(), |name| format!("LicenseRef-{}", sanitised(name)));
            (old, extractions.adopt(own))
        })
        .collect();

    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for mut package in embedded.packages {
        package.files_analyzed = false;
        package.package_verification_code = None;
        for license in [&mut package.license_concluded, &mut package.license_declared] {
            *license =
                license.as_deref().map(|text| renamed(text, &licenses)).map(|text| known_license(text, extractions));
        }
        let old = package.id.clone();
        if described.contains(&old) {
            if let Some(element) = content.packages.get_mut(position) {
                complete(element, package);
                ids.insert(old, element.id.clone());
            }
            continue;
        }
        let name = old.strip_prefix("SPDXRef-").unwrap_or(&old);
        let wanted = format!("SPDXRef-{}", sanitised(name));
        let known = content.packages.iter().find(|known| {
            let base = known.id.strip_prefix(&wanted);
            let same_base = base.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
            same_base && Package { id: known.id.clone(), ..package.clone() } == **known
        });
        let id = if let Some(known) = known {
            known.id.clone()
        } else {
            package.id = identifiers.claim(wanted);
            let id = package.id.clone();
            content.packages.push(package);
            id
        };
        ids.insert(old, id);
    }
    for relationship in embedded.relationships {
        let from = ids.get(&relationship.spdx_element_id);
        let to = ids.get(&relationship.related_spdx_element);
        if let (Some(from), Some(to)) = (from, to) {
            let kept = Relationship::new(from, &relationship.relationship_type, to);
            if !content.relationships.contains(&kept) {
                content.relationships.push(kept);
            }
        }
    }
}

/// The expression, with what the merged document doesn't define written as references.
fn known_license(expression: String, extractions: &mut Extractions) -> String {
    if extractions.defines(&expression) { expression } else { extractions.declared(&[expression]) }
}

/// Fills in what only the package's own document knows, such as the distribution that its purl
/// names. The name, version and checksums stay those of the apk database, which is what is
/// installed.
fn complete(element: &mut Package, own: Package) {
    let same = own.name == element.name && own.version_info == element.version_info;
    // melange writes `unknown` when it was not told the distribution.
    let is_apk = |reference: &&ExternalReference| {
        let locator = &reference.reference_locator;
        locator.starts_with("pkg:apk/") && !locator.starts_with("pkg:apk/unknown/")
    };
    if same && let Some(purl) = own.external_refs.iter().find(is_apk) {
        element.external_refs = vec![purl.clone()];
    }
    if same {
        let names = own.external_refs.iter().filter(|reference| reference.reference_type == "cpe23Type");
        element.external_refs.extend(names.cloned());
    }
    let stated = |text: &Option<String>| text.as_deref().is_some_and(|text| text != NO_ASSERTION);
    for (field, value) in [
        (&mut element.originator, own.originator),
        (&mut element.copyright_text, own.copyright_text),
        (&mut element.license_concluded, own.license_concluded),
        (&mut element.license_declared, own.license_declared),
        (&mut element.supplier, own.supplier),
    ] {
        if stated(&value) {
            *field = value;
        }
    }
}
