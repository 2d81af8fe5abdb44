//! The crate's face: checks what is newest, and fetches what is proved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::crates::Crates;
use crate::debian::{Debian, DebianOptions};
use crate::direct::Direct;
use crate::endpoints::Endpoints;
use crate::error::{Error, Result};
use crate::fetcher::{Expected, FetchOptions, Fetcher, check_digest, run_blocking, stored};
use crate::filter::{Candidate, Decision, Rules, Verdict, choose};
use crate::git_source::{GitCheckout, GitSources, LONGEST_SIGNED_OBJECT, OwnTree};
use crate::monitor::{
    Git, GitAddress, GitHub, GitHubListing, GitLab, GitLabListing, GitLabProject, Monitored, Oci, ReleaseMonitor,
    web_page_candidates,
};
use crate::mtime::source_date_epoch;
use crate::npm::Npm;
use crate::provider::{Context, Evidence, Obtained, Provider};
use crate::pypi::Pypi;
use crate::source::SourceUri;
use crate::store::{self, BlobStore, SHA512_DIGITS, is_hex, sha256_hex};

const LONGEST_RECORD: u64 = 1024 * 1024;
const LONGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;
const MOST_WITHOUT_COMMIT: usize = 10;

/// How upstreams are asked.
#[derive(Clone)]
pub struct Options {
    /// The HTTP client.
    pub fetch: FetchOptions,
    /// The Debian provider.
    pub debian: DebianOptions,
    /// Within which time a git repository must have listed its tags.
    pub git_timeout: Duration,
    /// Within which time each command that fetches a git source must have ended.
    pub git_fetch_timeout: Duration,
    /// The time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fetch: FetchOptions::default(),
            debian: DebianOptions::default(),
            git_timeout: Duration::from_secs(120),
            git_fetch_timeout: Duration::from_secs(900),
            clock: Arc::new(Timestamp::now),
        }
    }
}

/// A package that is watched.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Where its releases are listed.
    pub monitored: Monitored,
    /// The version that the definition has, without revision.
    pub current: Option<String>,
    /// The definition's `update:` rules.
    pub rules: Rules,
    /// What releases were seen before, by their names in the upstream project's words: their
    /// commits or digests. One that is another now is never chosen.
    pub seen: BTreeMap<String, String>,
}

impl Watch {
    /// A watch for the newest release of all, by no rules.
    pub fn new(monitored: impl Into<Monitored>) -> Self {
        Self { monitored: monitored.into(), current: None, rules: Rules::default(), seen: BTreeMap::new() }
    }
}

/// A source file, fetched and proved.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// The file, named by its digest.
    pub path: PathBuf,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
    /// The name that the ecosystem gives the file.
    pub file_name: String,
    /// The proof.
    pub evidence: Evidence,
}

impl Fetched {
    /// Newest modification time in the file if it is a tar archive, in seconds since 1970; this
    /// is what `SOURCE_DATE_EPOCH` is set to. Reads the whole file, so not on an async thread.
    pub fn newest_mtime(&self) -> Result<i64> {
        source_date_epoch(&self.path)
    }
}

/// What a download turned out to be, without proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computed {
    /// The file, named by its digest.
    pub path: PathBuf,
    /// The last part of its address.
    pub file_name: String,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// SHA-512, lower-case hexadecimal.
    pub sha512: String,
    /// Length in bytes.
    pub size: u64,
}

/// What is remembered of a fetch, so that the same bytes are never proved twice.
#[derive(Serialize, Deserialize)]
struct Record {
    source: String,
    sha256: String,
    size: u64,
    file_name: String,
    evidence: Evidence,
    /// SHA-512 of the file, where it was asked for by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha512: Option<String>,
}

/// Every provider behind one face. Safe for many callers at once.
pub struct Upstreams {
    context: Context,
    providers: Vec<Arc<dyn Provider>>,
    github: GitHub,
    gitlab: GitLab,
    release_monitor: ReleaseMonitor,
    git: Git,
    git_sources: GitSources,
    oci: Oci,
}

