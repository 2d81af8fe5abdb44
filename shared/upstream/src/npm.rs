//! The npm registry: package documents, and tarballs proved by their SHA-512 and the registry's
//! signature.

mod integrity;
mod signatures;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use semver::Version;
use serde::Deserialize;

pub use self::signatures::NpmSignature;
use self::signatures::{Keys, Refusal, verify};
use crate::error::{Error, Result};
use crate::fetcher::Expected;
use crate::filter::Candidate;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::source::{PackageUrl, SourceUri};
use crate::store::{keep_refused, read_bounded};

const LONGEST_DOCUMENT: u64 = 64 * 1024 * 1024;
const LONGEST_KEYS: u64 = 1024 * 1024;
const LONGEST_TARBALL: u64 = 1024 * 1024 * 1024;
const LONGEST_NAME: usize = 214;
/// The registry states one or two.
const MOST_SIGNATURES: usize = 16;
const LATEST: &str = "latest";
/// Without readmes and times; registries that don't have it answer with the whole.
const ABBREVIATED: HeaderValue =
    HeaderValue::from_static("application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8");
const WHOLE: HeaderValue = HeaderValue::from_static("application/json");

/// Packages of the registry that this machine's npm uses.
pub struct Npm {
    context: Context,
}

/// What the registry has of a package.
#[derive(Deserialize)]
struct Package {
    #[serde(rename = "dist-tags", default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    versions: BTreeMap<String, Manifest>,
}

/// The times of a package's whole document.
#[derive(Deserialize)]
struct Times {
    time: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct Manifest {
    // A text, or `true` in documents of other software.
    #[serde(default)]
    deprecated: serde_json::Value,
    dist: Distribution,
}

#[derive(Deserialize)]
struct Distribution {
    tarball: String,
    integrity: Option<String>,
    #[serde(default)]
    signatures: Vec<NpmSignature>,
}

struct Document {
    url: Url,
    bytes: Bytes,
    sha256: String,
    package: Package,
}

impl Npm {
    /// A provider working with `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn address(&self, path: &str) -> Result<Url> {
        let address = format!("{}/{path}", self.context.endpoints.npm().await?);
        Url::parse(&address)
            .map_err(|error| Error::Configuration { origin: "npm endpoint".to_owned(), reason: error.to_string() })
    }

    async fn document(&self, name: &str) -> Result<Document> {
        let url = self.address(&name.replace('/', "%2F")).await?;
        let headers = HeaderMap::from_iter([(ACCEPT, ABBREVIATED)]);
        let document = self.context.fetcher.document_with(url.as_str(), &headers, LONGEST_DOCUMENT).await;
        let document = document.map_err(|error| match error {
            Error::Status { url, status: 404, .. } => Error::UnknownPackage { package: name.to_owned(), place: url },
            other => other,
        })?;
        Ok(Document { package: read(&url, &document.bytes)?, bytes: document.bytes, sha256: document.sha256, url })
    }

    /// When a version was published, which only the whole document says.
    async fn published(&self, name: &str, version: &str) -> Result<Option<Timestamp>> {
        let mut url = self.address(&name.replace('/', "%2F")).await?;
        // Not sent; in the cache it keeps this form apart from the abbreviated one.
        url.set_fragment(Some("whole"));
        let headers = HeaderMap::from_iter([(ACCEPT, WHOLE)]);
        let document = self.context.fetcher.document_with(url.as_str(), &headers, LONGEST_DOCUMENT).await?;
        let times: Times = read(&url, &document.bytes)?;
        Ok(times.time.get(version).and_then(|time| time.as_str()?.parse().ok()))
    }

