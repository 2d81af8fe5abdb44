//! A newer version written into its definition.

use std::path::Path;

use apk::Architecture;
use ports::{Condition, Document, Transaction, Write};
use recipe::{
    Expected, GitSource, NewChecksum, PackageDefinition, Source, VersionedSource, update_definition_text,
    versioned_sources,
};
use serde::{Deserialize, Serialize};
use upstream::{Chosen, GitAddress, SourceUri};

use crate::authenticity::{DefaultPolicy, Origin, Subject, Verdict, fetched, policy_of, prove};
use crate::record::{Event, FurtherSource, Upstream};
use crate::rules::releases::{Releases, Republished};
use crate::upstream_check::{releases_key, upstream_key};
use crate::watch::{self, Watched, classify, is_same};
use crate::{Context, StageError, build_sources, chain};

/// What a checksum of a new version rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// A proof that the package's policy names, or the ecosystem's own chain.
    Proved,
    /// The commit that the tag pointed to when it was first asked about: trust on first use.
    TagOnFirstUse,
    /// The bytes that the address gave when it was first asked: trust on first use.
    AddressOnFirstUse,
}

/// A definition's text for a newer version.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    /// The whole text, which differs in version, epoch and checksum only.
    Ready {
        /// The text.
        text: String,
        /// What it states of the source now.
        checksum: NewChecksum,
        /// What that rests on.
        basis: Basis,
        /// How the source was had, and what its ecosystem says of it.
        evidence: serde_json::Value,
        /// How it stands by the package's policy; none of a tag's commit that no policy asks about.
        authenticity: Option<Verdict>,
        /// The same of the further sources that follow the version, in the order of the text.
        further: Vec<FurtherSource>,
    },
    /// There is nothing that could be stated of the new source, and why not.
    Unproved(String),
}

/// The definition's text for the chosen release, with the checksum of each of its sources that follow
/// the version in place.
///
/// A source is proved by the package's policy before anything of it is taken: a package URL also
/// by its ecosystem. Without a policy, a git tag is taken at the commit that the provider or the
/// repository states, and a plain address at the bytes that it gives, both on first use; a later
/// change of a tag raises an alarm, and other bytes no longer have the stated digest.
///
/// # Errors
/// [`StageError::Rejected`] when a source is not what its ecosystem signed, is refused by its
/// package's policy (then all is kept and told as [`prove`] does), does not exist, or is not what
/// the text names; [`StageError::Environment`] when it or its signature can't be asked about.
pub async fn proposed_update(
    context: &Context,
    definition: &PackageDefinition,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<Proposal, StageError> {
    let changed = match changed_sources(context, definition, watched, chosen)? {
        Ok(found) => found,
        Err(reason) => return Ok(Proposal::Unproved(reason)),
    };
    let package = definition.package.name.as_str();
    let mut sources = Vec::new();
    for (source, first) in &changed {
        let release = Release { context, package, version: &chosen.version, source, first: *first };
        sources.push(match (&source.git, &source.expected) {
            (Some(git), Expected::Commit(_)) => {
                let commit = tag_commit(context, source, watched, chosen).await?;
                release.tag(git, commit).await?
            }
            (Some(_), _) => {
                return Ok(Proposal::Unproved(format!("`{}` is taken without `expected-commit`", source.uri)));
            }
            (None, _) if source.uri.starts_with("pkg:") => release.package().await?,
            (None, Expected::Sha256(_) | Expected::Sha512(_)) => release.address().await?,
            (None, _) => return Ok(Proposal::Unproved(format!("`{}` is taken without a digest", source.uri))),
        });
    }
    let checksums: Vec<NewChecksum> = sources.iter().map(|found| found.checksum.clone()).collect();
    let text = with_checksums(context, definition, &chosen.version, &checksums)?;
    let mut sources = sources.into_iter();
    let Some(Found { checksum, basis, evidence, authenticity }) = sources.next() else {
        return Ok(Proposal::Unproved(NO_SOURCE.to_owned()));
    };
    let further = sources.zip(changed.iter().skip(1)).map(|(found, (source, _))| FurtherSource {
        uri: source.uri.clone(),
        checksum: (&found.checksum).into(),
        basis: found.basis,
        evidence: found.evidence,
        authenticity: found.authenticity,
    });
    Ok(Proposal::Ready { text, checksum, basis, evidence, authenticity, further: further.collect() })
}

const NO_SOURCE: &str = "none of its sources changes with the version";

/// A release's source, before it is known.
struct Release<'a> {
    context: &'a Context,
    package: &'a str,
    version: &'a str,
    source: &'a Source,
    first: bool,
}