impl Upstreams {
    /// Upstreams at `endpoints`, keeping what they fetch under `cache`: `http/` for documents,
    /// `sources/` for files by digest, `evidence/` for the proofs, `debian/` for source indexes.
    pub fn new(endpoints: Endpoints, cache: &Path, options: Options) -> Result<Self> {
        let context = Context {
            endpoints: Arc::new(endpoints),
            fetcher: Arc::new(Fetcher::new(cache.join("http"), options.fetch, options.clock.clone())?),
            blobs: BlobStore::new(cache.join("sources")),
            cache: cache.to_owned(),
            clock: options.clock,
        };
        let mut upstreams = Self {
            github: GitHub::new(context.clone()),
            gitlab: GitLab::new(context.clone()),
            release_monitor: ReleaseMonitor::new(context.clone()),
            git: Git::new(context.clone(), options.git_timeout),
            git_sources: GitSources::new(context.clone(), options.git_fetch_timeout),
            oci: Oci::new(context.clone()),
            providers: Vec::new(),
            context: context.clone(),
        };
        upstreams.add(Arc::new(Debian::new(context.clone(), options.debian)));
        upstreams.add(Arc::new(Crates::new(context.clone())));
        upstreams.add(Arc::new(Pypi::new(context.clone())));
        upstreams.add(Arc::new(Npm::new(context.clone())));
        upstreams.add(Arc::new(Direct::new(context)));
        Ok(upstreams)
    }

    /// What providers work with.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Adds a provider. The first added that handles a source answers for it.
    pub fn add(&mut self, provider: Arc<dyn Provider>) {
        self.providers.push(provider);
    }

    /// Whether there is a newer release than the current one, and why each candidate was taken or
    /// passed over.
    ///
    /// # Errors
    /// Besides what asking brings, a list without any release ([`Error::NoReleases`]) and a rule
    /// that can't be used.
    pub async fn check(&self, watch: &Watch) -> Result<Decision> {
        let mut candidates = self.candidates(watch).await?;
        for candidate in &mut candidates {
            self.compare(watch, candidate).await?;
        }
        for _ in 0..MOST_WITHOUT_COMMIT {
            let decision = choose(&candidates, &watch.rules, watch.current.as_deref())?;
            // GitHub's releases don't say their commits; only that of the release to build is asked.
            let (Some(chosen), Monitored::GitHub { repository, .. }) = (&decision.chosen, &watch.monitored) else {
                return Ok(decision);
            };
            let candidate = candidates.iter_mut().find(|candidate| candidate.version == chosen.upstream);
            let Some(candidate) = candidate.filter(|candidate| candidate.commit.is_none()) else {
                return Ok(decision);
            };
            candidate.commit = self.github.commit(repository, &chosen.upstream).await?;
            if candidate.commit.is_none() {
                candidate.withdrawn = Some("its tag points to no commit".to_owned());
            }
            self.compare(watch, candidate).await?;
        }
        Err(Error::Listing {
            url: watch.monitored.to_string(),
            reason: format!("the tags of its {MOST_WITHOUT_COMMIT} newest releases point to no commit"),
        })
    }

    /// Marks a candidate that is another than was seen under its name.
    async fn compare(&self, watch: &Watch, candidate: &mut Candidate) -> Result<()> {
        let Some(seen) = watch.seen.get(&candidate.version) else {
            return Ok(());
        };
        candidate.compare(seen);
        // A definition may state an annotated tag's own object, which lists of GitHub don't say.
        if let (true, None, Monitored::GitHub { repository, .. }) =
            (candidate.republished.is_some(), &candidate.tag_object, &watch.monitored)
        {
            candidate.tag_object = self.github.tag_object(repository, &candidate.version).await?;
            candidate.republished = None;
            candidate.compare(seen);
        }
        Ok(())
    }

    /// The commit of a tag in any git repository; `None` when there is no such tag.
    pub async fn tag_commit(&self, repository: &GitAddress, tag: &str) -> Result<Option<String>> {
        self.git.commit(repository, tag).await
    }

    /// Downloads a plain address without anything to prove it by; the digests that are found are
    /// computed, not proved.
    pub async fn compute(&self, source: &SourceUri) -> Result<Computed> {
        let SourceUri::Address(address) = source else {
            let reason = "its ecosystem proves it; fetch it".to_owned();
            return Err(Error::Unsupported { subject: source.to_string(), reason });
        };
        let blobs = &self.context.blobs;
        let blob = self.context.fetcher.download(address, LONGEST_FILE, &Expected::default(), blobs).await?;
        let (path, sha256) = (blob.path.clone(), blob.sha256.clone());
        let sha512 = run_blocking(move || store::sha512_hex(&path)).await?;
        let file_name = crate::direct::file_name(address).to_owned();
        Ok(Computed { path: blob.path, file_name, sha256, sha512, size: blob.size })
    }

