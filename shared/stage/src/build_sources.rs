//! The sources of a build: fetched, proved, and described for SBOM and provenance.

use std::path::PathBuf;

use recipe::{BuildPlan, Expected, GitSource, OwnFolder, Source};
use upstream::{CherryPick, Fetched, GitCheckout, GitDepth, GitReference, OwnTree};

use crate::package_build::SourceEvidence;
use crate::{Catalog, Context, StageError, authenticity, chain, watch};

/// All sources of one build.
#[derive(Debug, Default)]
pub struct BuildSources {
    /// The name that the script reads each by, and the file.
    pub files: Vec<(String, PathBuf)>,
    /// As SBOMs name them.
    pub origins: Vec<sbom::Source>,
    /// How each was proved.
    pub evidence: Vec<SourceEvidence>,
    /// The newest time in them, in seconds since 1970; none where they tell none.
    pub newest: Option<i64>,
}

/// Fetches and proves every source of a definition, also by the policy of its package.
///
/// # Errors
/// [`StageError::Rejected`] with the place in the definition when a source is not what the
/// definition expects, or nothing is expected of it; [`StageError::Environment`] when it can't be
/// fetched.
pub async fn fetch(context: &Context, package: &str, plan: &BuildPlan) -> Result<BuildSources, StageError> {
    let mut sources = BuildSources::default();
    for (index, source) in plan.sources.iter().enumerate() {
        let expected = expected(&source.expected);
        let origin = authenticity::Origin {
            package,
            version: &plan.version,
            first: index == 0,
            uri: &source.uri,
            expected: expected.as_deref(),
        };
        let placed = |error: StageError| match error {
            StageError::Rejected(reason) => StageError::Rejected(format!("{}: {reason}", source.location)),
            other => other,
        };
        let result = fetch_one(context, source).await?;
        let fetched = authenticity::fetched(context, origin, result).await.map_err(placed)?;
        let evidence =
            serde_json::to_value(&fetched.evidence).map_err(|error| StageError::Rejected(error.to_string()))?;
        let subject = authenticity::Subject {
            origin,
            path: &fetched.path,
            sha256: &fetched.sha256,
            file_name: &fetched.file_name,
            evidence: &fetched.evidence,
        };
        let verdict = authenticity::prove(context, subject).await.map_err(placed)?;
        sources.origins.push(described(source, plan, &fetched.sha256));
        sources.evidence.push(SourceEvidence {
            uri: source.uri.clone(),
            sha256: fetched.sha256.clone(),
            evidence,
            expected,
            authenticity: Some(verdict),
        });
        sources.files.push((source.file.clone(), fetched.path.clone()));
        let time = tokio::task::spawn_blocking(move || fetched.newest_mtime()).await.map_err(ports::PortError::from)?;
        sources.newest = sources.newest.max(time.ok());
    }
    Ok(sources)
}

/// The most different standings that one line tells.
const TOLD: usize = 4;

/// How the sources of a build stand by their package's policy, in one line for people.
pub fn standing(sources: &[SourceEvidence]) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for source in sources {
        let sentence = source.authenticity.as_ref().map_or_else(|| "not judged".to_owned(), |found| found.sentence());
        match counts.iter_mut().find(|(known, _)| *known == sentence) {
            Some((_, count)) => *count += 1,
            None => counts.push((sentence, 1)),
        }
    }
    match counts.as_slice() {
        [] => "no source".to_owned(),
        [(sentence, 1)] => format!("its source {sentence}"),
        [(sentence, count)] => format!("each of {count} sources {sentence}"),
        several => {
            let told = several.iter().take(TOLD).map(|(sentence, count)| format!("{count} {sentence}"));
            let more = several.len().saturating_sub(TOLD);
            let more = (more > 0).then(|| format!("and {more} more ways"));
            format!("of {} sources {}", sources.len(), told.chain(more).collect::<Vec<_>>().join("; "))
        }
    }
}

async fn fetch_one(context: &Context, source: &Source) -> Result<upstream::Result<Fetched>, StageError> {
    if let Some(own) = &source.own {
        let tree = own_tree(&context.catalog, source, own).map_err(StageError::Rejected)?;
        return Ok(context.upstreams.take_own_tree(&tree).await);
    }
    Ok(match (&source.expected, &source.git) {
        (Expected::Sha256(digest) | Expected::Sha512(digest), _) => {
            context.upstreams.fetch(&watch::parse(source)?, Some(digest)).await
        }
        (Expected::Commit(commit), Some(git)) => {
            let checkout = checkout(source, git, commit)
                .map_err(|error| StageError::Rejected(format!("{}: {}", source.location, chain(&error))))?;
            context.upstreams.fetch_git(&checkout).await
        }
        (Expected::Commit(_), None) | (Expected::None, _) => {
            let wanted =
                if source.git.is_some() { "`expected-commit`" } else { "`expected-sha256` or `expected-sha512`" };
            return Err(StageError::Rejected(format!(
                "{}: `{}` has no {wanted}; state it, so that the source can be verified",
                source.location, source.uri
            )));
        }
    })
}

