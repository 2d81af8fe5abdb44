//! cargo registries: the sparse index (cargo book, "Registry Index"), and the crates.

use async_trait::async_trait;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::fetcher::{Expected, check_digest};
use crate::filter::Candidate;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::source::{PackageUrl, SourceUri};
use crate::store::is_sha256_hex;

const LONGEST_CONFIGURATION: u64 = 64 * 1024;
const LONGEST_INDEX: u64 = 32 * 1024 * 1024;
const LONGEST_CRATE: u64 = 512 * 1024 * 1024;
const LONGEST_NAME: usize = 64;

/// Crates of the registry that this machine's cargo uses.
pub struct Crates {
    context: Context,
}

/// `config.json` of a sparse index.
#[derive(Deserialize)]
struct Configuration {
    dl: String,
    #[serde(rename = "auth-required", default)]
    auth_required: bool,
}

/// One line of a crate's index file.
#[derive(Deserialize)]
struct Line {
    name: String,
    vers: String,
    cksum: String,
    #[serde(default)]
    yanked: bool,
}

struct CrateIndex {
    place: String,
    sha256: String,
    lines: Vec<Line>,
}

impl Crates {
    /// A provider working with `context`.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn index(&self, name: &str) -> Result<CrateIndex> {
        let path = index_path(name)?;
        let url = format!("{}{path}", self.context.endpoints.cargo().await?);
        let document = self.context.fetcher.document(&url, LONGEST_INDEX).await;
        let document = document.map_err(|error| match error {
            Error::Status { status: 404 | 410 | 451, .. } => {
                Error::UnknownPackage { package: name.to_owned(), place: url.clone() }
            }
            other => other,
        })?;
        let mut lines = Vec::new();
        for (number, line) in document.bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let fail = |reason: String| Error::Index { url: url.clone(), line: number as u64 + 1, reason };
            let line: Line = serde_json::from_slice(line).map_err(|error| fail(error.to_string()))?;
            if !line.name.eq_ignore_ascii_case(name) {
                return Err(fail(format!("it is about `{}`, not `{name}`", line.name)));
            }
            if !is_sha256_hex(&line.cksum) {
                return Err(fail(format!("`{}` is no SHA-256", line.cksum)));
            }
            lines.push(line);
        }
        Ok(CrateIndex { place: url, sha256: document.sha256, lines })
    }

    async fn download_address(&self, line: &Line) -> Result<String> {
        let url = format!("{}config.json", self.context.endpoints.cargo().await?);
        let document = self.context.fetcher.document(&url, LONGEST_CONFIGURATION).await?;
        let configuration: Configuration = serde_json::from_slice(&document.bytes).map_err(|error| Error::Index {
            url: url.clone(),
            line: error.line() as u64,
            reason: error.to_string(),
        })?;
        if configuration.auth_required {
            return Err(Error::Unsupported {
                subject: url,
                reason: "the registry wants a token; name a public one under `[endpoints] cargo`".to_owned(),
            });
        }
        Ok(expand(&configuration.dl, line))
    }
}

#[async_trait]
impl Provider for Crates {
    fn name(&self) -> &'static str {
        "cargo"
    }

    fn handles(&self, source: &SourceUri) -> bool {
        matches!(source, SourceUri::Package(package) if package.kind() == "cargo")
    }

    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>> {
        let package = package(source)?;
        let index = self.index(package.name()).await?;
        Ok(index
            .lines
            .iter()
            .map(|line| {
                let version = semver::Version::parse(&line.vers);
                let malformed = version.is_err().then(|| "not a semantic version".to_owned());
                let prerelease = version.is_ok_and(|version| !version.pre.is_empty());
                Candidate {
                    prerelease: prerelease.then(|| "a pre-release".to_owned()),
                    withdrawn: line.yanked.then(|| "yanked".to_owned()).or(malformed),
                    ..Candidate::new(line.vers.as_str())
                }
            })
            .collect())
    }

    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained> {
        let package = package(source)?;
        let wanted = package.required_version()?;
        semver::Version::parse(wanted)
            .map_err(|error| Error::Version { text: wanted.to_owned(), reason: error.to_string() })?;
        let index = self.index(package.name()).await?;
        let line = index.lines.iter().find(|line| line.vers == wanted);
        let line = line.ok_or_else(|| Error::UnknownVersion {
            package: package.name().to_owned(),
            version: wanted.to_owned(),
            place: index.place.clone(),
            available: newest_versions(&index.lines),
        })?;
        let file_name = format!("{}-{}.crate", line.name, line.vers);
        check_digest(&file_name, expected, &line.cksum)?;
        let url = self.download_address(line).await?;
        let wanted = Expected { sha256: Some(line.cksum.clone()), size: None, ..Expected::default() };
        let blob = self.context.fetcher.download(&url, LONGEST_CRATE, &wanted, &self.context.blobs).await?;
        Ok(Obtained {
            sha256: blob.sha256,
            size: blob.size,
            file_name,
            evidence: Evidence::Cargo {
                package: line.name.clone(),
                version: line.vers.clone(),
                index_sha256: index.sha256,
                sha256: line.cksum.clone(),
            },
        })
    }
}