    /// The keys that the registry signs with; `None` when it publishes none.
    async fn keys(&self) -> Result<Option<Keys>> {
        if let Some(path) = self.context.endpoints.npm_keys() {
            let refuse = |reason: String| Error::Keyring { path: path.to_owned(), reason };
            let bytes = read_bounded(path, LONGEST_KEYS)?.ok_or_else(|| refuse("it is not there".to_owned()))?;
            return serde_json::from_slice(&bytes).map(Some).map_err(|error| refuse(error.to_string()));
        }
        let url = self.address("-/npm/v1/keys").await?;
        match self.context.fetcher.document(url.as_str(), LONGEST_KEYS).await {
            Ok(document) => {
                let keys: Keys = read(&url, &document.bytes)?;
                Ok(Some(keys).filter(|keys| !keys.keys.is_empty()))
            }
            Err(Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The id of the registry's key that signed a version, `None` when the registry has no keys;
    /// and when the version was published, where that had to be asked.
    async fn signer(
        &self,
        name: &str,
        version: &str,
        integrity: &str,
        signatures: &[NpmSignature],
    ) -> Result<(Option<String>, Option<Timestamp>)> {
        let Some(keys) = self.keys().await? else {
            tracing::warn!(name, version, "the npm registry publishes no keys; its signature is not checked");
            return Ok((None, None));
        };
        let (message, now) = (format!("{name}@{version}:{integrity}"), (self.context.clock)());
        let (mut result, mut published) = (verify(&keys.keys, signatures, &message, None, now), None);
        if result == Err(Refusal::Undated) {
            published = self.published(name, version).await?;
            result = verify(&keys.keys, signatures, &message, published, now);
        }
        match result {
            Ok(signer) => Ok((Some(signer), published)),
            Err(refusal) => Err(unproved(name, version, refusal)),
        }
    }
}

fn unproved(name: &str, version: &str, refusal: Refusal) -> Error {
    let reason = match refusal {
        Refusal::Undated => "its key has expired, and the registry doesn't say when it was published".to_owned(),
        Refusal::Bad(reason) => reason,
    };
    Error::Unproved { what: format!("{name}@{version}"), reason, kept: None }
}

/// The id of the key of `keys`, a document as registries answer at `/-/npm/v1/keys`, that signed the
/// npm package which the evidence is of. `origin` names the document in messages.
///
/// # Errors
/// [`Error::Keyring`] when the document has another shape or no key; [`Error::Unproved`] when the
/// evidence is of no npm package, or none of its signatures holds.
pub fn npm_signer(origin: &std::path::Path, keys: &[u8], evidence: &Evidence, now: Timestamp) -> Result<String> {
    let refuse = |reason: String| Error::Keyring { path: origin.to_owned(), reason };
    let keys: Keys = serde_json::from_slice(keys).map_err(|error| refuse(error.to_string()))?;
    if keys.keys.is_empty() {
        return Err(refuse("it holds no key".to_owned()));
    }
    let Evidence::Npm { package, version, integrity, signatures, published, .. } = evidence else {
        let reason = "it is no npm package".to_owned();
        return Err(Error::Unproved { what: "the source".to_owned(), reason, kept: None });
    };
    verify(&keys.keys, signatures, &format!("{package}@{version}:{integrity}"), *published, now)
        .map_err(|refusal| unproved(package, version, refusal))
}

#[async_trait]
impl Provider for Npm {
    fn name(&self) -> &'static str {
        "npm"
    }

    fn handles(&self, source: &SourceUri) -> bool {
        matches!(source, SourceUri::Package(package) if package.kind() == "npm")
    }

    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>> {
        let (name, _) = package(source)?;
        let Package { tags, versions } = self.document(&name).await?.package;
        let latest = tags.get(LATEST).and_then(|version| Version::parse(version).ok());
        Ok(versions
            .iter()
            .map(|(text, manifest)| {
                let tagged = tags.iter().filter(|(_, version)| *version == text).map(|(tag, _)| tag.as_str());
                let place = tagged.collect::<Vec<_>>().join(", ");
                let stated = manifest.dist.integrity.as_deref().and_then(integrity::sha512);
                let version = Version::parse(text);
                let malformed = version.is_err().then(|| "not a semantic version".to_owned());
                let unproved = stated.is_none().then(|| "the registry states no SHA-512 of it".to_owned());
                Candidate {
                    prerelease: version.ok().and_then(|version| prerelease(&version, latest.as_ref())),
                    withdrawn: deprecation(&manifest.deprecated).or(malformed).or(unproved),
                    digest: stated.map(|(hex, _)| format!("sha512:{hex}")),
                    place: (!place.is_empty()).then_some(place),
                    ..Candidate::new(text.as_str())
                }
            })
            .collect())
    }

    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained> {
        let (name, package) = package(source)?;
        let wanted = package.required_version()?;
        let document = self.document(&name).await?;
        let file_name = format!("{}-{wanted}.tgz", package.name());
        match self.fetch_listed(&document, &name, wanted, file_name, expected).await {
            Err(error @ Error::Unproved { .. }) => {
                Err(error.keeping(keep_refused(&self.context.cache, &document.bytes)?))
            }
            other => other,
        }
    }
}

impl Npm {
    /// Fetches a version by what the package's document states of it.
    async fn fetch_listed(
        &self,
        document: &Document,
        name: &str,
        wanted: &str,
        file_name: String,
        expected: Option<&str>,
    ) -> Result<Obtained> {
        let versions = &document.package.versions;
        let manifest = versions.get(wanted).ok_or_else(|| Error::UnknownVersion {
            package: name.to_owned(),
            version: wanted.to_owned(),
            place: document.url.to_string(),
            available: newest(versions.keys()),
        })?;
        let refuse =
            |reason: &str| Error::Unproved { what: format!("{name}@{wanted}"), reason: reason.to_owned(), kept: None };
        let integrity = manifest.dist.integrity.as_deref();
        let integrity = integrity.ok_or_else(|| refuse("the registry states no integrity, only a SHA-1 at most"))?;
        let (sha512, _) =
            integrity::sha512(integrity).ok_or_else(|| refuse("its integrity has no SHA-512 that can be read"))?;
        let signatures = &manifest.dist.signatures;
        if signatures.len() > MOST_SIGNATURES {
            return Err(refuse("the registry states more signatures than one version has"));
        }
        let (signed_by, published) = self.signer(name, wanted, integrity, signatures).await?;
        let url = document.url.join(&manifest.dist.tarball).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| refuse("what it calls its tarball is not the address of a file"))?;
        let expected = Expected { sha256: expected.map(str::to_owned), sha512: Some(sha512), size: None };
        let blobs = &self.context.blobs;
        let blob = self.context.fetcher.download(url.as_str(), LONGEST_TARBALL, &expected, blobs).await?;
        Ok(Obtained {
            size: blob.size,
            file_name,
            evidence: Evidence::Npm {
                package: name.to_owned(),
                version: wanted.to_owned(),
                document_sha256: document.sha256.clone(),
                integrity: integrity.to_owned(),
                signed_by,
                signatures: signatures.clone(),
                published,
                sha256: blob.sha256.clone(),
            },
            sha256: blob.sha256,
        })
    }
}

fn read<T: serde::de::DeserializeOwned>(url: &Url, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Index {
        url: url.to_string(),
        line: error.line() as u64,
        reason: format!("it is not what an npm registry answers: {error}"),
    })
}

