use std::collections::BTreeMap;

use apk::Architecture;
use recipe::rules;

use crate::Error;
use crate::base::BaseFiles;
use crate::settings::{Distribution, Key, OsRelease, Settings};
use crate::tree::{Content, Kind, Node, Owner, Tree};

/// Directories that every image has, and their modes, as apko makes them.
const DIRECTORIES: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/apk", 0o755),
    ("etc/apk/keys", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/lib", 0o755),
    ("usr/lib/apk", 0o755),
    ("usr/lib/apk/db", 0o755),
    ("usr/lib/apk/exec", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/cache/apk", 0o755),
    ("var/cache/misc", 0o755),
];
const OLD_DATABASE: &str = "lib/apk/db";
/// Character devices that every image has: path, major and minor number, mode.
const DEVICES: [(&str, u32, u32, u32); 5] = [
    ("dev/console", 5, 1, 0o620),
    ("dev/null", 1, 3, 0o666),
    ("dev/random", 1, 8, 0o666),
    ("dev/urandom", 1, 9, 0o666),
    ("dev/zero", 1, 5, 0o666),
];

/// The tree that packages are laid over: the directories of every image.
pub(crate) fn base(mtime: u64) -> Tree {
    let mut tree = Tree::default();
    for (path, mode) in DIRECTORIES {
        tree.insert(path.to_owned(), Node::directory(mode, mtime, Owner::Composition), mtime);
    }
    tree
}

/// Adds to the tree of a base image the directories of every image that it lacks, and takes out the apk
/// database of a place where apk no longer looks.
pub(crate) fn over_base(tree: &mut Tree, mtime: u64) -> Result<(), Error> {
    for (path, mode) in DIRECTORIES {
        make_directory(tree, path, mode, mtime)?;
    }
    let old = OLD_DATABASE;
    if tree.place(old).is_ok_and(|place| place == old) && tree.follow("lib/apk").as_deref() == Ok("lib/apk") {
        let files: Vec<String> = tree.below(old).filter(|path| !tree.is_directory(path)).map(str::to_owned).collect();
        files.iter().for_each(|path| tree.remove(path));
    }
    Ok(())
}

/// Adds the devices that no package has something else for.
pub(crate) fn devices(tree: &mut Tree, mtime: u64) -> Result<(), Error> {
    for (path, major, minor, mode) in DEVICES {
        let place = tree.place(path).map_err(|problem| composed(path, problem))?;
        if tree.get(&place).is_none() {
            let kind = Kind::Device { major, minor };
            tree.insert(place, Node::new(kind, mode, mtime, Owner::Composition), mtime);
        }
    }
    Ok(())
}

/// Makes `/lib/apk`, where apk looked for its database before `/usr/lib/apk`, lead there.
pub(crate) fn database_link(tree: &mut Tree, mtime: u64) -> Result<(), Error> {
    let (old, new) = ("lib/apk", "usr/lib/apk");
    let place = |tree: &Tree, path: &str| tree.follow(path).map_err(|problem| composed(path, problem));
    if place(tree, old)? == place(tree, new)? {
        return Ok(());
    }
    let at = tree.place(old).map_err(|problem| composed(old, problem))?;
    if tree.get(&at).is_some() {
        let below: Vec<String> = tree.below(&at).map(str::to_owned).collect();
        if !tree.is_directory(&at) || below.iter().any(|path| !tree.is_directory(path)) {
            let problem = "packages have files there, and the apk database is in /usr/lib/apk".to_owned();
            return Err(composed(old, problem));
        }
        for path in below.iter().chain([&at]) {
            tree.remove(path);
        }
    }
    let kind = Kind::Symlink(format!("../{new}"));
    let node = Node::new(kind, 0o777, tree.parent_mtime(&at), Owner::Composition);
    tree.insert(at, node, mtime);
    Ok(())
}

/// Adds `/etc/apk`, `/etc/apko.json` and, if no package brings one, `/etc/os-release`.
pub(crate) fn files(
    tree: &mut Tree,
    settings: &Settings,
    base: Option<&BaseFiles>,
    architecture: Architecture,
    mtime: u64,
) -> Result<(), Error> {
    let mut world = settings.world.clone();
    let below = base.map_or(&[][..], BaseFiles::packages).iter().map(|package| &package.entry.information);
    world.extend(below.map(|information| format!("{}={}", information.name, information.version)));
    world.sort();
    world.dedup();
    let world = lines("contents.packages", &world)?;
    write(tree, "etc/apk/world", world.into_bytes(), mtime)?;
    let architecture = format!("{}\n", architecture.apk());
    write(tree, "etc/apk/arch", architecture.into_bytes(), mtime)?;
    let mut repositories = settings.repositories.clone();
    repositories.sort();
    repositories.dedup();
    let repositories = lines("contents.repositories", &repositories)?;
    write(tree, "etc/apk/repositories", repositories.into_bytes(), mtime)?;
    for Key { name, content } in &settings.keys {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(Error::Setting {
                setting: "contents.keyring",
                value: name.clone(),
                problem: "a key's name is a file name".to_owned(),
            });
        }
        let path = format!("etc/apk/keys/{name}");
        let taken = |known: &[u8]| known != content.as_bytes();
        let place = tree.file(&path).map_err(|problem| composed(&path, problem))?;
        match tree.get(&place).map(|node| &node.kind) {
            Some(Kind::File(Content::Bytes(known))) if taken(known) => return Err(other_key(name)),
            Some(Kind::File(Content::Package { .. })) => return Err(other_key(name)),
            Some(Kind::File(Content::Base { .. })) => {
                if base.and_then(|base| base.content(&place)).is_none_or(taken) {
                    return Err(other_key(name));
                }
            }
            _ => write(tree, &path, content.clone().into_bytes(), mtime)?,
        }
    }
    if let Some(definition) = &settings.definition {
        write_mode(tree, "etc/apko.json", definition.clone().into_bytes(), 0o444, mtime)?;
    }
    let brought = ["etc/os-release", "usr/lib/os-release"].iter().any(|path| tree.get(path).is_some());
    if let Some(release) = &settings.os_release {
        if !release.id.is_empty() && !release.version_id.is_empty() {
            let text = format!("{}\n", release.version_id);
            write(tree, &format!("etc/{}-release", release.id), text.into_bytes(), mtime)?;
        }
        write(tree, "etc/os-release", release.text()?.into_bytes(), mtime)?;
    } else if !brought {
        let Distribution { id, name, version } = settings.distribution.clone();
        let release = OsRelease { id, pretty_name: name.clone(), name, version_id: version, ..OsRelease::default() };
        write(tree, "etc/os-release", release.text()?.into_bytes(), mtime)?;
    }
    Ok(())
}

