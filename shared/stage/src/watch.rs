//! What upstream offers for a definition.
//!
//! A definition whose `update:` names no provider is watched where its first source comes from:
//! the package URL of its first `fetch`.

use apk::Architecture;
use recipe::{NewChecksum, Options, PackageDefinition, Source, Text, evaluate};
use upstream::filter::{Decision, Rules, Transform};
use upstream::{Error, SourceUri, Watch};

use crate::{Context, StageError, chain};

/// A checksum that no file has, to be replaced by the one that the fetch proves.
const UNKNOWN_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Asks upstream for releases newer than `current`.
///
/// # Errors
/// [`StageError::Rejected`] when the definition can't be watched, [`StageError::Environment`] when
/// upstream can't be asked.
pub async fn newest(context: &Context, definition: &PackageDefinition, current: &str) -> Result<Decision, StageError> {
    let update = &definition.update;
    if update.github.is_some() || update.release_monitor.is_some() || update.git.is_some() || update.oci.is_some() {
        let reason = "its `update` names a provider that is not built in yet; sources by package URL are watched";
        return Err(StageError::Rejected(format!("{}: {reason}", definition.file)));
    }
    let source = first_source(context, definition)?;
    let watch = Watch { source: parse(&source)?, current: Some(current.to_owned()), rules: rules(definition) };
    context.upstreams.check(&watch).await.map_err(|error| classify("ask upstream", &error))
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
    let source = first_source(context, &updated)?;
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

fn first_source(context: &Context, definition: &PackageDefinition) -> Result<Source, StageError> {
    let architecture = context.settings.architectures.first().copied().unwrap_or(Architecture::X86_64);
    let plan = evaluate(definition, &Options::new(architecture, &context.catalog.pipelines))
        .map_err(|error| StageError::Rejected(chain(&error)))?;
    plan.sources.into_iter().next().ok_or_else(|| {
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
        ..Rules::default()
    }
}
