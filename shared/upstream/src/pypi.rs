//! Python package indexes: the simple API in JSON (PEP 691, with the versions of PEP 700), and the
//! source archives.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::fetcher::{Expected, check_digest};
use crate::filter::Candidate;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::source::{PackageUrl, SourceUri};
use crate::store::is_sha256_hex;

const LONGEST_INDEX: u64 = 64 * 1024 * 1024;
const LONGEST_PROVENANCE: u64 = 16 * 1024 * 1024;
const LONGEST_ARCHIVE: u64 = 1024 * 1024 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/vnd.pypi.simple.v1+json");
const ARCHIVE: &str = ".tar.gz";
/// What PEP 440 writes into versions before a release, other spellings included.
const PRERELEASES: [&str; 9] = ["a", "alpha", "b", "beta", "c", "rc", "pre", "preview", "dev"];

/// Source archives of the index that this machine's pip uses.
pub struct Pypi {
    context: Context,
}

/// `GET BASE/NAME/`.
#[derive(Deserialize)]
struct Project {
    #[serde(default)]
    versions: Vec<String>,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    filename: String,
    url: String,
    hashes: BTreeMap<String, String>,
    #[serde(default)]
    yanked: Yanked,
    size: Option<u64>,
    /// Address of its attestations (PEP 740).
    #[serde(default)]
    provenance: Option<String>,
}

/// Whether a file is yanked, or why.
#[derive(Deserialize)]
#[serde(untagged)]
enum Yanked {
    Marked(bool),
    Because(String),
}

impl Default for Yanked {
    fn default() -> Self {
        Self::Marked(false)
    }
}

impl Yanked {
    fn reason(&self) -> Option<String> {
        match self {
            Self::Marked(false) => None,
            Self::Marked(true) => Some("yanked".to_owned()),
            Self::Because(reason) if reason.is_empty() => Some("yanked".to_owned()),
            Self::Because(reason) => Some(format!("yanked: {reason}")),
        }
    }
}

struct Index {
    url: Url,
    sha256: String,
    project: Project,
}

impl Index {
    /// The source archives with their versions.
    fn archives<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        self.project.files.iter().filter_map(move |file| {
            let (project, version) = file.filename.strip_suffix(ARCHIVE)?.rsplit_once('-')?;
            (normalized(project) == name).then_some((version, file))
        })
    }
}

impl Index {
    /// The source archive of a version.
    fn archive<'a>(&'a self, name: &'a str, version: &str) -> Result<&'a File> {
        let found = self.archives(name).find(|(known, _)| *known == version);
        let (_, file) = found.ok_or_else(|| Error::UnknownVersion {
            package: name.to_owned(),
            version: version.to_owned(),
            place: self.url.to_string(),
            available: self.archives(name).map(|(version, _)| version.to_owned()).collect(),
        })?;
        Ok(file)
    }

    /// An address of the page, which may be relative to it.
    fn address(&self, text: &str) -> Result<Url> {
        let url = self.url.join(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| Error::Listing {
            url: self.url.to_string(),
            reason: format!("`{text}` is not the address of a file"),
        })
    }
}

impl Pypi {
    /// A provider working with `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn index(&self, name: &str) -> Result<Index> {
        let address = format!("{}/{name}/", self.context.endpoints.pypi().await?);
        let url = Url::parse(&address)
            .map_err(|error| Error::Configuration { origin: "pypi endpoint".to_owned(), reason: error.to_string() })?;
        let headers = HeaderMap::from_iter([(ACCEPT, JSON)]);
        let document = self.context.fetcher.document_with(url.as_str(), &headers, LONGEST_INDEX).await;
        let document = document.map_err(|error| match error {
            Error::Status { url, status: 404, .. } => Error::UnknownPackage { package: name.to_owned(), place: url },
            other => other,
        })?;
        let project = serde_json::from_slice(&document.bytes).map_err(|error| Error::Index {
            url: address,
            line: error.line() as u64,
            reason: format!("it is not the simple API in JSON: {error}"),
        })?;
        Ok(Index { url, sha256: document.sha256, project })
    }
}

