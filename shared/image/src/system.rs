use std::collections::BTreeMap;

use apk::Architecture;

use crate::Error;
use crate::settings::{Distribution, Key, Settings};
use crate::tree::{Kind, Node, Owner, Tree, relative};

/// Directories that container runtimes and C libraries expect, and their modes.
const DIRECTORIES: [(&str, u32); 10] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/apk", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Adds the directories that every image has; one that a package states keeps the package's mode.
pub(crate) fn directories(tree: &mut Tree, mtime: u64) -> Result<(), Error> {
    for (path, mode) in DIRECTORIES {
        let place = tree.follow(path).map_err(|problem| composed(path, problem))?;
        match tree.get(&place) {
            None => {}
            Some(Node { kind: Kind::Directory, owner: Owner::Implied, .. }) => {}
            Some(Node { kind: Kind::Directory, .. }) => continue,
            Some(_) => {
                return Err(composed(path, "a package has something else there".to_owned()));
            }
        }
        tree.insert(place, Node::directory(mode, mtime, Owner::Composition), mtime);
    }
    Ok(())
}

/// Adds `/etc/apk` and, if no package brings one, `/etc/os-release`.
pub(crate) fn files(tree: &mut Tree, settings: &Settings, architecture: Architecture, mtime: u64) -> Result<(), Error> {
    let mut world = settings.world.clone();
    world.sort();
    world.dedup();
    let world = lines("contents.packages", &world)?;
    write(tree, "etc/apk/world", world.into_bytes(), mtime)?;
    let architecture = format!("{}\n", architecture.apk());
    write(tree, "etc/apk/arch", architecture.into_bytes(), mtime)?;
    let repositories = lines("contents.repositories", &settings.repositories)?;
    write(tree, "etc/apk/repositories", repositories.into_bytes(), mtime)?;
    for Key { name, content } in &settings.keys {
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(Error::Setting {
                setting: "contents.keyring",
                value: name.clone(),
                problem: "a key's name is a file name".to_owned(),
            });
        }
        write(tree, &format!("etc/apk/keys/{name}"), content.clone().into_bytes(), mtime)?;
    }
    let brought = ["etc/os-release", "usr/lib/os-release"].iter().any(|path| tree.get(path).is_some());
    if !brought {
        let text = os_release(&settings.distribution)?;
        write(tree, "etc/os-release", text.into_bytes(), mtime)?;
    }
    Ok(())
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
            let place = relative(&path)
                .map_err(str::to_owned)
                .and_then(|inside| tree.place(inside))
                .map_err(|problem| composed(list, format!("its line `{line}`: {problem}")))?;
            if !place.is_empty() && tree.get(&place).is_none() {
                let kind = Kind::Symlink(format!("/{program}"));
                tree.insert(place, Node::new(kind, 0o777, mtime, Owner::Composition), mtime);
            }
        }
    }
    Ok(())
}

/// Writes a file of the composition over whatever regular file is at the path.
pub(crate) fn write(tree: &mut Tree, path: &str, bytes: Vec<u8>, mtime: u64) -> Result<(), Error> {
    let place = tree.follow(path).map_err(|problem| composed(path, problem))?;
    let mut node = Node::file(bytes, 0o644, mtime);
    match tree.get(&place) {
        None => {}
        Some(known) if matches!(known.kind, Kind::File(_)) => {
            (node.mode, node.uid, node.gid) = (known.mode, known.uid, known.gid);
            node.owner = known.owner;
        }
        Some(_) => {
            return Err(composed(path, "a package has no regular file there".to_owned()));
        }
    }
    tree.insert(place, node, mtime);
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

fn os_release(distribution: &Distribution) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ' ');
    for value in [&distribution.id, &distribution.name, &distribution.version] {
        if !value.chars().all(plain) {
            return Err(Error::Setting {
                setting: "distribution",
                value: value.clone(),
                problem: "letters, digits, spaces, `.`, `_` and `-` only".to_owned(),
            });
        }
    }
    let mut text =
        format!("ID={}\nNAME=\"{}\"\nPRETTY_NAME=\"{}\"\n", distribution.id, distribution.name, distribution.name);
    if !distribution.version.is_empty() {
        text.push_str(&format!("VERSION_ID=\"{}\"\n", distribution.version));
    }
    Ok(text)
}

fn composed(path: &str, problem: String) -> Error {
    Error::Path { setting: "composed file".to_owned(), path: format!("/{path}"), problem }
}
