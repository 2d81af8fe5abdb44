//! What a `fetch` or `git-checkout` step asks for.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::package::Step;
use crate::pipelines::SourceKind;
use crate::plan::{Expected, GitSource, OwnFolder, Source};
use crate::substitute::Origin;
use crate::text::Location;

/// Reads the source that a step with these resolved inputs asks for.
pub(crate) fn read(
    kind: SourceKind,
    step: &Step,
    pipeline: &str,
    inputs: &BTreeMap<String, String>,
    origin: Origin<'_>,
) -> Result<Source, Error> {
    let location = Location::new(origin.file, step.position);
    let get = |name: &str| inputs.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    // The place of an input's value where the step gives it, of the step where it is a default.
    let place = |name: &str| {
        let given = step.with.iter().find(|(key, _)| *key == name);
        given.map_or_else(|| location.clone(), |(_, value)| Location::new(origin.file, value.position))
    };
    let digest = |name: &str, length: usize| match get(name) {
        None => Ok(None),
        Some(value) if value.len() == length && value.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Some(value.to_ascii_lowercase()))
        }
        Some(value) => Err(Error::Invalid {
            location: place(name),
            field: format!("with.{name}"),
            value: value.to_owned(),
            reason: format!("{length} hexadecimal digits are expected, this has {}", value.len()),
        }),
    };
    let missing = |input: &str| Error::MissingInput {
        location: location.clone(),
        pipeline: pipeline.to_owned(),
        input: input.to_owned(),
    };
    let owned = |name: &str| get(name).map(str::to_owned);
    match kind {
        SourceKind::File => {
            let uri = owned("uri").ok_or_else(|| missing("uri"))?;
            let (expected, file) = match (digest("expected-sha256", 64)?, digest("expected-sha512", 128)?) {
                (Some(hex), _) => (Expected::Sha256(hex.clone()), format!("sha256:{hex}")),
                (None, Some(hex)) => (Expected::Sha512(hex.clone()), format!("sha512:{hex}")),
                (None, None) if get("expected-none").is_some() => {
                    (Expected::None, format!("uri:{}", identity(&[&uri])))
                }
                (None, None) => {
                    return Err(Error::MissingChecksum { location: location.clone(), pipeline: pipeline.to_owned() });
                }
            };
            Ok(Source {
                uri,
                expected,
                file,
                git: None,
                own: None,
                purl_name: owned("purl-name"),
                purl_version: owned("purl-version"),
                location,
            })
        }
        SourceKind::Git => {
            let uri = owned("repository").ok_or_else(|| missing("repository"))?;
            let invalid = |name: &str, value: &str, reason: &str| Error::Invalid {
                location: place(name),
                field: format!("with.{name}"),
                value: value.to_owned(),
                reason: reason.to_owned(),
            };
            let depth = match get("depth") {
                None | Some("unset") => None,
                Some(text) => match text.parse() {
                    Ok(depth) if depth == -1 || depth > 0 => Some(depth),
                    _ => return Err(invalid("depth", text, "a number of commits is expected, or -1 for all")),
                },
            };
            let git = GitSource {
                branch: owned("branch"),
                tag: owned("tag"),
                commit_is_branch_tip: get("expected-commit-is-branch-tip") == Some("true"),
                depth,
                recurse_submodules: get("recurse-submodules") == Some("true"),
                cherry_picks: owned("cherry-picks"),
                sparse_paths: get("sparse-paths")
                    .map(|paths| paths.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default(),
            };
            if let (Some(tag), Some(_)) = (&git.tag, &git.branch) {
                return Err(invalid("tag", tag, "a source is of a tag or of a branch; keep one"));
            }
            if git.commit_is_branch_tip && (git.branch.is_none() || get("expected-commit").is_none()) {
                let reason = "it needs `branch` and `expected-commit`";
                return Err(invalid("expected-commit-is-branch-tip", "true", reason));
            }
            // One commit gives several trees, by what is picked and left out, and several histories.
            let plain = !git.recurse_submodules
                && git.cherry_picks.is_none()
                && git.sparse_paths.is_empty()
                && git.depth.is_none();
            let (expected, file) = match digest("expected-commit", 40)? {
                Some(commit) if plain => (Expected::Commit(commit.clone()), format!("git:{commit}")),
                Some(commit) => {
                    let tree = identity(&[
                        &git.recurse_submodules.to_string(),
                        git.cherry_picks.as_deref().unwrap_or_default(),
                        &git.sparse_paths.join("\n"),
                        &git.depth.map(|depth| depth.to_string()).unwrap_or_default(),
                    ]);
                    let short: String = tree.chars().take(16).collect();
                    (Expected::Commit(commit.clone()), format!("git:{commit}-{short}"))
                }
                None => {
                    let branch = git.branch.as_deref().unwrap_or_default();
                    (
                        Expected::None,
                        format!("uri:{}", identity(&[&uri, branch, git.tag.as_deref().unwrap_or_default()])),
                    )
                }
            };
            Ok(Source { uri, expected, file, git: Some(git), own: None, purl_name: None, purl_version: None, location })
        }
        SourceKind::Own => {
            let path = owned("path").ok_or_else(|| missing("path"))?;
            let own = OwnFolder { path: path.trim_matches('/').to_owned(), reference: owned("ref") };
            let (expected, commit) = match digest("expected-commit", 40)? {
                Some(commit) => (Expected::Commit(commit.clone()), commit),
                None => (Expected::None, String::new()),
            };
            let name = identity(&["own", &own.path, own.reference.as_deref().unwrap_or_default(), &commit]);
            Ok(Source {
                uri: format!("own:{}", own.path),
                expected,
                file: format!("uri:{name}"),
                git: None,
                own: Some(own),
                purl_name: None,
                purl_version: None,
                location,
            })
        }
    }
}

fn identity(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

/// The name that a fetched file has in the workspace: the end of a URL's path; for a package URL,
/// `NAME-VERSION`.
pub(crate) fn file_name(uri: &str) -> String {
    let path = uri.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let name = path.rsplit('/').next().unwrap_or_default();
    let name = if uri.starts_with("pkg:") { name.replace('@', "-") } else { name.to_owned() };
    let safe: String =
        name.chars().filter(|character| character.is_ascii_alphanumeric() || "._+-~@%".contains(*character)).collect();
    if safe.trim_matches('.').is_empty() { "source".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::file_name;

    #[test]
    fn a_fetched_file_is_named_by_its_url() {
        for (uri, name) in [
            ("https://example.org/a/b-1.0.tar.gz?x=1", "b-1.0.tar.gz"),
            ("pkg:deb/debian/memcached@1.6.38?arch=source", "memcached-1.6.38"),
            ("pkg:cargo/ripgrep@14.1.1", "ripgrep-14.1.1"),
            ("https://example.org/..", "source"),
            ("https://example.org/$(id)", "id"),
        ] {
            assert_eq!(file_name(uri), name);
        }
    }
}