#[async_trait]
impl Provider for Pypi {
    fn name(&self) -> &'static str {
        "pypi"
    }

    fn handles(&self, source: &SourceUri) -> bool {
        matches!(source, SourceUri::Package(package) if package.kind() == "pypi")
    }

    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>> {
        let (name, _) = package(source)?;
        let index = self.index(&name).await?;
        let mut seen = HashSet::new();
        let mut candidates = Vec::new();
        for (version, file) in index.archives(&name).filter(|(version, _)| seen.insert(version.to_owned())) {
            let prerelease = is_prerelease(version).then(|| "a pre-release".to_owned());
            let digest = file.hashes.get("sha256").map(|sha256| format!("sha256:{sha256}"));
            let withdrawn = file.yanked.reason();
            candidates.push(Candidate { prerelease, withdrawn, digest, ..Candidate::new(version) });
        }
        for version in index.project.versions.iter().filter(|version| !seen.contains(version.as_str())) {
            let withdrawn = Some(format!("has no source archive (`{ARCHIVE}`)"));
            candidates.push(Candidate { withdrawn, ..Candidate::new(version.as_str()) });
        }
        Ok(candidates)
    }

    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained> {
        let (name, package) = package(source)?;
        let wanted = package.required_version()?;
        let index = self.index(&name).await?;
        let file = index.archive(&name, wanted)?;
        let listing = |reason: String| Error::Listing { url: index.url.to_string(), reason };
        let sha256 = file.hashes.get("sha256").filter(|text| is_sha256_hex(text));
        let sha256 = sha256.ok_or_else(|| listing(format!("it states no SHA-256 of `{}`", file.filename)))?;
        check_digest(&file.filename, expected, sha256)?;
        let url = index.address(&file.url)?;
        let wanted_file = Expected { sha256: Some(sha256.clone()), size: file.size, ..Expected::default() };
        let blob =
            self.context.fetcher.download(url.as_str(), LONGEST_ARCHIVE, &wanted_file, &self.context.blobs).await?;
        Ok(Obtained {
            sha256: blob.sha256,
            size: blob.size,
            file_name: file.filename.clone(),
            evidence: Evidence::Pypi {
                package: name.clone(),
                version: wanted.to_owned(),
                file: file.filename.clone(),
                index_sha256: index.sha256.clone(),
                sha256: sha256.clone(),
            },
        })
    }

    async fn attestations(&self, source: &SourceUri) -> Result<Option<Bytes>> {
        let (name, package) = package(source)?;
        let index = self.index(&name).await?;
        let Some(address) = &index.archive(&name, package.required_version()?)?.provenance else {
            return Ok(None);
        };
        let url = index.address(address)?;
        match self.context.fetcher.document(url.as_str(), LONGEST_PROVENANCE).await {
            Ok(document) => Ok(Some(document.bytes)),
            Err(Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn package(source: &SourceUri) -> Result<(String, &PackageUrl)> {
    let refuse = |reason: &str| Error::Unsupported { subject: source.to_string(), reason: reason.to_owned() };
    let SourceUri::Package(package) = source else {
        return Err(refuse("it is no package URL"));
    };
    let name = package.name();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let ends = name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric());
    if !plain || !ends {
        return Err(refuse("it is not the name of a Python project"));
    }
    Ok((normalized(name), package))
}

/// A project's name as indexes write it (PEP 503).
fn normalized(name: &str) -> String {
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("-").to_ascii_lowercase()
}

/// Whether a version comes before its release (PEP 440); what follows `+` is local.
fn is_prerelease(version: &str) -> bool {
    let public = version.split('+').next().unwrap_or_default().to_ascii_lowercase();
    public.split(|character: char| !character.is_ascii_alphabetic()).any(|word| PRERELEASES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_before_a_release_are_told_from_others() {
        for version in ["1.0a1", "1.0b2", "1.0rc1", "1.0.dev3", "1.0-alpha", "1.0.post1.dev2", "1.0C1"] {
            assert!(is_prerelease(version), "{version}");
        }
        for version in ["1.0", "1.0.post1", "1.0-r2", "1.0+abc", "1.0+dev"] {
            assert!(!is_prerelease(version), "{version}");
        }
    }

    #[test]
    fn names_are_written_as_the_index_does() {
        assert_eq!(normalized("Ruamel.yaml__Clib"), "ruamel-yaml-clib");
        for name in ["..", "-a", "a%2Fb", "a."] {
            let source: SourceUri = format!("pkg:pypi/{name}").parse().unwrap_or(SourceUri::Address(String::new()));
            assert!(package(&source).is_err(), "{name}");
        }
    }
}