fn package(source: &SourceUri) -> Result<&PackageUrl> {
    match source {
        SourceUri::Package(package) => Ok(package),
        SourceUri::Address(address) => {
            Err(Error::Unsupported { subject: address.clone(), reason: "it is no package URL".to_owned() })
        }
    }
}

fn newest_versions(lines: &[Line]) -> Vec<String> {
    let mut versions: Vec<_> = lines.iter().filter_map(|line| semver::Version::parse(&line.vers).ok()).collect();
    versions.sort();
    versions.iter().rev().take(20).map(ToString::to_string).collect()
}

/// Path of a crate's file below the index's base.
fn index_path(name: &str) -> Result<String> {
    let plain = name.starts_with(|character: char| character.is_ascii_alphanumeric())
        && name.len() <= LONGEST_NAME
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !plain {
        return Err(Error::Source { text: name.to_owned(), reason: "it is not the name of a crate".to_owned() });
    }
    let lower = name.to_ascii_lowercase();
    Ok(format!("{}/{lower}", prefix(&lower)))
}

/// The folder that the index puts a crate in, by the length of its name.
fn prefix(name: &str) -> String {
    let part = |range: std::ops::Range<usize>| name.get(range).unwrap_or_default();
    match name.len() {
        0..=2 => name.len().to_string(),
        3 => format!("3/{}", part(0..1)),
        _ => format!("{}/{}", part(0..2), part(2..4)),
    }
}

fn expand(template: &str, line: &Line) -> String {
    let markers = [
        ("{crate}", line.name.clone()),
        ("{version}", line.vers.clone()),
        ("{prefix}", prefix(&line.name)),
        ("{lowerprefix}", prefix(&line.name.to_ascii_lowercase())),
        ("{sha256-checksum}", line.cksum.clone()),
    ];
    if !markers.iter().any(|(marker, _)| template.contains(marker)) {
        let base = template.trim_end_matches('/');
        return format!("{base}/{}/{}/download", line.name, line.vers);
    }
    markers.iter().fold(template.to_owned(), |text, (marker, value)| text.replace(marker, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_paths_go_by_the_length_of_the_name() {
        for (name, path) in [
            ("a", "1/a"),
            ("ab", "2/ab"),
            ("Abc", "3/a/abc"),
            ("ripgrep", "ri/pg/ripgrep"),
            ("Inflector", "in/fl/inflector"),
        ] {
            assert_eq!(index_path(name).unwrap(), path);
        }
        for name in ["", "../x", "a/b", "-a", "é"] {
            assert!(index_path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn download_addresses_follow_the_template() {
        let line: Line = serde_json::from_str(r#"{"name":"Foo_x","vers":"1.2.3+b","cksum":"00"}"#).unwrap();
        assert_eq!(expand("http://localhost/dl", &line), "http://localhost/dl/Foo_x/1.2.3+b/download");
        assert_eq!(
            expand("http://localhost/{lowerprefix}/{crate}-{version}.crate", &line),
            "http://localhost/fo/o_/Foo_x-1.2.3+b.crate"
        );
    }
}