    async fn candidates(&self, watch: &Watch) -> Result<Vec<Candidate>> {
        let monitored = &watch.monitored;
        let (candidates, advice) = match monitored {
            Monitored::Source(source) => return self.provider(source)?.candidates(source).await,
            Monitored::GitHub { repository, listing } => {
                let advice = match listing {
                    GitHubListing::Releases => "if it has tags only, set `use-tag: true`",
                    GitHubListing::Tags => "check its `identifier`",
                };
                let enough = |read: &[Candidate]| {
                    let decision = choose(read, &watch.rules, watch.current.as_deref())?;
                    Ok(decision.considered.iter().any(|one| one.verdict == Verdict::Current))
                };
                (self.github.candidates(repository, *listing, enough).await?, advice)
            }
            Monitored::ReleaseMonitor(project) => {
                (self.release_monitor.candidates(*project).await?, "check its `identifier`")
            }
            Monitored::Oci(repository) => (self.oci.candidates(repository).await?, "check its `identifier`"),
            Monitored::GitLab { project, listing } => {
                (self.gitlab.candidates(project, *listing).await?, "if it has tags only, set `use-tag: true`")
            }
            Monitored::Page(page) => {
                (web_page_candidates(&self.context, page).await?, "its `pattern` matches nothing on the page")
            }
            Monitored::Git(address) => {
                let project = GitLabProject::new(address.as_str()).ok();
                let project = project.filter(|project| self.context.endpoints.is_gitlab(project));
                let candidates = match &project {
                    Some(project) => self.gitlab.candidates(project, GitLabListing::Tags).await?,
                    None => self.git.candidates(address).await?,
                };
                (candidates, "name another provider if it has no tags")
            }
        };
        if candidates.is_empty() {
            return Err(Error::NoReleases { subject: monitored.to_string(), advice });
        }
        Ok(candidates)
    }

    /// Fetches a source and proves it by its ecosystem's chain. With `expected`, a SHA-256 or
    /// SHA-512 in hexadecimal, the bytes must have that digest too, and a source that was fetched
    /// and proved before is answered from the store without asking anyone.
    pub async fn fetch(&self, source: &SourceUri, expected: Option<&str>) -> Result<Fetched> {
        let expected = expected.map(str::to_ascii_lowercase);
        if let Some(text) =
            expected.as_deref().filter(|text| !matches!(text.len(), 64 | SHA512_DIGITS) || !is_hex(text))
        {
            return Err(Error::Source {
                text: text.to_owned(),
                reason: "`expected-sha256` must be 64 hexadecimal digits, `expected-sha512` 128".to_owned(),
            });
        }
        let provider = self.provider(source)?;
        let identity = source.to_string();
        let record = self.record_path(&identity);
        if let Some(digest) = &expected
            && let Some(fetched) = self.recall(&record, &identity, Some(digest)).await?
        {
            return Ok(fetched);
        }
        let sha512 = expected.clone().filter(|text| text.len() == SHA512_DIGITS);
        // The chains of ecosystems speak of SHA-256.
        let asked = expected.as_deref().filter(|_| sha512.is_none() || matches!(source, SourceUri::Address(_)));
        let obtained = provider.fetch(source, asked).await?;
        tracing::debug!(provider = provider.name(), %source, sha256 = obtained.sha256, "fetched");
        if let Some(expected) = &sha512 {
            let path = self.context.blobs.path(&obtained.sha256);
            let kept = path.clone();
            let found = run_blocking(move || store::sha512_hex(&path)).await?;
            check_digest(&obtained.file_name, Some(expected), &found).map_err(|error| error.keeping(kept))?;
        }
        self.remember(&record, identity, obtained, sha512).await
    }

