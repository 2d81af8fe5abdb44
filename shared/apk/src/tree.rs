//! A tree on disk, read as what it would be with its root at `/`.

use std::collections::VecDeque;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::limits;
use crate::{Error, Result};

/// Symbolic links that are followed before a path is taken for a loop, as in Linux.
const LINKS: usize = 40;

/// Something below the root of a tree.
#[derive(Debug)]
pub struct TreeEntry {
    /// Relative, `/` between components.
    pub path: String,
    /// Where it lies.
    pub absolute: PathBuf,
    /// Its own, where it is a symbolic link.
    pub metadata: Metadata,
}

impl TreeEntry {
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&*self.path, |(_, name)| name)
    }

    pub(crate) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }
}

/// Everything below `root`: directories before their content, siblings by the bytes of their names.
/// Symbolic links are not followed.
///
/// # Errors
/// When a folder can't be read, a name is not UTF-8, or the tree passes [`crate::limits`].
pub fn walk(root: &Path) -> Result<Vec<TreeEntry>> {
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), root.to_owned())];
    while let Some((path, absolute)) = pending.pop() {
        let metadata = fs::symlink_metadata(&absolute).map_err(Error::at(&absolute))?;
        if metadata.is_dir() {
            let mut children = Vec::new();
            for child in fs::read_dir(&absolute).map_err(Error::at(&absolute))? {
                children.push(child.map_err(Error::at(&absolute))?.file_name());
            }
            children.sort_unstable_by(|a, b| b.as_bytes().cmp(a.as_bytes()));
            for child in children {
                let below = absolute.join(&child);
                let name = child.to_str().ok_or_else(|| Error::tree(&below, "its name is not UTF-8"))?;
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                if path.len() > limits::PATH_BYTES {
                    return Err(Error::tree(&below, "its path in the package is longer than 4096 bytes"));
                }
                pending.push((path, below));
            }
        } else if path.is_empty() {
            return Err(Error::tree(&absolute, "expected a directory"));
        }
        if !path.is_empty() {
            found.push(TreeEntry { path, absolute, metadata });
        }
        if found.len() as u64 > limits::ENTRIES {
            return Err(Error::limit(&root.display().to_string(), "the tree in entries", limits::ENTRIES));
        }
    }
    Ok(found)
}

/// Where `path` leads when symbolic links are followed with `root` as `/`, so that no link leaves
/// it. `None` where it leads nowhere.
pub fn resolve(root: &Path, path: &str) -> Option<PathBuf> {
    let mut at = PathBuf::new();
    let mut links = 0;
    let mut pending: VecDeque<PathBuf> =
        Path::new(path).components().map(|component| PathBuf::from(component.as_os_str())).collect();
    while let Some(next) = pending.pop_front() {
        match next.components().next()? {
            Component::RootDir | Component::Prefix(_) => at.clear(),
            Component::CurDir => {}
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let absolute = root.join(&at).join(name);
                if fs::symlink_metadata(&absolute).ok()?.is_symlink() {
                    links += 1;
                    if links > LINKS {
                        return None;
                    }
                    let target = fs::read_link(&absolute).ok()?;
                    for component in target.components().rev() {
                        pending.push_front(PathBuf::from(component.as_os_str()));
                    }
                } else {
                    at.push(name);
                }
            }
        }
    }
    Some(root.join(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/a"), "a").unwrap();
        fs::write(folder.path().join("outside"), "o").unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("../../../../../usr/lib/a", root.join("usr/lib/up")).unwrap();
        symlink("../outside", root.join("escape")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(resolve(&root, "lib/a"), Some(root.join("usr/lib/a")));
        assert_eq!(resolve(&root, "lib/up"), Some(root.join("usr/lib/a")));
        assert_eq!(resolve(&root, "escape"), None);
        assert_eq!(resolve(&root, "loop"), None);
        assert_eq!(resolve(&root, "missing"), None);
    }
}
