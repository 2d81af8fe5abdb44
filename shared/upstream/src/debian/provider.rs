//! The Debian provider.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use authenticity::{Keyring, Signer};
use bytes::Bytes;
use debian_version::DebianVersion;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use super::keyring;
use super::release::{Listed, Release};
use super::sources::{SourceArchive, SourceIndex};
use crate::endpoints::{DebianArchive, is_path_part};
use crate::error::{Error, Result};
use crate::fetcher::{Expected, run_blocking};
use crate::filter::Candidate;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::source::{PackageUrl, SourceUri};
use crate::store::{self, BlobStore, sha256_hex};

const LONGEST_RELEASE: u64 = 1024 * 1024;
const LONGEST_DATE: u64 = 64;
const LONGEST_SOURCES: u64 = 256 * 1024 * 1024;
const LONGEST_SIGNATURE: u64 = 1024 * 1024;
const LONGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;

/// How the Debian provider judges release files.
#[derive(Debug, Clone)]
pub struct DebianOptions {
    /// Let a release file whose `Valid-Until` has passed count.
    pub allow_expired: bool,
    /// How long a suite that was checked is used before the archive is asked again.
    pub revalidate_after: Duration,
}

impl Default for DebianOptions {
    fn default() -> Self {
        Self { allow_expired: false, revalidate_after: Duration::from_secs(300) }
    }
}

/// Source packages of a Debian archive.
pub struct Debian {
    context: Context,
    options: DebianOptions,
    keyring: OnceCell<Arc<Keyring>>,
    suites: Mutex<HashMap<String, Arc<Mutex<Option<Checked>>>>>,
}

/// A suite and when it was checked.
struct Checked {
    at: Instant,
    suite: Arc<Suite>,
}

/// A suite whose release file is verified, with its source indexes.
struct Suite {
    name: String,
    in_release_sha256: String,
    date: Timestamp,
    signers: Vec<Signer>,
    components: Vec<Component>,
}

struct Component {
    sources: String,
    sources_sha256: String,
    index: Arc<SourceIndex>,
}

/// A source archive found, and where.
struct Found {
    suite: Arc<Suite>,
    sources: String,
    sources_sha256: String,
    version: DebianVersion,
    archive: SourceArchive,
}

impl Debian {
    /// A provider working with `context`.
    pub fn new(context: Context, options: DebianOptions) -> Self {
        Self { context, options, keyring: OnceCell::new(), suites: Mutex::new(HashMap::new()) }
    }

    /// Every version of the source package, newest first: in the suite that the package URL's
    /// `distro` names, else in the configured ones.
    async fn find(&self, package: &PackageUrl) -> Result<(Vec<Found>, DebianArchive)> {
        let mut archive = self.context.endpoints.debian()?;
        if let Some(suite) = package.qualifier("distro") {
            archive.suites = vec![checked_suite(package, suite)?];
        }
        let mut found = Vec::new();
        for name in &archive.suites {
            let suite = self.suite(&archive, name).await?;
            for component in &suite.components {
                for source in component.index.find(package.name()) {
                    found.push(Found {
                        suite: suite.clone(),
                        sources: component.sources.clone(),
                        sources_sha256: component.sources_sha256.clone(),
                        version: source.version.parse()?,
                        archive: source,
                    });
                }
            }
        }
        if found.is_empty() {
            return Err(Error::UnknownPackage { package: package.name().to_owned(), place: place(&archive) });
        }
        found.sort_by(|left, right| right.version.compare(&left.version));
        Ok((found, archive))
    }

