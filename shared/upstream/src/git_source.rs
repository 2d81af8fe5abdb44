//! Trees of git repositories as sources: fetched by the `git` command, proved by their commit.
//!
//! A commit names its content, so the bytes are proved by the commit that the definition expects;
//! what the server adds is only the claim that a tag or branch leads to it, which is checked too.
//! The result is one uncompressed tar: the files, and a `.git` folder that was made from the same
//! objects, since builds ask it for the commit and tag. The same request gives the same bytes.

mod archive;
mod cherry_pick;
mod listing;
mod objects;
mod own;
mod pack;
mod repository;
mod submodules;

use std::time::Duration;

use serde::Serialize;

pub use cherry_pick::CherryPick;
pub use own::OwnTree;

use crate::error::{Error, Result};
use crate::fetcher::run_blocking;
use crate::monitor::{GitAddress, is_commit};
use crate::provider::{Context, Evidence, Obtained};
use crate::store;
use listing::Listing;
use objects::Objects;
use repository::{Bounds, Repository};

/// The longest tag or commit whose signature is looked at, in bytes.
pub(crate) const LONGEST_SIGNED_OBJECT: u64 = 1024 * 1024;

/// Where a commit is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitReference {
    /// A tag, which must be the commit.
    Tag(String),
    /// A branch, which must hold the commit.
    Branch(String),
    /// A branch whose newest commit must be this one.
    BranchTip(String),
    /// Anywhere in the repository.
    Any,
}

impl std::fmt::Display for GitReference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tag(name) => write!(formatter, "tag `{name}`"),
            Self::Branch(name) | Self::BranchTip(name) => write!(formatter, "branch `{name}`"),
            Self::Any => formatter.write_str("the repository"),
        }
    }
}

/// How much of the history the `.git` folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitDepth {
    /// This many commits, at least 1.
    Commits(u32),
    /// All commits, without the files of the older ones.
    Everything,
}

/// One tree of a repository, with all that decides what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCheckout {
    /// The repository.
    pub repository: GitAddress,
    /// What must lead to the commit.
    pub reference: GitReference,
    /// The commit, 40 lower-case hexadecimal digits.
    pub commit: String,
    /// The history that is kept.
    pub depth: GitDepth,
    /// Whether submodules are part of the tree.
    pub submodules: bool,
    /// Commits that are applied on top, in this order.
    pub cherry_picks: Vec<CherryPick>,
    /// Folders that alone are taken, with the files beside and above them (git's cone mode); all
    /// when empty.
    pub sparse_paths: Vec<String>,
}

impl GitCheckout {
    /// The whole request as one line: two requests with the same line have the same result.
    pub(crate) fn identity(&self) -> String {
        let request = serde_json::json!([
            self.reference,
            self.depth,
            self.submodules,
            self.cherry_picks.iter().map(|pick| (&pick.branch, &pick.commit)).collect::<Vec<_>>(),
            self.sparse_paths,
        ]);
        format!("git+{}@{} {request}", self.repository, self.commit)
    }

    fn check(&self) -> Result<()> {
        let refuse = |reason: String| Err(Error::Source { text: self.repository.to_string(), reason });
        if !is_commit(&self.commit) || self.commit.len() != 40 {
            return refuse(format!("`expected-commit` must be 40 hexadecimal digits, not `{}`", self.commit));
        }
        let branches = self.cherry_picks.iter().filter_map(|pick| pick.branch.as_ref());
        let named = match &self.reference {
            GitReference::Tag(name) | GitReference::Branch(name) | GitReference::BranchTip(name) => Some(name),
            GitReference::Any => None,
        };
        if let Some(name) = branches.chain(named).find(|name| !is_reference_name(name)) {
            return refuse(format!("`{name}` can't be the name of a tag or branch"));
        }
        if let Some(path) = self.sparse_paths.iter().find(|path| !is_sparse_path(path)) {
            return refuse(format!("`sparse-paths` must be folders of the repository, not `{path}`"));
        }
        Ok(())
    }
}

/// Whether a name can stand in a reference, by the rules of `git check-ref-format`.
fn is_reference_name(name: &str) -> bool {
    let forbidden = |character: char| character.is_control() || " ~^:?*[\\".contains(character);
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.len() <= 250
        && !name.starts_with('-')
        && !name.contains(forbidden)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && name.split('/').all(part)
}

fn is_sparse_path(path: &str) -> bool {
    let part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.contains(|character: char| character.is_control() || "*?[]!#\\".contains(character))
    };
    path.trim_matches('/').split('/').all(part)
}

/// Fetches trees.
pub(crate) struct GitSources {
    context: Context,
    bounds: Bounds,
}

impl GitSources {
    /// `longest_run` is the time within which one fetch must have ended.
    pub(crate) fn new(context: Context, longest_run: Duration) -> Self {
        Self { context, bounds: Bounds { longest_run, ..Bounds::default() } }
    }