/// The folder that a `git-archive` step asks for, in the repository that the catalog lies in; or what is
/// wrong with it, with its place in the definition.
pub(crate) fn own_tree(catalog: &Catalog, source: &Source, own: &OwnFolder) -> Result<OwnTree, String> {
    let tree = OwnTree::find(catalog.root(), own.reference.as_deref(), &own.path);
    let tree = tree.map_err(|error| format!("{}: {}", source.location, chain(&error)))?;
    match &source.expected {
        Expected::Commit(commit) if commit != tree.commit() => Err(format!(
            "{}: `{}` is commit `{}`, and `expected-commit` is `{commit}`; change either",
            source.location,
            own.reference.as_deref().unwrap_or("HEAD"),
            tree.commit()
        )),
        _ => Ok(tree),
    }
}

/// What a definition takes from the repository that it lies in, which changes without it.
pub(crate) fn own_trees(catalog: &Catalog, sources: &[Source]) -> Result<String, String> {
    let mut lines = String::new();
    for (source, own) in sources.iter().filter_map(|source| Some((source, source.own.as_ref()?))) {
        let tree = own_tree(catalog, source, own)?;
        lines.push_str(&format!("\nown {} {}", tree.tree(), own.path));
    }
    Ok(lines)
}

/// What a `git-checkout` step asks for. History is kept as melange keeps it: all of a branch whose
/// older commits may be asked for, else one commit.
pub(crate) fn checkout(source: &Source, git: &GitSource, commit: &str) -> upstream::Result<GitCheckout> {
    let reference = match (&git.tag, &git.branch) {
        (Some(tag), _) => GitReference::Tag(tag.clone()),
        (None, Some(branch)) if git.commit_is_branch_tip => GitReference::BranchTip(branch.clone()),
        (None, Some(branch)) => GitReference::Branch(branch.clone()),
        (None, None) => GitReference::Any,
    };
    let depth = match git.depth.map(u32::try_from) {
        Some(Ok(count)) => GitDepth::Commits(count),
        Some(Err(_)) => GitDepth::Everything,
        None if matches!(reference, GitReference::Branch(_)) => GitDepth::Everything,
        None => GitDepth::Commits(1),
    };
    Ok(GitCheckout {
        repository: source.uri.parse()?,
        reference,
        commit: commit.to_owned(),
        depth,
        submodules: git.recurse_submodules,
        cherry_picks: CherryPick::parse_all(git.cherry_picks.as_deref().unwrap_or_default())?,
        sparse_paths: git.sparse_paths.clone(),
    })
}

/// What the definition states of a source, as `ALGORITHM:HEX`.
fn expected(expected: &Expected) -> Option<String> {
    match expected {
        Expected::Sha256(hex) => Some(format!("sha256:{hex}")),
        Expected::Sha512(hex) => Some(format!("sha512:{hex}")),
        Expected::Commit(hex) => Some(format!("git:{hex}")),
        Expected::None => None,
    }
}

/// A source as SBOMs name it.
fn described(source: &Source, plan: &BuildPlan, sha256: &str) -> sbom::Source {
    let (purl, download_location) = match (&source.git, &source.expected) {
        (Some(git), Expected::Commit(commit)) => {
            let version = git.tag.as_deref().unwrap_or(commit);
            (sbom::git_source(&source.uri, version, commit), format!("git+{}@{commit}", source.uri))
        }
        _ if source.uri.starts_with("pkg:") => (source.uri.clone(), String::new()),
        _ if source.own.is_some() => (sbom::file_source(&plan.name, &plan.version, "", sha256), String::new()),
        _ => {
            let name = source.purl_name.as_deref().unwrap_or(&plan.name);
            let version = source.purl_version.as_deref().unwrap_or(&plan.version);
            (sbom::file_source(name, version, &source.uri, sha256), source.uri.clone())
        }
    };
    sbom::Source { purl, download_location, sha256: sha256.to_owned() }
}
