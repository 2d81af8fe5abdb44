//! A newer version written into its definition.

use ports::{Condition, Document, Transaction, Write};
use recipe::{Expected, NewChecksum, PackageDefinition, Source, update_definition_text};
use serde::Serialize;
use upstream::{Chosen, GitAddress, SourceUri};

use crate::record::{Event, Upstream};
use crate::rules::releases::{Releases, Republished};
use crate::upstream_check::{releases_key, upstream_key};
use crate::watch::{self, Watched, classify, is_same};
use crate::{Context, StageError, chain};

/// What a checksum of a new version rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The ecosystem's own chain of proof.
    Proved,
    /// The commit that the tag pointed to when it was first asked about.
    TagOnFirstUse,
    /// The bytes that the address gave; nothing says that they are authentic.
    Computed,
}

/// A definition's text for a newer version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// The whole text, which differs in version, epoch and checksum only.
    Ready {
        /// The text.
        text: String,
        /// SHA-256 of the source, where it is a file.
        sha256: Option<String>,
        /// Commit of the source, where it is a git repository.
        commit: Option<String>,
        /// SHA-512 of the source, where the definition states that.
        sha512: Option<String>,
        /// What these rest on.
        basis: Basis,
        /// How the source's authenticity was established.
        evidence: serde_json::Value,
    },
    /// Nothing proves the new source, and why not.
    Unproved(String),
}