/// What was found of a release's source.
struct Found {
    checksum: NewChecksum,
    basis: Basis,
    evidence: serde_json::Value,
    authenticity: Option<Verdict>,
}

impl Release<'_> {
    /// A tag, whose tree is fetched only where something is to be proved of it.
    async fn tag(&self, git: &GitSource, commit: String) -> Result<Found, StageError> {
        let asks = policy_of(self.context, self.package, self.first).is_some()
            || self.context.settings.authenticity == DefaultPolicy::Ecosystem;
        let authenticity = if asks {
            let checkout = build_sources::checkout(self.source, git, &commit);
            let checkout = checkout.map_err(|error| classify("read the source", &error))?;
            let tree = fetched(self.context, self.origin(), self.context.upstreams.fetch_git(&checkout).await).await?;
            Some(self.prove(&tree.path, &tree.sha256, &tree.file_name, &tree.evidence).await?)
        } else {
            None
        };
        let proved = authenticity.as_ref().is_some_and(Verdict::is_proved);
        let trust = (!proved).then_some("tag commit, trust on first use");
        let evidence = serde_json::json!({
            "chain": "tag", "repository": self.source.uri, "tag": git.tag, "commit": commit, "trust": trust,
        });
        let basis = if proved { Basis::Proved } else { Basis::TagOnFirstUse };
        Ok(Found { checksum: NewChecksum::Commit(commit), basis, evidence, authenticity })
    }

    /// A package of an ecosystem, which proves it before the policy is asked.
    async fn package(&self) -> Result<Found, StageError> {
        let result = self.context.upstreams.fetch(&watch::parse(self.source)?, None).await;
        let file = fetched(self.context, self.origin(), result).await?;
        let verdict = self.prove(&file.path, &file.sha256, &file.file_name, &file.evidence).await?;
        let evidence = serde_json::to_value(&file.evidence).map_err(|error| StageError::Rejected(error.to_string()))?;
        let checksum = NewChecksum::Sha256(file.sha256);
        Ok(Found { checksum, basis: Basis::Proved, evidence, authenticity: Some(verdict) })
    }

    /// A plain address, of which nothing but the policy says that its bytes are upstream's.
    async fn address(&self) -> Result<Found, StageError> {
        let source: SourceUri = watch::parse(self.source)?;
        let found = fetched(self.context, self.origin(), self.context.upstreams.compute(&source).await).await?;
        let url = self.source.uri.clone();
        let declared = upstream::Evidence::Declared { url, sha256: found.sha256.clone(), sha512: None };
        let verdict = self.prove(&found.path, &found.sha256, &found.file_name, &declared).await?;
        let proved = verdict.is_proved();
        let trust = (!proved).then_some("what the address gave, trust on first use");
        let evidence = serde_json::json!({
            "chain": "address", "url": self.source.uri, "sha256": found.sha256, "sha512": found.sha512, "trust": trust,
        });
        let basis = if proved { Basis::Proved } else { Basis::AddressOnFirstUse };
        let checksum = match &self.source.expected {
            Expected::Sha512(_) => NewChecksum::Sha512(found.sha512),
            _ => NewChecksum::Sha256(found.sha256),
        };
        Ok(Found { checksum, basis, evidence, authenticity: Some(verdict) })
    }

    async fn prove(
        &self,
        path: &Path,
        sha256: &str,
        file_name: &str,
        evidence: &upstream::Evidence,
    ) -> Result<Verdict, StageError> {
        prove(self.context, Subject { origin: self.origin(), path, sha256, file_name, evidence }).await
    }

    /// The source, of whose new version the definition states nothing yet.
    fn origin(&self) -> Origin<'_> {
        let Self { package, version, source, first, .. } = *self;
        Origin { package, version, first, uri: &source.uri, expected: None }
    }
}