    /// Fetches a tree of a git repository as a tar and proves it by its commit. A tree that was
    /// fetched and proved before is answered from the store without asking anyone.
    ///
    /// # Errors
    /// [`Error::GitCommit`] when tag or branch don't lead to the commit; [`Error::GitTree`] when
    /// the tree can't be a source; [`Error::Git`] when the repository can't be asked.
    pub async fn fetch_git(&self, checkout: &GitCheckout) -> Result<Fetched> {
        let identity = checkout.identity();
        let record = self.record_path(&identity);
        if let Some(fetched) = self.recall(&record, &identity, None).await? {
            let kept = match &fetched.evidence {
                Evidence::Git { object_sha256: Some(sha256), .. } => self.git_object(sha256).await?.is_some(),
                _ => true,
            };
            if kept {
                return Ok(fetched);
            }
        }
        let obtained = self.git_sources.fetch(checkout).await?;
        tracing::debug!(source = identity, sha256 = obtained.sha256, "fetched");
        self.remember(&record, identity, obtained, None).await
    }

    /// Takes a folder of a repository on this machine as a tar, with the files beside and above it.
    pub async fn take_own_tree(&self, own: &OwnTree) -> Result<Fetched> {
        let identity = format!("own {own:?}");
        let record = self.record_path(&identity);
        match self.recall(&record, &identity, None).await? {
            Some(taken) => Ok(taken),
            None => self.remember(&record, identity, self.git_sources.take_own(own).await?, None).await,
        }
    }

    /// The bytes of the tag or commit that a git source's evidence names by its `objectSha256`;
    /// `None` when they are no longer kept.
    pub async fn git_object(&self, sha256: &str) -> Result<Option<Vec<u8>>> {
        let Some(blob) = stored(&self.context.blobs, sha256).await? else {
            return Ok(None);
        };
        run_blocking(move || store::read_bounded(&blob.path, LONGEST_SIGNED_OBJECT)).await
    }

    /// The attestations that the source's ecosystem publishes of it, not verified; `None` where
    /// there are none.
    pub async fn attestations(&self, source: &SourceUri) -> Result<Option<bytes::Bytes>> {
        self.provider(source)?.attestations(source).await
    }

    /// Upstream's own signature of a source with this SHA-256, not verified, where the source's
    /// ecosystem keeps it.
    pub async fn upstream_signature(&self, source: &SourceUri, sha256: &str) -> Result<Option<bytes::Bytes>> {
        self.provider(source)?.upstream_signature(source, sha256).await
    }

    fn provider(&self, source: &SourceUri) -> Result<&Arc<dyn Provider>> {
        self.providers.iter().find(|provider| provider.handles(source)).ok_or_else(|| {
            let names: Vec<_> = self.providers.iter().map(|provider| provider.name()).collect();
            Error::Unsupported {
                subject: source.to_string(),
                reason: format!("no provider for it; there are: {}", names.join(", ")),
            }
        })
    }

    fn record_path(&self, source: &str) -> PathBuf {
        let name = sha256_hex(source.as_bytes());
        self.context.cache.join("evidence").join(format!("{name}.json"))
    }

    async fn recall(&self, path: &Path, source: &str, digest: Option<&str>) -> Result<Option<Fetched>> {
        let Some(bytes) = store::read_bounded(path, LONGEST_RECORD)? else {
            return Ok(None);
        };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else {
            tracing::warn!(path = %path.display(), "kept evidence is damaged; proving again");
            return Ok(None);
        };
        let is_other = |digest: &str| record.sha256 != digest && record.sha512.as_deref() != Some(digest);
        if record.source != source || digest.is_some_and(is_other) {
            return Ok(None);
        }
        let Some(blob) = stored(&self.context.blobs, &record.sha256).await? else {
            return Ok(None);
        };
        Ok(Some(Fetched {
            path: blob.path,
            sha256: blob.sha256,
            size: blob.size,
            file_name: record.file_name,
            evidence: record.evidence,
        }))
    }

    async fn remember(
        &self,
        path: &Path,
        source: String,
        obtained: Obtained,
        sha512: Option<String>,
    ) -> Result<Fetched> {
        let Obtained { sha256, size, file_name, evidence } = obtained;
        let record = Record { source, sha256, size, file_name, evidence, sha512 };
        let target = path.to_owned();
        let record = run_blocking(move || {
            let bytes = serde_json::to_vec_pretty(&record)
                .map_err(|error| Error::io("write", &target)(std::io::Error::other(error)))?;
            store::write_atomically(&target, &bytes)?;
            Ok(record)
        })
        .await?;
        Ok(Fetched {
            path: self.context.blobs.path(&record.sha256),
            sha256: record.sha256,
            size: record.size,
            file_name: record.file_name,
            evidence: record.evidence,
        })
    }
}