    /// The suite, verified not longer ago than the options allow. Callers at the same time share
    /// one check.
    async fn suite(&self, archive: &DebianArchive, name: &str) -> Result<Arc<Suite>> {
        let slot = self.suites.lock().await.entry(name.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        let last = slot.take();
        if let Some(checked) = &last
            && checked.at.elapsed() < self.options.revalidate_after
        {
            let suite = checked.suite.clone();
            *slot = last;
            return Ok(suite);
        }
        let last = last.map(|checked| checked.suite);
        let suite = Arc::new(self.check_suite(archive, name, last.as_deref()).await?);
        *slot = Some(Checked { at: Instant::now(), suite: suite.clone() });
        Ok(suite)
    }

    async fn check_suite(&self, archive: &DebianArchive, name: &str, last: Option<&Suite>) -> Result<Suite> {
        let folder = format!("{}/dists/{name}", archive.base);
        let url = format!("{folder}/InRelease");
        let document = match self.context.fetcher.document(&url, LONGEST_RELEASE).await {
            Err(Error::Status { status: 404, .. }) => {
                return Err(Error::Unsigned {
                    url,
                    reason: format!(
                        "the archive has no `InRelease` for the suite `{name}`; an unsigned \
                         `Release` is not trusted"
                    ),
                    kept: None,
                });
            }
            other => other?,
        };
        let now = (self.context.clock)();
        let keyring = self.keyring(archive).await?;
        let (bytes, of, cache) = (document.bytes, url.clone(), self.context.cache.clone());
        let verified = run_blocking(move || match keyring::verify(&keyring, &of, &bytes, now) {
            Err(error) => Err(error.keeping(store::keep_refused(&cache, &bytes)?)),
            verified => verified,
        })
        .await?;
        let honour_expiry = !self.options.allow_expired;
        let release = Release::parse(&url, &verified.text, name, now, honour_expiry)?;
        let seen = self.folder().join(format!("seen-{}", sha256_hex(url.as_bytes())));
        let (of, date) = (url.clone(), release.date);
        run_blocking(move || never_older(&of, &seen, date)).await?;
        let mut components = Vec::new();
        for component in &archive.components {
            let (sources, listed) = sources_of(&url, &release, component)?;
            let known = last
                .and_then(|suite| suite.components.iter().find(|known| known.sources_sha256 == listed.sha256))
                .map(|known| known.index.clone());
            let index = match known {
                Some(index) => index,
                None => Arc::new(self.index(&folder, &sources, listed, release.by_hash).await?),
            };
            let sources_sha256 = listed.sha256.clone();
            components.push(Component { sources, sources_sha256, index });
        }
        Ok(Suite {
            name: name.to_owned(),
            in_release_sha256: document.sha256,
            date: release.date,
            signers: verified.signers,
            components,
        })
    }

    async fn keyring(&self, archive: &DebianArchive) -> Result<Arc<Keyring>> {
        let paths = archive.keyrings.clone();
        let load = || run_blocking(move || keyring::load(&paths).map(Arc::new));
        self.keyring.get_or_try_init(load).await.cloned()
    }

    /// The source index with the listed digest: from the compact form kept of it, else downloaded.
    async fn index(&self, folder: &str, path: &str, listed: &Listed, by_hash: bool) -> Result<SourceIndex> {
        let compact = self.compact_path(&listed.sha256);
        let (kept, origin) = (compact.clone(), listed.sha256.clone());
        if let Some(index) = run_blocking(move || SourceIndex::load(&kept, &origin)).await? {
            return Ok(index);
        }
        let url = if by_hash {
            let (parent, _) = path.rsplit_once('/').unwrap_or_default();
            format!("{folder}/{parent}/by-hash/SHA256/{}", listed.sha256)
        } else {
            format!("{folder}/{path}")
        };
        let expected = Expected { sha256: Some(listed.sha256.clone()), size: Some(listed.size), ..Expected::default() };
        let store = BlobStore::new(self.folder());
        let blob = self.context.fetcher.download(&url, LONGEST_SOURCES, &expected, &store).await?;
        let (name, origin) = (format!("{folder}/{path}"), listed.sha256.clone());
        run_blocking(move || {
            let index = SourceIndex::extract(&name, &blob.path, &origin, &compact);
            std::fs::remove_file(&blob.path).map_err(Error::io("remove", &blob.path))?;
            index
        })
        .await
    }

    fn folder(&self) -> PathBuf {
        self.context.cache.join("debian")
    }

    fn compact_path(&self, sha256: &str) -> PathBuf {
        self.folder().join(format!("sources-{sha256}"))
    }
}

#[async_trait]
impl Provider for Debian {
    fn name(&self) -> &'static str {
        "debian"
    }

    fn handles(&self, source: &SourceUri) -> bool {
        matches!(source, SourceUri::Package(package)
            if package.kind() == "deb" && package.namespace() == Some("debian"))
    }

    async fn candidates(&self, source: &SourceUri) -> Result<Vec<Candidate>> {
        let (found, _) = self.find(package(source)?).await?;
        Ok(found
            .into_iter()
            .map(|found| Candidate {
                version: found.version.upstream_version().to_owned(),
                epoch: found.version.epoch(),
                prerelease: found.version.unreleased().map(str::to_owned),
                label: Some(found.archive.version),
                place: Some(found.suite.name.clone()),
                ..Candidate::default()
            })
            .collect())
    }