    /// Fetches a tree and proves it.
    ///
    /// # Errors
    /// [`Error::GitCommit`] when tag or branch don't lead to the commit, [`Error::GitTree`] when
    /// the tree can't be a source, [`Error::Git`] when the server can't be asked.
    pub(crate) async fn fetch(&self, checkout: &GitCheckout) -> Result<Obtained> {
        checkout.check()?;
        let url = checkout.repository.to_string();
        if self.context.fetcher.offline() {
            return Err(Error::Offline { url });
        }
        if url.starts_with("file:") {
            return Err(Error::Source {
                text: url,
                reason: "others can't fetch from a local folder; serve it over `https`, `http` or `git`".to_owned(),
            });
        }
        self.take(checkout, self.bounds, url).await
    }

    /// Takes a folder of a repository on this machine, with the files beside and above it.
    ///
    /// # Errors
    /// [`Error::GitTree`] when the tree can't be a source, [`Error::Git`] when the repository can't be
    /// read.
    pub(crate) async fn take_own(&self, own: &OwnTree) -> Result<Obtained> {
        let checkout = own.checkout()?;
        checkout.check()?;
        // Where it lies is no matter of what it holds.
        let told = "the definition's own repository".to_owned();
        self.take(&checkout, Bounds { protocols: "file", ..self.bounds }, told).await
    }

    /// Takes a tree from its repository, which evidence calls `told`.
    async fn take(&self, checkout: &GitCheckout, bounds: Bounds, told: String) -> Result<Obtained> {
        let folder = self.context.cache.join("git");
        store::make_folder(&folder)?;
        let scratch = tempfile::Builder::new()
            .prefix(".partial-")
            .tempdir_in(&folder)
            .map_err(Error::io("create a folder in", &folder))?;
        let repository = Repository::create(scratch.path().join("top"), checkout.repository.clone(), bounds).await?;
        repository.fetch_commit(checkout).await?;
        let head = cherry_pick::apply(&repository, checkout, scratch.path()).await?;
        let picked = u32::try_from(checkout.cherry_picks.len()).unwrap_or(u32::MAX);
        let depth = match checkout.depth {
            GitDepth::Commits(count) => GitDepth::Commits(count.saturating_add(picked)),
            GitDepth::Everything => GitDepth::Everything,
        };
        let top = Listing::read(repository, &head, depth, &checkout.sparse_paths).await?;
        let modules = if checkout.submodules { submodules::fetch(&top, scratch.path()).await? } else { Vec::new() };
        let (blobs, checkout) = (self.context.blobs.clone(), checkout.clone());
        run_blocking(move || {
            let tag = match &checkout.reference {
                GitReference::Tag(tag) => top.tags.iter().find(|known| known.name == format!("refs/tags/{tag}")),
                _ => None,
            };
            let tag_object = tag.map(|tag| tag.object.clone()).filter(|object| *object != checkout.commit);
            let signed = match checkout.reference {
                GitReference::Tag(_) => tag_object.as_deref(),
                _ => Some(checkout.commit.as_str()),
            };
            let object_sha256 = match signed {
                Some(id) => keep_object(&top.repository, id, &blobs)?,
                None => None,
            };
            let archive = archive::write(&checkout, &top, &modules, scratch.path(), &blobs)?;
            let address = checkout.repository.to_string();
            let name = address.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim_end_matches(".git");
            let evidence = Evidence::Git {
                repository: told,
                reference: checkout.reference.to_string(),
                tag: match &checkout.reference {
                    GitReference::Tag(tag) => Some(tag.clone()),
                    _ => None,
                },
                tag_object,
                object_sha256,
                commit: checkout.commit.clone(),
                cherry_picks: checkout.cherry_picks.iter().map(|pick| pick.commit.clone()).collect(),
                tree: top.root.clone(),
                submodules: modules.iter().map(submodules::Module::told).collect(),
                sha256: archive.sha256.clone(),
            };
            let file_name = format!("{name}-{}.tar", checkout.commit);
            Ok(Obtained { sha256: archive.sha256, size: archive.size, file_name, evidence })
        })
        .await
    }
}

/// Keeps the bytes of a tag or commit, in which a signature may stand; none of a longer one.
fn keep_object(repository: &Repository, id: &str, blobs: &store::BlobStore) -> Result<Option<String>> {
    let bytes = Objects::open(repository)?.read(id, |_, size, content| {
        let mut bytes = Vec::new();
        if size <= LONGEST_SIGNED_OBJECT {
            content.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let sha256 = store::sha256_hex(&bytes);
    store::write_atomically(&blobs.path(&sha256), &bytes)?;
    Ok(Some(sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_tags_and_branches_carry_no_pattern_or_option() {
        for name in ["v1.0", "release/3.10", "pkg/v2", "a@b", "1.0+really2"] {
            assert!(is_reference_name(name), "{name}");
        }
        for name in
            ["", "-x", "a:b", "a*", "a..b", "a b", "^a", "a~1", "a@{1}", "a.lock", "/a", "a/", "a//b", ".a", "a."]
        {
            assert!(!is_reference_name(name), "{name}");
        }
        assert!(is_sparse_path("shared/lib") && is_sparse_path("/omnibump/"));
        for path in ["", "/", "..", "a/../b", "a/*", "!a"] {
            assert!(!is_sparse_path(path), "{path}");
        }
    }
}
