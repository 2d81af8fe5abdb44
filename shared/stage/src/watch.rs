//! What upstream offers for a definition.
//!
//! A definition is watched by the provider that its `update:` names. One that names none is
//! watched where its first source comes from: the package URL of its first `fetch`.

use apk::Architecture;
use recipe::{MissingPipelines, NewChecksum, Options, PackageDefinition, Pipelines, Source, Text, evaluate};
use upstream::filter::{Decision, Rules, Transform};
use upstream::{Error, GitHubListing, Monitored, SourceUri, Watch};

use crate::{Context, StageError, chain};

/// A checksum that no file has, to be replaced by the one that the fetch proves.
const UNKNOWN_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Asks upstream for releases newer than `current`.
///
/// # Errors
/// [`StageError::Rejected`] when the definition can't be watched, [`StageError::Environment`] when
/// upstream can't be asked.
pub async fn newest(context: &Context, definition: &PackageDefinition, current: &str) -> Result<Decision, StageError> {
    let mut watch = watched(definition, architecture(context), &context.catalog.pipelines)?;
    watch.current = Some(current.to_owned());
    let decision = context.upstreams.check(&watch).await;
    decision.map_err(|error| classify(&format!("ask upstream, {}", watch.monitored), &error))
}

/// What a definition's `update:` block watches and by which rules, from the definition's version
/// on.
///
/// # Errors
/// [`StageError::Rejected`] when the block names several providers, or one by a name that it
/// can't have; and when it leaves the source to say what is watched, and there is none.
pub fn watched(
    definition: &PackageDefinition,
    architecture: Architecture,
    pipelines: &Pipelines,
) -> Result<Watch, StageError> {
    let update = &definition.update;
    let refuse = |reason: &str| StageError::Rejected(format!("{}: {reason}", definition.file));
    let invalid = |key: &str, error: &Error| refuse(&format!("{key}: {}", chain(error)));
    let monitored = match (&update.github, update.release_monitor.as_ref(), &update.git, &update.oci) {
        (Some(github), None, None, None) => Monitored::GitHub {
            repository: github.identifier.value.parse().map_err(|error| invalid("update.github.identifier", &error))?,
            listing: if github.use_tags { GitHubListing::Tags } else { GitHubListing::Releases },
        },
        (None, Some(monitor), None, None) => Monitored::ReleaseMonitor(monitor.identifier),
        (None, None, Some(_), None) => {
            let sources = sources(definition, architecture, pipelines)?;
            let source = sources.iter().find(|source| source.git.is_some());
            let source =
                source.ok_or_else(|| refuse("`update.git` watches the first `git-checkout`; there is none"))?;
            let address = source.uri.parse();
            Monitored::Git(address.map_err(|error| invalid(&source.location.to_string(), &error))?)
        }
        (None, None, None, Some(oci)) => {
            let repository = oci.identifier.value.parse();
            Monitored::Oci(repository.map_err(|error| invalid("update.oci.identifier", &error))?)
        }
        (None, None, None, None) => parse(&first_source(definition, architecture, pipelines)?)?.into(),
        _ => return Err(refuse("`update` names several providers; keep one")),
    };
    let current = Some(definition.package.version.value.clone());
    Ok(Watch { monitored, current, rules: rules(definition) })
}

/// Whether a definition's source proves by itself that another version of it is authentic.
/// Otherwise the author of the definition must state the new version's digest.
///
/// # Errors
/// [`StageError::Rejected`] when the definition has no source.
pub fn proves_versions(context: &Context, definition: &PackageDefinition) -> Result<bool, StageError> {
    let source = first_source(definition, architecture(context), &context.catalog.pipelines)?;
    Ok(source.uri.starts_with("pkg:"))
}

/// A source that was fetched and proved.
pub struct Fetched {
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// The proof.
    pub evidence: serde_json::Value,
}

/// Fetches and verifies the source of another version of a definition.
///
/// # Errors
/// [`StageError::Rejected`] when the source is not what its ecosystem signed or does not exist,
/// [`StageError::Environment`] when it can't be fetched.
pub async fn fetch(context: &Context, definition: &PackageDefinition, version: &str) -> Result<Fetched, StageError> {
    let rejected = |error: recipe::Error| StageError::Rejected(chain(&error));
    let checksums = [NewChecksum::Sha256(UNKNOWN_SHA256.to_owned())];
    let text =
        recipe::update_definition_text(&definition.source, &definition.file, version, &checksums).map_err(rejected)?;
    let updated = PackageDefinition::parse(&text, &definition.file).map_err(rejected)?;
    let source = first_source(&updated, architecture(context), &context.catalog.pipelines)?;
    let fetched =
        context.upstreams.fetch(&parse(&source)?, None).await.map_err(|error| classify("fetch the source", &error))?;
    let evidence = serde_json::to_value(&fetched.evidence).map_err(|error| StageError::Rejected(error.to_string()))?;
    Ok(Fetched { sha256: fetched.sha256, evidence })
}