    async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Obtained> {
        let package = package(source)?;
        let version = package.required_version()?;
        let (found, archive) = self.find(package).await?;
        let Found { suite, sources, sources_sha256, archive: file, .. } =
            select(package, version, expected, &found, &archive)?;
        crate::fetcher::check_digest(&file.path, expected, &file.sha256)?;
        let url = format!("{}/{}", archive.base, file.path);
        let wanted = Expected { sha256: Some(file.sha256.clone()), size: Some(file.size), ..Expected::default() };
        let blob = self.context.fetcher.download(&url, LONGEST_FILE, &wanted, &self.context.blobs).await?;
        Ok(Obtained {
            sha256: blob.sha256,
            size: blob.size,
            file_name: file.path.rsplit('/').next().unwrap_or_default().to_owned(),
            evidence: Evidence::Debian {
                suite: suite.name.clone(),
                in_release_sha256: suite.in_release_sha256.clone(),
                release_date: suite.date,
                signers: suite.signers.clone(),
                sources: sources.clone(),
                sources_sha256: sources_sha256.clone(),
                package: package.name().to_owned(),
                version: file.version.clone(),
                file: file.path.clone(),
                sha256: file.sha256.clone(),
            },
        })
    }

    /// The archive keeps the signature of upstream's archive beside it, as `ARCHIVE.asc`.
    async fn upstream_signature(&self, source: &SourceUri, sha256: &str) -> Result<Option<Bytes>> {
        let package = package(source)?;
        let (found, archive) = self.find(package).await?;
        let found = select(package, package.required_version()?, Some(sha256), &found, &archive)?;
        let url = format!("{}/{}.asc", archive.base, found.archive.path);
        match self.context.fetcher.document(&url, LONGEST_SIGNATURE).await {
            Ok(document) => Ok(Some(document.bytes)),
            Err(Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The source of a version: the one that has the expected digest, when there is one.
fn select<'a>(
    package: &PackageUrl,
    version: &str,
    expected: Option<&str>,
    found: &'a [Found],
    archive: &DebianArchive,
) -> Result<&'a Found> {
    let mut matching: Vec<&Found> = found
        .iter()
        .filter(|found| {
            [found.version.upstream_version(), found.version.upstream_part()].contains(&version)
                || found.archive.version == version
        })
        .collect();
    if matching.is_empty() {
        let mut available = Vec::new();
        for found in found {
            let version = found.version.upstream_version().to_owned();
            if !available.contains(&version) {
                available.push(version);
            }
        }
        return Err(Error::UnknownVersion {
            package: package.name().to_owned(),
            version: version.to_owned(),
            place: place(archive),
            available,
        });
    }
    // Two Debian versions of one upstream version can hold different archives (repacked, or
    // native); the digest that the definition states says which is meant.
    matching.sort_by_key(|found| expected.is_some_and(|sha256| sha256 != found.archive.sha256));
    matching
        .first()
        .copied()
        .ok_or_else(|| Error::UnknownPackage { package: package.name().to_owned(), place: place(archive) })
}

fn place(archive: &DebianArchive) -> String {
    format!("the Debian suites {}", archive.suites.join(", "))
}

fn package(source: &SourceUri) -> Result<&PackageUrl> {
    let refuse = |reason: &str| Error::Unsupported { subject: source.to_string(), reason: reason.to_owned() };
    let SourceUri::Package(package) = source else {
        return Err(refuse("it is no package URL"));
    };
    if package.qualifier("arch") != Some("source") {
        return Err(refuse("only source packages are fetched; add `?arch=source`"));
    }
    Ok(package)
}

/// Refuses a release file dated before one that was seen earlier, and notes its date. A suite
/// without `Valid-Until`, as Debian's stable is, has no other guard against the replay of an old
/// release file.
fn never_older(url: &str, seen: &Path, date: Timestamp) -> Result<()> {
    let last = store::read_bounded(seen, LONGEST_DATE)?
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.trim().parse::<Timestamp>().ok());
    match last {
        Some(last) if date < last => Err(Error::Release {
            url: url.to_owned(),
            reason: format!(
                "dated {date}, older than the one of {last} that was seen before; the mirror is out of date, or an \
                 old release file is replayed"
            ),
        }),
        Some(last) if date == last => Ok(()),
        _ => store::write_atomically(seen, format!("{date}\n").as_bytes()),
    }
}

fn checked_suite(package: &PackageUrl, suite: &str) -> Result<String> {
    if is_path_part(suite) {
        return Ok(suite.to_owned());
    }
    Err(Error::Source { text: package.to_string(), reason: format!("`distro={suite}` is not the name of a suite") })
}

/// The source index that the release lists for a component, in its smallest form.
fn sources_of<'a>(url: &str, release: &'a Release, component: &str) -> Result<(String, &'a Listed)> {
    [".xz", ".gz", ""]
        .iter()
        .map(|ending| format!("{component}/source/Sources{ending}"))
        .find_map(|path| release.file(&path).map(|listed| (path, listed)))
        .ok_or_else(|| Error::Release {
            url: url.to_owned(),
            reason: format!("it lists no source index for the component `{component}`"),
        })
}
