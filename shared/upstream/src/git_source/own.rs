//! A folder of a repository on this machine, as a source.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{GitCheckout, GitDepth, GitReference, is_reference_name, is_sparse_path};
use crate::error::{Error, Result};
use crate::monitor::CALLERS;

/// A folder of the git repository that definitions are kept in, at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTree {
    /// Top folder of the repository.
    top: PathBuf,
    path: String,
    commit: String,
    tree: String,
}

impl OwnTree {
    /// Finds `path` at `reference` (branch, tag or commit; the checked-out commit where none is given)
    /// in the repository that `folder` lies in. What is not committed is not seen.
    ///
    /// # Errors
    /// [`Error::Source`] when `path` or `reference` can't be names, [`Error::Git`] when `folder` lies in
    /// no repository or the repository has no such commit or folder.
    pub fn find(folder: &Path, reference: Option<&str>, path: &str) -> Result<Self> {
        let path = path.trim_matches('/');
        if !is_sparse_path(path) {
            let reason = "`path` must be a folder of the definition's own repository".to_owned();
            return Err(Error::Source { text: path.to_owned(), reason });
        }
        if let Some(name) = reference.filter(|name| !is_reference_name(name)) {
            let reason = "`ref` must be a branch, a tag or a commit".to_owned();
            return Err(Error::Source { text: name.to_owned(), reason });
        }
        let top = PathBuf::from(answer(folder, &["rev-parse", "--show-toplevel"], "it lies in no git repository")?);
        let name = reference.unwrap_or("HEAD");
        let verified = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
        let of = |object: &str, missing: &str| answer(&top, &[verified.as_slice(), &[object]].concat(), missing);
        let commit = of(&format!("{name}^{{commit}}"), &format!("it has no commit `{name}`"))?;
        let tree = of(&format!("{commit}:{path}"), &format!("commit `{commit}` has no folder `{path}`"))?;
        if answer(&top, &["cat-file", "-t", &tree], "an object is missing")? != "tree" {
            let reason = format!("`{path}` is a file; name its folder");
            return Err(Error::Git { url: top.display().to_string(), reason });
        }
        Ok(Self { top, path: path.to_owned(), commit, tree })
    }

    /// The commit, in hexadecimal.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// Id of the folder's tree, in hexadecimal: the same for the same files.
    #[must_use]
    pub fn tree(&self) -> &str {
        &self.tree
    }

    pub(super) fn checkout(&self) -> Result<GitCheckout> {
        let refuse = || Error::Source {
            text: self.top.display().to_string(),
            reason: "the folder has no absolute path".to_owned(),
        };
        let address = reqwest::Url::from_file_path(&self.top).map_err(|()| refuse())?;
        Ok(GitCheckout {
            repository: address.as_str().parse()?,
            reference: GitReference::Any,
            commit: self.commit.clone(),
            depth: GitDepth::Commits(1),
            submodules: false,
            cherry_picks: Vec::new(),
            sparse_paths: vec![self.path.clone()],
        })
    }
}

/// The one line that git answers in `folder`; `missing` says why there is none.
fn answer(folder: &Path, arguments: &[&str], missing: &str) -> Result<String> {
    let fail = |reason: String| Error::Git { url: folder.display().to_string(), reason };
    let mut command = Command::new("git");
    for name in CALLERS {
        command.env_remove(name);
    }
    let output = command
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_NO_LAZY_FETCH", "1")
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| fail(format!("`git` can't be run: {error}; install the Debian package `git`")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    match String::from_utf8(output.stdout) {
        Ok(text) if output.status.success() && !text.trim().is_empty() => Ok(text.trim().to_owned()),
        _ if said.trim().is_empty() => Err(fail(missing.to_owned())),
        _ => Err(fail(format!("{missing}: {}", said.lines().next().unwrap_or_default()))),
    }
}