/// The definition's text for the chosen release, with the proved checksum of its source in place.
///
/// A package URL is proved by its ecosystem. A git tag is taken at the commit that the provider or
/// the repository states, on first use; a later change of it raises an alarm. A plain address is
/// not proved by anything.
///
/// # Errors
/// [`StageError::Rejected`] when the source is not what its ecosystem signed, does not exist, or
/// is not what the text names; [`StageError::Environment`] when it can't be asked about.
pub async fn proposed(
    context: &Context,
    definition: &PackageDefinition,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<Proposal, StageError> {
    let changed = match changed_source(context, definition, watched, chosen)? {
        Ok(source) => source,
        Err(reason) => return Ok(Proposal::Unproved(reason)),
    };
    let uri = &changed.uri;
    if changed.git.is_some() {
        if !matches!(changed.expected, Expected::Commit(_)) {
            return Ok(Proposal::Unproved(format!("`{uri}` is taken without `expected-commit`")));
        }
        let commit = tag_commit(context, &changed, watched, chosen).await?;
        let evidence = serde_json::json!({
            "chain": "tag",
            "repository": uri,
            "tag": changed.git.as_ref().and_then(|git| git.tag.as_ref()),
            "commit": commit,
            "trust": "tag commit, trust on first use",
        });
        let text = with_checksum(context, definition, &chosen.version, NewChecksum::Commit(commit.clone()))?;
        let commit = Some(commit);
        return Ok(Proposal::Ready { text, sha256: None, sha512: None, commit, basis: Basis::TagOnFirstUse, evidence });
    }
    if !uri.starts_with("pkg:") {
        return Ok(Proposal::Unproved("its source proves nothing".to_owned()));
    }
    let fetched = context.upstreams.fetch(&watch::parse(&changed)?, None).await;
    let fetched = fetched.map_err(|error| classify("fetch the source", &error))?;
    let evidence = serde_json::to_value(&fetched.evidence).map_err(|error| StageError::Rejected(error.to_string()))?;
    let text = with_checksum(context, definition, &chosen.version, NewChecksum::Sha256(fetched.sha256.clone()))?;
    let sha256 = Some(fetched.sha256);
    Ok(Proposal::Ready { text, sha256, sha512: None, commit: None, basis: Basis::Proved, evidence })
}

/// The definition's text for the chosen release, as the stage makes it; but a plain address is
/// downloaded and its digest computed. Whoever takes the text must know from elsewhere that the
/// bytes are authentic.
///
/// # Errors
/// [`StageError::Rejected`] when the source is not what its ecosystem signed, does not exist, or
/// is not what the text names; [`StageError::Environment`] when it can't be asked about.
pub async fn computed(
    context: &Context,
    definition: &PackageDefinition,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<Proposal, StageError> {
    let proposal = proposed(context, definition, watched, chosen).await?;
    let Proposal::Unproved(_) = &proposal else {
        return Ok(proposal);
    };
    let changed = match changed_source(context, definition, watched, chosen)? {
        Ok(source) if source.git.is_none() => source,
        _ => return Ok(proposal),
    };
    let source: SourceUri = watch::parse(&changed)?;
    let found = context.upstreams.compute(&source).await.map_err(|error| classify("fetch the source", &error))?;
    let checksum = match &changed.expected {
        Expected::Sha256(_) => NewChecksum::Sha256(found.sha256.clone()),
        Expected::Sha512(_) => NewChecksum::Sha512(found.sha512.clone()),
        _ => return Ok(Proposal::Unproved(format!("`{}` is taken without a digest", changed.uri))),
    };
    let (sha256, sha512) = match &checksum {
        NewChecksum::Sha512(sha512) => (None, Some(sha512.clone())),
        _ => (Some(found.sha256), None),
    };
    let text = with_checksum(context, definition, &chosen.version, checksum)?;
    let evidence = serde_json::json!({ "chain": "computed", "url": changed.uri });
    Ok(Proposal::Ready { text, sha256, sha512, commit: None, basis: Basis::Computed, evidence })
}

/// The one source that changes with the version, as it is for the new one, or why there is none.
fn changed_source(
    context: &Context,
    definition: &PackageDefinition,
    watched: &Watched,
    chosen: &Chosen,
) -> Result<Result<Source, String>, StageError> {
    let old = match &watched.sources {
        Ok(sources) => sources,
        Err(error) => return Err(StageError::Rejected(error.to_string())),
    };
    let new = sources_of(context, definition, &chosen.version, &[])?.1;
    let place =
        |source: &Source| (source.uri.clone(), source.git.as_ref().map(|git| (git.tag.clone(), git.branch.clone())));
    let mut changed = new.into_iter().filter(|source| old.iter().all(|old| place(old) != place(source)));
    let Some(first) = changed.next() else {
        return Ok(Err("none of its sources changes with the version".to_owned()));
    };
    if let Some(second) = changed.next() {
        return Ok(Err(format!(
            "more than one source changes with the version (also {}: `{}`)",
            second.location, second.uri
        )));
    }
    if first.git.as_ref().is_some_and(|git| git.tag.is_none()) {
        return Ok(Err(format!("{}: it follows a branch, not a tag", first.location)));
    }
    Ok(Ok(first))
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
    let updated = PackageDefinition::parse(&text, &definition.file).map_err(rejected)?;
    let sources = watch::sources(&updated, watch::architecture(context), &context.catalog.pipelines)?;
    Ok((text, sources))
}

/// The text with a checksum, which must have come to the source that it is of.
fn with_checksum(
    context: &Context,
    definition: &PackageDefinition,
    version: &str,
    checksum: NewChecksum,
) -> Result<String, StageError> {
    let before = sources_of(context, definition, version, &[])?.1;
    let (text, after) = sources_of(context, definition, version, std::slice::from_ref(&checksum))?;
    let wanted = match &checksum {
        NewChecksum::Sha256(hex) => Expected::Sha256(hex.clone()),
        NewChecksum::Sha512(hex) => Expected::Sha512(hex.clone()),
        NewChecksum::Commit(hex) => Expected::Commit(hex.clone()),
    };
    let others = before.iter().zip(&after).filter(|(before, after)| before.expected != after.expected);
    if others.clone().count() > 1 || !after.iter().any(|source| source.expected == wanted) {
        return Err(StageError::Rejected(format!(
            "{}: the first checksum of its kind is not that of the source that changes with the version; state the new \
             version by hand",
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