/// A key must not take the place of another that verifies packages.
fn other_key(name: &str) -> Error {
    Error::Setting {
        setting: "contents.keyring",
        value: name.to_owned(),
        problem: "another key, a package's or the base image's, has this name".to_owned(),
    }
}

/// Makes the applet links that packages list in `/etc/busybox-paths.d/*`. Names that are taken
/// stay with who has them.
pub(crate) fn busybox_links(tree: &mut Tree, captured: &BTreeMap<String, Vec<u8>>, mtime: u64) -> Result<(), Error> {
    for (list, bytes) in captured {
        if !list.starts_with("etc/busybox-paths.d/") {
            continue;
        }
        let text = std::str::from_utf8(bytes).map_err(|_| composed(list, "it is not UTF-8".to_owned()))?;
        let program = ["bin/busybox", "usr/bin/busybox"]
            .into_iter()
            .find(|path| tree.follow(path).is_ok_and(|place| tree.get(&place).is_some()))
            .ok_or_else(|| composed(list, "it lists busybox applets, but there is no /bin/busybox".to_owned()))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let path = if line.starts_with('/') { line.to_owned() } else { format!("/{line}") };
            let place = rules::absolute_path(&path)
                .map_err(str::to_owned)
                .and_then(|inside| tree.place(inside))
                .map_err(|problem| composed(list, format!("its line `{line}`: {problem}")))?;
            if !place.is_empty() && tree.get(&place).is_none() {
                let kind = Kind::Symlink(format!("/{program}"));
                let node = Node::new(kind, 0o777, tree.parent_mtime(&place), Owner::Composition);
                tree.insert(place, node, mtime);
            }
        }
    }
    Ok(())
}

/// Writes a file of the composition over whatever regular file is at the path, which keeps its mode,
/// owner and time.
pub(crate) fn write(tree: &mut Tree, path: &str, bytes: Vec<u8>, mtime: u64) -> Result<(), Error> {
    write_mode(tree, path, bytes, 0o644, mtime)
}

/// As [`write`], with the mode of a file that is not there yet.
pub(crate) fn write_mode(tree: &mut Tree, path: &str, bytes: Vec<u8>, mode: u32, mtime: u64) -> Result<(), Error> {
    let place = tree.file(path).map_err(|problem| composed(path, problem))?;
    let mut node = Node::file(bytes, mode, mtime);
    match tree.get(&place) {
        None => {}
        Some(known) if matches!(known.kind, Kind::File(_)) => {
            (node.mode, node.uid, node.gid) = (known.mode, known.uid, known.gid);
            (node.mtime, node.owner) = (known.mtime, known.owner);
        }
        Some(_) => {
            return Err(composed(path, "a package has no regular file there".to_owned()));
        }
    }
    tree.insert(place, node, mtime);
    Ok(())
}

/// Makes a directory of the composition, if none is there.
pub(crate) fn make_directory(tree: &mut Tree, path: &str, mode: u32, mtime: u64) -> Result<(), Error> {
    let place = tree.follow(path).map_err(|problem| composed(path, problem))?;
    if tree.is_directory(&place) {
        return Ok(());
    }
    if tree.get(&place).is_some() {
        return Err(composed(path, "something else is there".to_owned()));
    }
    tree.insert(place, Node::directory(mode, mtime, Owner::Composition), mtime);
    Ok(())
}

fn lines(setting: &'static str, values: &[String]) -> Result<String, Error> {
    let mut text = String::new();
    for value in values {
        if value.is_empty() || value.contains(['\n', '\r', '\0']) {
            return Err(Error::Setting {
                setting,
                value: value.escape_debug().to_string(),
                problem: "each is one line that is not empty".to_owned(),
            });
        }
        text.push_str(value);
        text.push('\n');
    }
    Ok(text)
}

fn composed(path: &str, problem: String) -> Error {
    Error::Path { setting: "composed file".to_owned(), path: format!("/{path}"), problem }
}