/// An upstream failure as a stage's: what the bytes or the release prove is final, the rest may
/// pass.
pub fn classify(action: &str, error: &upstream::Error) -> StageError {
    let environment = matches!(
        error,
        Error::Endpoint { .. }
            | Error::Configuration { .. }
            | Error::Request { .. }
            | Error::Status { .. }
            | Error::RateLimited { .. }
            | Error::Git { .. }
            | Error::Offline { .. }
            | Error::Io { .. }
            | Error::Keyring { .. }
    );
    if environment {
        StageError::Environment { action: action.to_owned(), reason: chain(error) }
    } else {
        StageError::Rejected(chain(error))
    }
}

/// A source's URI, parsed.
///
/// # Errors
/// [`StageError::Rejected`] with the place in the definition.
pub fn parse(source: &Source) -> Result<SourceUri, StageError> {
    source
        .uri
        .parse()
        .map_err(|error: upstream::Error| StageError::Rejected(format!("{}: {}", source.location, chain(&error))))
}

fn architecture(context: &Context) -> Architecture {
    context.settings.architectures.first().copied().unwrap_or(Architecture::X86_64)
}

fn sources(
    definition: &PackageDefinition,
    architecture: Architecture,
    pipelines: &Pipelines,
) -> Result<Vec<Source>, StageError> {
    // A pipeline that isn't there is told by the build; its absence doesn't keep from watching.
    let options =
        Options { missing_pipelines: MissingPipelines::Report, tests: false, ..Options::new(architecture, pipelines) };
    let plan = evaluate(definition, &options).map_err(|error| StageError::Rejected(chain(&error)))?;
    Ok(plan.sources)
}

fn first_source(
    definition: &PackageDefinition,
    architecture: Architecture,
    pipelines: &Pipelines,
) -> Result<Source, StageError> {
    sources(definition, architecture, pipelines)?.into_iter().next().ok_or_else(|| {
        StageError::Rejected(format!(
            "{}: `update` is enabled, but there is no source to watch; name a `fetch` or disable it",
            definition.file
        ))
    })
}

fn rules(definition: &PackageDefinition) -> Rules {
    let update = &definition.update;
    let text = |text: &Text| text.value.clone();
    Rules {
        ignore_regex_patterns: update.ignore_patterns.iter().map(text).collect(),
        version_separator: update.version_separator.as_ref().map(text),
        version_transform: update
            .version_transforms
            .iter()
            .map(|transform| Transform { pattern: text(&transform.pattern), replace: text(&transform.replace) })
            .collect(),
        enable_prerelease_tags: update.enable_prerelease_tags,
        require_sequential: update.require_sequential,
        ..provider_rules(definition)
    }
}

/// The rules that stand under the provider's key.
fn provider_rules(definition: &PackageDefinition) -> Rules {
    let update = &definition.update;
    let text = |text: &Option<Text>| text.as_ref().map(|text| text.value.clone());
    let mut rules = Rules::default();
    if let Some(github) = &update.github {
        rules.filter_prefix = text(&github.tag_filter_prefix);
        rules.filter_contains = text(&github.tag_filter_contains);
        rules.strip_prefix = text(&github.strip_prefix);
        rules.strip_suffix = text(&github.strip_suffix);
    } else if let Some(monitor) = &update.release_monitor {
        rules.filter_prefix = text(&monitor.version_filter_prefix);
        rules.filter_contains = text(&monitor.version_filter_contains);
        rules.strip_prefix = text(&monitor.strip_prefix);
        rules.strip_suffix = text(&monitor.strip_suffix);
    } else if let Some(git) = &update.git {
        rules.filter_prefix = text(&git.tag_filter_prefix);
        rules.filter_contains = text(&git.tag_filter_contains);
        rules.strip_prefix = text(&git.strip_prefix);
        rules.strip_suffix = text(&git.strip_suffix);
    } else if let Some(oci) = &update.oci {
        rules.filter_prefix = text(&oci.tag_filter_prefix);
        rules.filter_contains = text(&oci.tag_filter_contains);
        rules.strip_prefix = text(&oci.strip_prefix);
        rules.strip_suffix = text(&oci.strip_suffix);
    }
    rules
}