/// The name as the registry has it, `@SCOPE/NAME` or `NAME`.
fn package(source: &SourceUri) -> Result<(String, &PackageUrl)> {
    let refuse = |reason: &str| Error::Unsupported { subject: source.to_string(), reason: reason.to_owned() };
    let SourceUri::Package(package) = source else {
        return Err(refuse("it is no package URL"));
    };
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    };
    let name = match package.namespace() {
        None => package.name().to_owned(),
        Some(scope) if scope.strip_prefix('@').is_some_and(plain) => format!("{scope}/{}", package.name()),
        Some(_) => return Err(refuse("what stands before the name is not a scope, which begins with `@`")),
    };
    if !plain(package.name()) || name.len() > LONGEST_NAME {
        return Err(refuse("it is not the name of an npm package"));
    }
    Ok((name, package))
}

/// Why a version is not among those that its maintainers offer to everybody, if so.
fn prerelease(version: &Version, latest: Option<&Version>) -> Option<String> {
    if !version.pre.is_empty() {
        return Some("a pre-release".to_owned());
    }
    let latest = latest.filter(|latest| latest.pre.is_empty() && version > *latest)?;
    Some(format!("above `{latest}`, which its maintainers call `{LATEST}`"))
}

fn deprecation(stated: &serde_json::Value) -> Option<String> {
    match stated {
        serde_json::Value::String(reason) if !reason.is_empty() => Some(format!("deprecated: {reason}")),
        serde_json::Value::Bool(true) => Some("deprecated".to_owned()),
        _ => None,
    }
}

fn newest<'a>(versions: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut versions: Vec<Version> = versions.filter_map(|version| Version::parse(version).ok()).collect();
    versions.sort();
    versions.iter().rev().take(20).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_scope_or_none() {
        for (text, name) in [
            ("pkg:npm/left-pad@1.3.0", "left-pad"),
            ("pkg:npm/%40types/node@1.0.0", "@types/node"),
            ("pkg:npm/@types/node@1.0.0", "@types/node"),
        ] {
            let source: SourceUri = text.parse().unwrap();
            assert_eq!(package(&source).unwrap().0, name, "{text}");
        }
        for text in ["pkg:npm/types/node", "pkg:npm/%40a/b/c", "pkg:npm/.hidden", "pkg:npm/a%2Fb", "pkg:npm/a%3Fb"] {
            let source: SourceUri = text.parse().unwrap_or(SourceUri::Address(String::new()));
            assert!(package(&source).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_above_latest_is_not_for_everybody() {
        let version = |text: &str| Version::parse(text).unwrap();
        let latest = version("2.1.0");
        assert_eq!(prerelease(&version("2.1.0"), Some(&latest)), None);
        assert_eq!(prerelease(&version("1.0.0"), None), None);
        assert!(prerelease(&version("3.0.0"), Some(&latest)).unwrap().contains("`2.1.0`"));
        assert_eq!(prerelease(&version("2.1.0-rc.1"), None).as_deref(), Some("a pre-release"));
        assert_eq!(prerelease(&version("3.0.0"), Some(&version("3.0.0-rc.1"))), None);
    }
}
