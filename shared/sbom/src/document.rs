use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::license::Extracted;

/// The value for what the writer doesn't know.
pub(crate) const NO_ASSERTION: &str = "NOASSERTION";
/// The identifier of every document's own element.
pub(crate) const DOCUMENT: &str = "SPDXRef-DOCUMENT";

/// An SPDX 2.3 document, in the order in which its fields are written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    has_extracted_licensing_infos: Vec<Extracted>,
    relationships: Vec<Relationship>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Package {
    #[serde(rename = "SPDXID")]
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_info: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub originator: Option<String>,
    #[serde(default = "no_assertion")]
    pub download_location: String,
    #[serde(default)]
    pub files_analyzed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_verification_code: Option<VerificationCode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_concluded: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_declared: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copyright_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_package_purpose: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<ExternalReference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Package {
    /// An element of which nothing is known yet but its name.
    pub fn new(id: String, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            download_location: no_assertion(),
            license_concluded: Some(no_assertion()),
            license_declared: Some(no_assertion()),
            copyright_text: Some(no_assertion()),
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerificationCode {
    pub package_verification_code_value: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub package_verification_code_excluded_files: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Checksum {
    pub algorithm: String,
    pub checksum_value: String,
}

impl Checksum {
    /// A checksum whose value is known to be lowercase hexadecimal of the algorithm's length.
    pub fn checked(algorithm: &'static str, value: &str, subject: impl Into<String>) -> Result<Self, Error> {
        let length = if algorithm == "SHA1" { 40 } else { 64 };
        let hexadecimal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if value.len() != length || !value.bytes().all(hexadecimal) {
            return Err(Error::Digest { subject: subject.into(), algorithm, value: value.to_owned() });
        }
        Ok(Self { algorithm: algorithm.to_owned(), checksum_value: value.to_owned() })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalReference {
    pub reference_category: String,
    pub reference_type: String,
    pub reference_locator: String,
}

impl ExternalReference {
    /// The reference that says what a package is called in its ecosystem.
    pub fn purl(locator: String) -> Self {
        Self {
            reference_category: "PACKAGE-MANAGER".to_owned(),
            reference_type: "purl".to_owned(),
            reference_locator: locator,
        }
    }

    /// The reference that says what vulnerability databases call a package.
    pub fn cpe(locator: String) -> Self {
        Self {
            reference_category: "SECURITY".to_owned(),
            reference_type: "cpe23Type".to_owned(),
            reference_locator: locator,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct File {
    #[serde(rename = "SPDXID")]
    pub id: String,
    pub file_name: String,
    pub checksums: Vec<Checksum>,
    pub license_concluded: &'static str,
    pub copyright_text: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Relationship {
    pub spdx_element_id: String,
    pub relationship_type: String,
    pub related_spdx_element: String,
}

impl Relationship {
    pub fn new(from: &str, kind: &str, to: &str) -> Self {
        Self {
            spdx_element_id: from.to_owned(),
            relationship_type: kind.to_owned(),
            related_spdx_element: to.to_owned(),
        }
    }
}

/// What a document holds beside its own description.
#[derive(Default)]
pub(crate) struct Content {
    pub packages: Vec<Package>,
    pub files: Vec<File>,
    pub extracted: Vec<Extracted>,
    pub relationships: Vec<Relationship>,
}

/// Writes the document. Its namespace ends in the digest of the document without a namespace, so
/// two documents share one only if they are the same.
pub(crate) fn write(name: String, created: i64, content: Content) -> Result<Vec<u8>, Error> {
    let mut document = Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        document_namespace: String::new(),
        creation_info: CreationInfo {
            created: timestamp(created)?,
            creators: vec![
                "Organization: Minimill".to_owned(),
                concat!("Tool: minimill-", env!("CARGO_PKG_VERSION")).to_owned(),
            ],
        },
        name,
        packages: content.packages,
        files: content.files,
        has_extracted_licensing_infos: content.extracted,
        relationships: content.relationships,
    };
    let digest = hex::encode(Sha256::digest(serde_json::to_vec(&document).map_err(Error::Json)?));
    document.document_namespace =
        format!("https://spdx.org/spdxdocs/minimill/{}-{digest}", crate::identifier::sanitised(&document.name));
    let mut bytes = serde_json::to_vec_pretty(&document).map_err(Error::Json)?;
    bytes.push(b'\n');
    Ok(bytes)
}

pub(crate) fn timestamp(seconds: i64) -> Result<String, Error> {
    let time = Timestamp::from_second(seconds).map_err(|_| Error::Created { seconds })?;
    let text = time.to_string();
    // Years outside 0..=9999 are written with a sign, which SPDX doesn't know.
    if text.len() != "0000-00-00T00:00:00Z".len() {
        return Err(Error::Created { seconds });
    }
    Ok(text)
}

fn no_assertion() -> String {
    NO_ASSERTION.to_owned()
}