/// The sources whose checksums change with the version, as they are for the new one and in the order
/// of the text, each with whether it is its build's first; or why one of them can't be taken.
fn changed_sources(
    context: &Context,
    definition: &PackageDefinition,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<Result<Vec<(Source, bool)>, String>, StageError> {
    let old = match &watched.sources {
        Ok(sources) => sources,
        Err(error) => return Err(StageError::Rejected(error.to_string())),
    };
    let (text, mut new) = sources_of(context, definition, &chosen.version, &[])?;
    // What only builds for other architectures take has a place in the text, too.
    let updated = parsed(&text, &definition.file)?;
    for architecture in Architecture::ALL.into_iter().filter(|other| definition.builds_for(*other)) {
        let others = watch::sources(&updated, architecture, &context.catalog.pipelines)?;
        let unknown = others.into_iter().filter(|other| new.iter().all(|known| known.location != other.location));
        new.extend(unknown.collect::<Vec<_>>());
    }
    let place =
        |source: &Source| (source.uri.clone(), source.git.as_ref().map(|git| (git.tag.clone(), git.branch.clone())));
    let moves = |source: &Source| old.iter().all(|old| place(old) != place(source));
    if !new.iter().any(moves) {
        return Ok(Err(NO_SOURCE.to_owned()));
    }
    let mut changed = Vec::new();
    if let Some(bare) = new.iter().find(|source| moves(source) && source.expected == Expected::None) {
        // The one that is there is said to be without a checksum by whoever takes it.
        changed.push((bare.clone(), false));
        return Ok(Ok(changed));
    }
    let versioned = versioned_sources(&text, &definition.file).map_err(|error| StageError::Rejected(chain(&error)))?;
    for VersionedSource { location, .. } in versioned {
        let Some(index) = new.iter().position(|source| source.location == location) else {
            return Ok(Err(format!("{location}: no build takes this source, so nothing can be stated of it")));
        };
        let Some(source) = new.get(index) else { continue };
        if source.git.as_ref().is_some_and(|git| git.tag.is_none()) {
            return Ok(Err(format!("{location}: it follows a branch, not a tag")));
        }
        if !moves(source) {
            return Ok(Err(format!("{location}: `{}` does not change with the version", source.uri)));
        }
        changed.push((source.clone(), index == 0));
    }
    Ok(Ok(changed))
}

fn parsed(text: &str, file: &str) -> Result<PackageDefinition, StageError> {
    PackageDefinition::parse(text, file).map_err(|error| StageError::Rejected(chain(&error)))
}

/// The definition's text and sources for a version.
fn sources_of(
    context: &Context,
    definition: &PackageDefinition,
    version: &str,
    checksums: &[NewChecksum],
) -> Result<(String, Vec<Source>), StageError> {
    let rejected = |error: recipe::Error| StageError::Rejected(chain(&error));
    let text = update_definition_text(&definition.source, &definition.file, version, checksums).map_err(rejected)?;
    let updated = parsed(&text, &definition.file)?;
    let sources = watch::sources(&updated, watch::architecture(context), &context.catalog.pipelines)?;
    Ok((text, sources))
}

/// The text with the checksums of [`changed_sources`], each of which must have come to its source.
fn with_checksums(
    context: &Context,
    definition: &PackageDefinition,
    version: &str,
    checksums: &[NewChecksum],
) -> Result<String, StageError> {
    let before = sources_of(context, definition, version, &[])?.1;
    let (text, after) = sources_of(context, definition, version, checksums)?;
    let stated = |checksum: &NewChecksum| match checksum {
        NewChecksum::Sha256(hex) => Expected::Sha256(hex.clone()),
        NewChecksum::Sha512(hex) => Expected::Sha512(hex.clone()),
        NewChecksum::Commit(hex) => Expected::Commit(hex.clone()),
    };
    let versioned = versioned_sources(&text, &definition.file).map_err(|error| StageError::Rejected(chain(&error)))?;
    let misplaced = versioned.iter().zip(checksums).any(|(versioned, checksum)| {
        let source = after.iter().find(|source| source.location == versioned.location);
        source.is_some_and(|source| source.expected != stated(checksum))
    });
    let wanted: Vec<Expected> = checksums.iter().map(stated).collect();
    let others = before
        .iter()
        .zip(&after)
        .any(|(before, after)| before.expected != after.expected && !wanted.contains(&after.expected));
    if misplaced || others || versioned.len() != checksums.len() {
        return Err(StageError::Rejected(format!(
            "{}: the checksums of its sources can't be told apart; state the new version by hand",
            definition.file
        )));
    }
    Ok(text)
}

/// The commit that the source's tag points to: as the provider says if it is of the same
/// repository, else as the repository itself does.
async fn tag_commit(
    context: &Context,
    source: &Source,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<String, StageError> {
    let tag = source.git.as_ref().and_then(|git| git.tag.clone()).unwrap_or_default();
    if let (Some(commit), true) = (&chosen.commit, tag == chosen.upstream && is_same(&watched.watch.monitored, source))
    {
        return Ok(commit.clone());
    }
    let address: GitAddress = source
        .uri
        .parse()
        .map_err(|error: upstream::Error| StageError::Rejected(format!("{}: {}", source.location, chain(&error))))?;
    let commit = context.upstreams.tag_commit(&address, &tag).await;
    let commit = commit.map_err(|error| classify("ask for the commit of a tag", &error))?;
    commit.ok_or_else(|| {
        StageError::Rejected(format!(
            "{}: upstream calls its release `{}`, and `{}` has no tag `{tag}`",
            source.location, chosen.upstream, source.uri
        ))
    })
}

/// Takes a release that has become another than it was, so that it is built as it is now. The
/// answer is its name and what is known of it.
///
/// # Errors
/// [`StageError::Rejected`] when no release of that version is another than it was, or the
/// definition itself states what it was.
pub async fn accept(context: &Context, name: &str, version: &str) -> Result<(String, Republished), StageError> {
    let source = context.catalog.packages.get(name);
    let source = source.ok_or_else(|| StageError::Rejected(format!("the catalog has no package `{name}`")))?;
    let document = context.state.get(&releases_key(name)).await?;
    let mut releases: Releases = document.as_ref().map(Document::decode).transpose()?.unwrap_or_default();
    let Some((release, republished)) = releases.accept(version) else {
        return Err(StageError::Rejected(format!(
            "no release {version} of `{name}` is known to be another than it was"
        )));
    };
    if source.definition.package.version.value == republished.version {
        return Err(StageError::Rejected(format!(
            "{}: the definition itself states `{}` for {release}; state `{}` there to take it",
            source.definition.file, republished.was, republished.now
        )));
    }
    let time = context.clock.now();
    let text = format!("{name} {} ({release}) is taken as `{}`", republished.version, republished.now);
    let event = Event { time, kind: "upstream.accepted".to_owned(), subject: format!("{name} {release}"), text };
    let mut transaction = Transaction::default();
    let condition = document.map_or(Condition::Absent, |document| Condition::Revision(document.revision));
    transaction.put(releases_key(name), condition, &releases)?;
    transaction.put(event.key(), Condition::Any, &event)?;
    // What was found before is that version as it was; the next check finds it as it is.
    if let Some(known) = context.state.get(&upstream_key(name)).await?
        && known.decode::<Upstream>()?.version == republished.version
    {
        let condition = Condition::Revision(known.revision);
        transaction.writes.push(Write { key: upstream_key(name), condition, value: None });
    }
    context.state.commit(transaction).await?;
    Ok((release, republished))
}
