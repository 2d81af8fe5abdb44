//! What a definition's `update:` watches, and by which rules.
//!
//! A definition is watched by the provider that its `update:` names, or its `watch/NAME.yaml`. One
//! that names none is watched where its first source comes from: the package URL of its first
//! `fetch`.

use apk::Architecture;
use recipe::{Expected, MissingPipelines, Options, PackageDefinition, Pipelines, Source, Text, evaluate};
use upstream::filter::{Rules, Transform};
use upstream::{Error, GitHubListing, Monitored, SourceUri, Watch};

use crate::{Context, StageError, WatchFile, chain};

/// A definition as it is watched.
#[derive(Debug)]
pub struct Watched {
    /// What is asked, from the definition's version on. What releases were seen before is what the
    /// definition itself states: the commit of its own tag.
    pub watch: Watch,
    /// The definition's sources, or why they can't be told.
    pub sources: Result<Vec<Source>, StageError>,
}

/// What a definition's `update:` block watches and by which rules. The definition is evaluated
/// once.
///
/// # Errors
/// [`StageError::Rejected`] when the block names several providers, one by a name that it can't
/// have, or a key that Minimill does not act on; and when it leaves the source to say what is
/// watched, and there is none.
pub fn watched(
    definition: &PackageDefinition,
    file: Option<&WatchFile>,
    architecture: Architecture,
    pipelines: &Pipelines,
) -> Result<Watched, StageError> {
    let update = &definition.update;
    let refuse = |reason: &str| StageError::Rejected(format!("{}: {reason}", definition.file));
    let invalid = |key: &str, error: &Error| refuse(&format!("{key}: {}", chain(error)));
    if update.version_data.is_some() {
        return Err(refuse(
            "`update.version_data` chooses versions by streams of another service, which is not supported; name a \
             provider with `tag-filter-prefix` for the stream",
        ));
    }
    let sources = sources(definition, architecture, pipelines);
    let first = |wanted: fn(&Source) -> bool, reason: &str| match &sources {
        Ok(sources) => sources.iter().find(|source| wanted(source)).ok_or_else(|| refuse(reason)),
        Err(error) => Err(StageError::Rejected(error.to_string())),
    };
    let monitored = match (&update.github, update.release_monitor.as_ref(), &update.git, &update.oci, file) {
        (.., Some(file)) => file.monitored.clone(),
        (Some(github), None, None, None, None) => {
            let repository = match &github.identifier {
                Some(identifier) => identifier.as_str(),
                None => {
                    let reason =
                        "`update.github` says no `identifier` and nothing is checked out from GitHub; name one";
                    let on_github = |source: &Source| github_repository(source).is_some();
                    github_repository(first(on_github, reason)?).unwrap_or_default()
                }
            };
            Monitored::GitHub {
                repository: repository.parse().map_err(|error| invalid("update.github.identifier", &error))?,
                listing: if github.use_tags { GitHubListing::Tags } else { GitHubListing::Releases },
            }
        }
        (None, Some(monitor), None, None, None) => Monitored::ReleaseMonitor(monitor.identifier),
        (None, None, Some(_), None, None) => {
            let reason = "`update.git` watches the first `git-checkout`; there is none";
            let source = first(|source| source.git.is_some(), reason)?;
            let address = source.uri.parse();
            Monitored::Git(address.map_err(|error| invalid(&source.location.to_string(), &error))?)
        }
        (None, None, None, Some(oci), None) => {
            let repository = oci.identifier.value.parse();
            Monitored::Oci(repository.map_err(|error| invalid("update.oci.identifier", &error))?)
        }
        (None, None, None, None, None) => {
            let reason = "`update` is enabled, but there is no source to watch; name a `fetch` or disable it";
            parse(first(|_| true, reason)?)?.into()
        }
        _ => return Err(refuse("`update` names several providers; keep one")),
    };
    let mut watch = Watch::new(monitored);
    watch.current = Some(definition.package.version.value.clone());
    watch.rules = rules(definition, file);
    let same: Vec<&Source> = sources.iter().flatten().filter(|source| is_same(&watch.monitored, source)).collect();
    watch.seen = same.iter().copied().filter_map(stated).collect();
    // A block with nothing in it means tags such as the definition's own.
    if watch.rules.strip_prefix.is_none() && watch.rules.version_transform.is_empty() {
        let version = definition.package.version.value.as_str();
        watch.rules.strip_prefix = same.iter().find_map(|source| own_prefix(source, version));
    }
    Ok(Watched { watch, sources })
}

/// `OWNER/NAME` of a checkout from GitHub.
fn github_repository(source: &Source) -> Option<&str> {
    source.git.as_ref()?;
    let path = source.uri.strip_prefix("https://github.com/")?.trim_end_matches('/');
    Some(path.strip_suffix(".git").unwrap_or(path))
}

/// The tag and the commit that a definition states of a git source.
fn stated(source: &Source) -> Option<(String, String)> {
    let Expected::Commit(commit) = &source.expected else {
        return None;
    };
    Some((source.git.as_ref()?.tag.clone()?, commit.to_ascii_lowercase()))
}

/// What the tag of a source has before the version.
fn own_prefix(source: &Source, version: &str) -> Option<String> {
    let prefix = source.git.as_ref()?.tag.as_deref()?.strip_suffix(version)?;
    // The end of a longer number is no version.
    let is_whole = !prefix.ends_with(|last: char| last.is_ascii_digit() || last == '.');
    (is_whole && !prefix.is_empty()).then(|| prefix.to_owned())
}

/// Whether what is watched is the repository that a source comes from.
pub(crate) fn is_same(monitored: &Monitored, source: &Source) -> bool {
    let plain = |address: &str| {
        let address = address.trim_end_matches('/');
        address.strip_suffix(".git").unwrap_or(address).to_ascii_lowercase()
    };
    match monitored {
        Monitored::Git(address) => plain(address.as_str()) == plain(&source.uri),
        Monitored::GitHub { repository, .. } => {
            plain(&format!("https://github.com/{repository}")) == plain(&source.uri)
        }
        Monitored::GitLab { project, .. } => plain(&project.to_string()) == plain(&source.uri),
        _ => false,
    }
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
            | Error::Unreachable { .. }
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

/// The architecture by which definitions are watched: the first that is built.
pub(crate) fn architecture(context: &Context) -> Architecture {
    context.settings.architectures.first().copied().unwrap_or(Architecture::X86_64)
}

/// A definition's sources, in the order of use.
///
/// # Errors
/// [`StageError::Rejected`] when the definition can't be evaluated.
pub(crate) fn sources(
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

fn rules(definition: &PackageDefinition, file: Option<&WatchFile>) -> Rules {
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
        ..file.map_or_else(|| provider_rules(definition), file_rules)
    }
}

fn file_rules(file: &WatchFile) -> Rules {
    Rules {
        filter_prefix: file.filter_prefix.clone(),
        filter_contains: file.filter_contains.clone(),
        strip_prefix: file.strip_prefix.clone(),
        strip_suffix: file.strip_suffix.clone(),
        ..Rules::default()
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
