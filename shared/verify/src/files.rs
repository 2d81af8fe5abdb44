//! What is at which path of an image, as its layers say it, not as this machine could unpack it.

use std::collections::BTreeMap;

const MAXIMUM_LINKS: usize = 40;

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file of this many bytes.
    Regular(u64),
    /// A symbolic link with this target.
    Symlink(String),
    /// A device or a named pipe.
    Other,
}

/// One path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Whether who runs it gets capabilities (`security.capability`).
    pub capabilities: bool,
}

/// The paths of an image, relative to its root, without a slash at either end.
#[derive(Debug, Clone, Default)]
pub struct Files(pub(crate) BTreeMap<String, Entry>);

impl Files {
    /// What is at `path`, with links in its folders followed, but not a link that it is itself.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.0.get(&self.place(path)?)
    }

    /// All paths, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// The path that `path` leads to when all links are followed, inside the image; none when it
    /// doesn't exist or the links go in a circle.
    #[must_use]
    pub fn follow(&self, path: &str) -> Option<String> {
        let resolved = self.resolve(path, true)?;
        (resolved.is_empty() || self.0.contains_key(&resolved)).then_some(resolved)
    }

    /// `path` with the links in its folders followed; it need not exist.
    pub(crate) fn place(&self, path: &str) -> Option<String> {
        self.resolve(path, false)
    }

    fn resolve(&self, path: &str, last: bool) -> Option<String> {
        let mut waiting: Vec<String> = parts(path);
        let mut done: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = waiting.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            done.push(part);
            if waiting.is_empty() && !last {
                break;
            }
            if let Some(Entry { kind: Kind::Symlink(target), .. }) = self.0.get(&done.join("/")) {
                links += 1;
                if links > MAXIMUM_LINKS {
                    return None;
                }
                if target.starts_with('/') {
                    done.clear();
                } else {
                    done.pop();
                }
                waiting.extend(parts(target));
            }
        }
        Some(done.join("/"))
    }

    /// Removes a path and all below it.
    pub(crate) fn remove(&mut self, path: &str) {
        self.0.remove(path);
        self.clear(path);
    }

    /// Removes all below a path.
    pub(crate) fn clear(&mut self, path: &str) {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.0.retain(|other, _| !other.starts_with(&prefix));
    }
}

/// The parts of a path, last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_image() {
        let entry = |kind| Entry { kind, mode: 0o755, uid: 0, gid: 0, capabilities: false };
        let link = |target: &str| entry(Kind::Symlink(target.to_owned()));
        let files = Files(BTreeMap::from([
            ("lib".to_owned(), link("/usr/lib")),
            ("usr".to_owned(), entry(Kind::Directory)),
            ("usr/lib".to_owned(), entry(Kind::Directory)),
            ("usr/lib/libz.so".to_owned(), link("libz.so.1")),
            ("usr/lib/libz.so.1".to_owned(), entry(Kind::Regular(3))),
            ("escape".to_owned(), link("../../../usr/lib/libz.so")),
            ("circle".to_owned(), link("circle")),
        ]));
        assert_eq!(files.follow("/lib/libz.so").as_deref(), Some("usr/lib/libz.so.1"));
        assert_eq!(files.follow("/escape").as_deref(), Some("usr/lib/libz.so.1"));
        assert_eq!(files.get("/lib/libz.so").unwrap().kind, Kind::Symlink("libz.so.1".into()));
        assert_eq!(files.follow("circle"), None);
        assert_eq!(files.follow("absent"), None);
        assert_eq!(files.follow("/").as_deref(), Some(""));
    }
}
