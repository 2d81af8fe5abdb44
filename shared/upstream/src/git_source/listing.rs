//! What a commit's tree holds, and the history and tags that are kept with it.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::git_source::GitDepth;
use crate::git_source::repository::Repository;

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Folder,
    File,
    Program,
    Link,
    Module,
}

/// An entry of a tree.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) mode: Mode,
    pub(super) id: String,
    pub(super) path: Vec<u8>,
    /// Whether it is taken, by the sparse paths.
    pub(super) taken: bool,
}

/// A tag of a commit that is kept.
#[derive(Debug)]
pub(super) struct Tag {
    /// `refs/tags/NAME`.
    pub(super) name: String,
    /// The tag object, or the commit of a tag that has none.
    pub(super) object: String,
    pub(super) commit: String,
}

/// A commit with its tree, in its repository.
pub(super) struct Listing {
    pub(super) repository: Repository,
    pub(super) head: String,
    /// Id of the tree.
    pub(super) root: String,
    /// In git's order, folders before what is in them.
    pub(super) entries: Vec<Entry>,
    /// Commits, the newest first.
    pub(super) history: Vec<String>,
    /// In the order of their names.
    pub(super) tags: Vec<Tag>,
    /// Newest time of a commit, in seconds since 1970.
    pub(super) time: u64,
    pub(super) sparse_paths: Vec<String>,
}

impl Listing {
    /// Reads what `repository` has fetched of the commit `head`.
    pub(super) async fn read(
        repository: Repository,
        head: &str,
        depth: GitDepth,
        sparse_paths: &[String],
    ) -> Result<Self> {
        let root = repository.git(&["rev-parse", "--verify", &format!("{head}^{{tree}}")]).await?.trim().to_owned();
        let time = repository.git(&["show", "--no-patch", "--format=%ct", head]).await?;
        let list = repository.git_bytes(&["ls-tree", "-r", "-t", "-z", "--full-tree", head]).await?;
        let mut entries = Vec::new();
        for line in list.split(|byte| *byte == 0).filter(|line| !line.is_empty()) {
            if entries.len() >= repository.bounds.most_files {
                let reason = format!("the tree has more than {} files", repository.bounds.most_files);
                return Err(Error::GitTree { url: repository.address.to_string(), reason });
            }
            let mut entry = parse(line).map_err(|reason| Error::GitTree {
                url: repository.address.to_string(),
                reason: format!("`{}`: {reason}", String::from_utf8_lossy(line)),
            })?;
            entry.taken = is_taken(&entry.path, sparse_paths);
            entries.push(entry);
        }
        let mut arguments = vec!["rev-list".to_owned(), "--topo-order".to_owned()];
        if let GitDepth::Commits(count) = depth {
            arguments.push(format!("--max-count={}", count.max(1)));
        }
        arguments.push(head.to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let history: Vec<String> = repository.git(&arguments).await?.lines().map(str::to_owned).collect();
        let kept: BTreeSet<&str> = history.iter().map(String::as_str).collect();
        let list =
            repository.git(&["for-each-ref", "--format=%(objectname) %(*objectname) %(refname)", "refs/tags/"]).await?;
        let mut tags = Vec::new();
        for line in list.lines() {
            let mut words = line.splitn(3, ' ');
            if let (Some(object), Some(peeled), Some(name)) = (words.next(), words.next(), words.next()) {
                let commit = if peeled.is_empty() { object } else { peeled };
                if kept.contains(commit) {
                    let (name, object, commit) = (name.to_owned(), object.to_owned(), commit.to_owned());
                    tags.push(Tag { name, object, commit });
                }
            }
        }
        tags.sort_by(|one, other| one.name.cmp(&other.name));
        let time = time.trim().parse().unwrap_or(0);
        let (head, sparse_paths) = (head.to_owned(), sparse_paths.to_vec());
        Ok(Self { repository, head, root, entries, history, tags, time, sparse_paths })
    }

    /// Whether the `.git` folder lacks objects that its commits name.
    pub(super) fn is_partial(&self) -> bool {
        self.history.len() > 1 || self.entries.iter().any(|entry| !entry.taken)
    }

    /// The submodules of the tree: path and commit.
    pub(super) fn modules(&self) -> impl Iterator<Item = (&[u8], &str)> {
        let modules = self.entries.iter().filter(|entry| entry.mode == Mode::Module && entry.taken);
        modules.map(|entry| (entry.path.as_slice(), entry.id.as_str()))
    }
}

/// Reads `MODE TYPE ID<tab>PATH`.
fn parse(line: &[u8]) -> Result<Entry, &'static str> {
    let tab = line.iter().position(|byte| *byte == b'\t').ok_or("no path")?;
    let (head, path) = line.split_at(tab);
    let path = path.get(1..).unwrap_or_default();
    let mut words = std::str::from_utf8(head).map_err(|_| "not a line of a tree")?.split(' ');
    let mode = match words.next() {
        Some("040000") => Mode::Folder,
        Some("100644" | "100664") => Mode::File,
        Some("100755") => Mode::Program,
        Some("120000") => Mode::Link,
        Some("160000") => Mode::Module,
        _ => return Err("of a mode that trees don't have"),
    };
    let id = words.nth(1).ok_or("no object")?.to_owned();
    let mut parts = path.split(|byte| *byte == b'/');
    if parts.any(|part| matches!(part, b"" | b"." | b"..") || part.eq_ignore_ascii_case(b".git")) {
        return Err("a path that leads out of the tree or into its `.git` folder");
    }
    Ok(Entry { mode, id, path: path.to_vec(), taken: true })
}

/// git's cone mode: what is below a path, and the files beside it and in the folders above it.
fn is_taken(path: &[u8], sparse_paths: &[String]) -> bool {
    if sparse_paths.is_empty() {
        return true;
    }
    let folder = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| path.get(..end).unwrap_or_default());
    sparse_paths
        .iter()
        .map(|cone| cone.trim_matches('/').as_bytes())
        .any(|cone| is_below(path, cone) || folder.is_empty() || is_below(cone, folder))
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_leads_elsewhere_is_refused() {
        let line = |path: &str| format!("100644 blob {}\t{path}", "1".repeat(40));
        let entry = parse(line("a/b c").as_bytes()).unwrap();
        assert_eq!((entry.mode, entry.path.as_slice()), (Mode::File, &b"a/b c"[..]));
        for path in ["../a", "a/../b", ".git/config", "a/.GIT/hooks/x", "/a", "a//b"] {
            assert!(parse(line(path).as_bytes()).is_err(), "{path}");
        }
        assert!(parse(format!("100000 blob {}\ta", "1".repeat(40)).as_bytes()).is_err());
    }

    #[test]
    fn sparse_paths_take_what_gits_cone_takes() {
        let cone = ["shared/lib".to_owned(), "/tool/".to_owned()];
        for path in ["README", "shared/README", "shared/lib", "shared/lib/a/b", "tool/x"] {
            assert!(is_taken(path.as_bytes(), &cone), "{path}");
        }
        for path in ["shared/library/a", "shared/other/a", "tools/x", "a/b"] {
            assert!(!is_taken(path.as_bytes(), &cone), "{path}");
        }
        assert!(is_taken(b"a/b", &[]));
    }
}
