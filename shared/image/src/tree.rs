use std::collections::{BTreeMap, VecDeque};

/// How many symbolic links a path may pass through, as in Linux.
const LINK_LIMIT: usize = 40;

/// A root file system as facts. Paths are relative to the root, without `.`, `..` or empty
/// components, and every parent of a node is a directory node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u64,
    pub xattrs: Vec<(String, Vec<u8>)>,
    pub owner: Owner,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(String),
    /// Another name of the regular file at this path of the tree.
    Hardlink(String),
    /// A character device.
    Device {
        major: u32,
        minor: u32,
    },
}

/// Where a regular file's content is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The entry with this number, counted from 0, of the package with this number.
    Package {
        package: usize,
        entry: usize,
        size: u64,
    },
    Bytes(Vec<u8>),
    /// In a layer of the base image.
    Base {
        size: u64,
    },
}

/// Who says that a node exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Package(usize),
    /// The base image, and which of its packages, if one.
    Base(Option<usize>),
    Composition,
    /// A directory that nobody states but something needs: whoever states it settles its mode.
    Implied,
}

impl Node {
    pub fn directory(mode: u32, mtime: u64, owner: Owner) -> Self {
        Self::new(Kind::Directory, mode, mtime, owner)
    }

    pub fn file(bytes: Vec<u8>, mode: u32, mtime: u64) -> Self {
        Self::new(Kind::File(Content::Bytes(bytes)), mode, mtime, Owner::Composition)
    }

    pub fn new(kind: Kind, mode: u32, mtime: u64, owner: Owner) -> Self {
        Self { kind, mode, uid: 0, gid: 0, mtime, xattrs: Vec::new(), owner }
    }

    /// Whether a layer would hold the same for both, whoever they are of.
    pub fn is_like(&self, other: &Self) -> bool {
        let facts = |node: &Self| (node.mode, node.uid, node.gid, node.mtime);
        facts(self) == facts(other) && self.kind == other.kind && self.xattrs == other.xattrs
    }
}

impl Tree {
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The node at a path, with the tree's own copy of the path.
    pub fn entry(&self, path: &str) -> Option<(&str, &Node)> {
        self.nodes.get_key_value(path).map(|(path, node)| (path.as_str(), node))
    }

    pub fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(path)
    }

    /// Removes a node, and nothing below it.
    pub fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
    }

    /// Every node, parents before what is in them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    pub fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.nodes.get(path).is_some_and(|node| node.kind == Kind::Directory)
    }

    /// The time of the directory that a path is in, which is what apko gives a link that it makes there.
    pub fn parent_mtime(&self, path: &str) -> u64 {
        path.rsplit_once('/').and_then(|(parent, _)| self.nodes.get(parent)).map_or(0, |parent| parent.mtime)
    }

    /// As [`Tree::follow`]; another name of a file leads to the file.
    pub fn file(&self, path: &str) -> Result<String, String> {
        let place = self.follow(path)?;
        match self.nodes.get(&place).map(|node| &node.kind) {
            Some(Kind::Hardlink(file)) => Ok(file.clone()),
            _ => Ok(place),
        }
    }

    /// The paths below a directory, the directory itself left out.
    pub fn below(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        self.nodes
            .range(prefix.clone()..)
            .map(|(path, _)| path.as_str())
            .take_while(move |path| path.starts_with(&prefix))
    }

    /// Puts a node at a resolved path, with those of its parents that are missing.
    pub fn insert(&mut self, path: String, node: Node, parents_mtime: u64) {
        for (at, _) in path.match_indices('/') {
            if let Some(parent) = path.get(..at)
                && !self.nodes.contains_key(parent)
            {
                self.nodes.insert(parent.to_owned(), Node::directory(0o755, parents_mtime, Owner::Implied));
            }
        }
        self.nodes.insert(path, node);
    }

    /// The place of a name: its parents' links are followed, its own is not.
    pub fn place(&self, path: &str) -> Result<String, String> {
        match path.rsplit_once('/') {
            None => Ok(path.to_owned()),
            Some((parent, name)) => {
                let parent = self.follow(parent)?;
                match self.nodes.get(&parent).map(|node| &node.kind) {
                    Some(Kind::File(_) | Kind::Hardlink(_) | Kind::Device { .. }) => {
                        Err(format!("`/{parent}` on the way is not a directory"))
                    }
                    _ => Ok(join(&parent, name)),
                }
            }
        }
    }

    /// The path with every symbolic link followed. Parts that don't exist are taken as written.
    pub fn follow(&self, path: &str) -> Result<String, String> {
        let mut pending: VecDeque<String> = path.split('/').map(str::to_owned).collect();
        let mut current = String::new();
        let mut links = 0;
        while let Some(component) = pending.pop_front() {
            match component.as_str() {
                "" | "." => continue,
                ".." => {
                    if current.is_empty() {
                        return Err("a symbolic link on the way climbs out of the root".to_owned());
                    }
                    let end = current.rfind('/').unwrap_or(0);
                    current.truncate(end);
                    continue;
                }
                _ => {}
            }
            let next = join(&current, &component);
            match self.nodes.get(&next).map(|node| &node.kind) {
                None | Some(Kind::Directory) => current = next,
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(format!("more than {LINK_LIMIT} symbolic links on the way"));
                    }
                    if target.starts_with('/') {
                        current.clear();
                    }
                    for part in target.split('/').rev() {
                        pending.push_front(part.to_owned());
                    }
                }
                Some(Kind::File(_) | Kind::Hardlink(_) | Kind::Device { .. }) => {
                    if pending.iter().any(|part| !part.is_empty()) {
                        return Err(format!("`/{next}` on the way is not a directory"));
                    }
                    current = next;
                }
            }
        }
        Ok(current)
    }
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(links: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        tree.insert("usr/lib".to_owned(), Node::directory(0o755, 0, Owner::Composition), 0);
        tree.insert("etc/passwd".to_owned(), Node::file(Vec::new(), 0o644, 0), 0);
        for (path, target) in links {
            let node = Node::new(Kind::Symlink((*target).to_owned()), 0o777, 0, Owner::Composition);
            tree.insert((*path).to_owned(), node, 0);
        }
        tree
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let tree = tree(&[
            ("lib", "usr/lib"),
            ("lib64", "/lib"),
            ("usr/lib/up", "../../etc"),
            ("out", "../../tmp"),
            ("a", "b"),
            ("b", "a"),
        ]);
        assert_eq!(tree.place("lib/x"), Ok("usr/lib/x".to_owned()));
        assert_eq!(tree.place("lib64/sub/x"), Ok("usr/lib/sub/x".to_owned()));
        assert_eq!(tree.place("lib/up/x"), Ok("etc/x".to_owned()));
        assert_eq!(tree.place("lib"), Ok("lib".to_owned()));
        assert!(tree.place("out/x").unwrap_err().contains("climbs out of the root"));
        assert!(tree.place("a/x").unwrap_err().contains("more than 40"));
        assert!(tree.place("etc/passwd/x").unwrap_err().contains("`/etc/passwd`"));
    }

    #[test]
    fn missing_parents_are_implied() {
        let mut tree = Tree::default();
        tree.insert("a/b/c".to_owned(), Node::file(Vec::new(), 0o600, 1), 7);
        let parent = tree.get("a/b").unwrap();
        assert_eq!((parent.mode, parent.mtime, parent.owner), (0o755, 7, Owner::Implied));
        assert_eq!(tree.below("a").collect::<Vec<_>>(), ["a/b", "a/b/c"]);
    }
}
