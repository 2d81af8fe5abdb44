use recipe::rules;

use crate::Error;
use crate::settings::{PathKind, PathMutation};
use crate::tree::{Kind, Node, Owner, Tree};

/// Applies the settings' path mutations in order.
pub(crate) fn mutate(tree: &mut Tree, mutations: &[PathMutation], mtime: u64) -> Result<(), Error> {
    for mutation in mutations {
        apply(tree, mutation, mtime).map_err(|problem| Error::Path {
            setting: format!("paths: {}", mutation.kind.as_str()),
            path: mutation.path.clone(),
            problem,
        })?;
    }
    Ok(())
}

fn apply(tree: &mut Tree, mutation: &PathMutation, mtime: u64) -> Result<(), String> {
    let inside = rules::absolute_path(&mutation.path)?;
    mutation.permissions.map_or(Ok(()), rules::permissions)?;
    match mutation.kind {
        PathKind::Directory => {
            let path = tree.follow(inside)?;
            if path.is_empty() {
                return Err("the root itself can't be changed".to_owned());
            }
            let new = match tree.get(&path).map(|node| &node.kind) {
                None => true,
                Some(Kind::Directory) => false,
                Some(_) => return Err("it is there and not a directory".to_owned()),
            };
            if new {
                make_directories(tree, &path, mutation.permissions.unwrap_or(0o755), mtime);
            }
            permit(tree, &path, mutation)
        }
        PathKind::EmptyFile => {
            let path = tree.follow(inside)?;
            if tree.is_directory(&path) {
                return Err("it is there and a directory".to_owned());
            }
            if linked(tree, &path) {
                return Err("it has hard links, which would be emptied too".to_owned());
            }
            let mode = tree.get(&path).map_or(0o644, |node| node.mode);
            tree.insert(path.clone(), Node::file(Vec::new(), mode, mtime), mtime);
            permit(tree, &path, mutation)
        }
        PathKind::Hardlink => {
            let source = mutation.source.as_deref().unwrap_or_default();
            let target = tree.follow(rules::absolute_path(source)?)?;
            let target = match tree.get(&target).map(|node| &node.kind) {
                Some(Kind::File(_)) => target,
                Some(Kind::Hardlink(first)) => first.clone(),
                _ => return Err(format!("its source `{source}` is not a regular file")),
            };
            let path = tree.place(inside)?;
            if tree.is_directory(&path) {
                return Err("it is there and a directory".to_owned());
            }
            if path == target || linked(tree, &path) {
                return Err("it is itself what hard links lead to".to_owned());
            }
            let node = Node::new(Kind::Hardlink(target), 0, mtime, Owner::Composition);
            tree.insert(path.clone(), node, mtime);
            match mutation.permissions {
                // Owner and mode are those of the file; only what is stated changes them.
                None if mutation.uid.or(mutation.gid).is_none() => copy_permissions(tree, &path),
                _ => {
                    copy_permissions(tree, &path)?;
                    permit(tree, &path, mutation)
                }
            }
        }
        PathKind::Symlink => {
            let source = mutation.source.as_deref().unwrap_or_default();
            if source.is_empty() || source.contains('\0') {
                return Err("it has no source".to_owned());
            }
            let path = tree.place(inside)?;
            match tree.get(&path).map(|node| &node.kind) {
                None => {}
                Some(Kind::Symlink(target)) if target == source => {}
                Some(_) => return Err("something else is there already".to_owned()),
            }
            let kind = Kind::Symlink(source.to_owned());
            let mut node = Node::new(kind, 0o777, tree.parent_mtime(&path), Owner::Composition);
            own(&mut node, mutation);
            tree.insert(path, node, mtime);
            Ok(())
        }
        PathKind::Permissions => {
            let path = tree.follow(inside)?;
            if tree.get(&path).is_none() {
                return Err("nothing is there; create it first".to_owned());
            }
            permit(tree, &path, mutation)
        }
    }
}

/// Makes a directory and those above it that are missing; as in apko all have its mode.
fn make_directories(tree: &mut Tree, path: &str, mode: u32, mtime: u64) {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    for directory in ends.filter_map(|end| path.get(..end)) {
        if tree.get(directory).is_none() {
            tree.insert(directory.to_owned(), Node::directory(mode, mtime, Owner::Composition), mtime);
        }
    }
}

/// Sets owner and mode of a path, and of all below it when the mutation is recursive.
fn permit(tree: &mut Tree, path: &str, mutation: &PathMutation) -> Result<(), String> {
    let mut paths = vec![path.to_owned()];
    if mutation.recursive {
        paths.extend(tree.below(path).map(str::to_owned));
    }
    for path in paths {
        // A hard link and its file are one: what is set for one name holds for all.
        let file = match tree.get(&path).map(|node| &node.kind) {
            Some(Kind::Hardlink(target)) => target.clone(),
            _ => path,
        };
        let names = names(tree, &file);
        for name in names {
            if let Some(node) = tree.get_mut(&name) {
                own(node, mutation);
                if let (Some(mode), false) = (mutation.permissions, node.is_symlink()) {
                    node.mode = mode;
                }
            }
        }
    }
    Ok(())
}

fn own(node: &mut Node, mutation: &PathMutation) {
    if mutation.uid.or(mutation.gid).is_some() {
        (node.uid, node.gid) = (mutation.uid.unwrap_or(0), mutation.gid.unwrap_or(0));
    }
}

fn copy_permissions(tree: &mut Tree, link: &str) -> Result<(), String> {
    let Some(Kind::Hardlink(target)) = tree.get(link).map(|node| &node.kind) else {
        return Ok(());
    };
    let Some(file) = tree.get(target).cloned() else {
        return Ok(());
    };
    if let Some(node) = tree.get_mut(link) {
        (node.uid, node.gid, node.mode, node.mtime) = (file.uid, file.gid, file.mode, file.mtime);
    }
    Ok(())
}

fn names(tree: &Tree, file: &str) -> Vec<String> {
    let mut names = vec![file.to_owned()];
    if tree.get(file).is_some_and(|node| matches!(node.kind, Kind::File(_))) {
        names.extend(links_to(tree, file).map(str::to_owned));
    }
    names
}

fn linked(tree: &Tree, file: &str) -> bool {
    links_to(tree, file).next().is_some()
}

fn links_to<'t>(tree: &'t Tree, file: &str) -> impl Iterator<Item = &'t str> {
    tree.iter()
        .filter(move |(_, node)| matches!(&node.kind, Kind::Hardlink(target) if target == file))
        .map(|(path, _)| path)
}

impl Node {
    fn is_symlink(&self) -> bool {
        matches!(self.kind, Kind::Symlink(_))
    }
}
