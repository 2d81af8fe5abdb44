//! cargo's registry index, as cargo on this machine uses it.

use std::path::{Path, PathBuf};

use super::{Surroundings, command};
use crate::error::{Error, Result};
use crate::store::read_bounded;

const LONGEST_FILE: u64 = 1024 * 1024;

/// The address of the sparse index: a `replace-with` of the built-in source in cargo's
/// configuration, else the built-in index. cargo names that one's host in the folder that it
/// keeps for it under `registry/index`; where there is none yet, or several, cargo is run once in
/// an empty home so that it makes just that one.
pub(super) async fn index(surroundings: &Surroundings) -> Result<String> {
    if let Some(index) = replacement(surroundings)? {
        return Ok(index);
    }
    if let Some(home) = &surroundings.cargo_home
        && let [host] = index_hosts(home)?.as_slice()
    {
        return Ok(format!("https://{host}"));
    }
    let home = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
    command::cargo_index_update(surroundings, home.path()).await?;
    match index_hosts(home.path())?.as_slice() {
        [host] => Ok(format!("https://{host}")),
        hosts => Err(no_endpoint(format!("cargo keeps {} indexes in a new home", hosts.len()))),
    }
}

pub(super) fn no_endpoint(reason: String) -> Error {
    Error::Endpoint { ecosystem: "cargo", reason, setting: "cargo", variable: "MINIMILL_CARGO_INDEX" }
}

/// Follows `source.crates-io.replace-with` through the configuration files, nearest first.
fn replacement(surroundings: &Surroundings) -> Result<Option<String>> {
    let mut files: Vec<PathBuf> = surroundings.working_folder.ancestors().map(|folder| folder.join(".cargo")).collect();
    files.extend(surroundings.cargo_home.clone());
    let mut tables = Vec::new();
    for folder in files {
        for name in ["config.toml", "config"] {
            if let Some(table) = read_configuration(&folder.join(name))? {
                tables.push(table);
                break;
            }
        }
    }
    let find = |path: [&str; 3]| {
        tables.iter().find_map(|table: &toml::Table| {
            let value = table.get(path[0])?.get(path[1])?.get(path[2])?;
            value.as_str().map(str::to_owned)
        })
    };
    let mut name = match find(["source", "crates-io", "replace-with"]) {
        Some(name) => name,
        None => return Ok(None),
    };
    for _ in 0..10 {
        if let Some(next) = find(["source", &name, "replace-with"]) {
            name = next;
            continue;
        }
        let index = find(["source", &name, "registry"]).or_else(|| find(["registries", &name, "index"]));
        return match index.as_deref().and_then(|index| index.strip_prefix("sparse+")) {
            Some(index) => Ok(Some(index.to_owned())),
            None => Err(no_endpoint(format!("cargo replaces its index with `{name}`, which is no sparse registry"))),
        };
    }
    Err(no_endpoint("cargo's source replacements go round in a circle".to_owned()))
}

fn read_configuration(path: &Path) -> Result<Option<toml::Table>> {
    let Some(bytes) = read_bounded(path, LONGEST_FILE)? else {
        return Ok(None);
    };
    let table = String::from_utf8_lossy(&bytes).parse().map_err(|error: toml::de::Error| Error::Configuration {
        origin: format!("`{}`", path.display()),
        reason: error.message().to_owned(),
    })?;
    Ok(Some(table))
}

/// Hosts of the sparse indexes that this cargo home holds: its folders are named `HOST-HASH`,
/// the hash being 16 hexadecimal digits, and hold a `config.json` as a git index doesn't.
fn index_hosts(cargo_home: &Path) -> Result<Vec<String>> {
    let folder = cargo_home.join("registry/index");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let mut hosts = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", &folder))?.path();
        let host = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.rsplit_once('-'))
            .filter(|(_, hash)| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
            .map(|(host, _)| host.to_owned());
        if let Some(host) = host.filter(|_| path.join("config.json").is_file()) {
            hosts.push(host);
        }
    }
    hosts.sort();
    hosts.dedup();
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(folder: &Path) -> Surroundings {
        Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("default.gpg"),
            cargo_home: Some(folder.join("home")),
            working_folder: folder.join("work"),
            run_clients: false,
        }
    }

    #[tokio::test]
    async fn the_registry_folder_names_the_built_in_index() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("home/registry/index/index.localhost-0123456789abcdef");
        std::fs::create_dir_all(&index).unwrap();
        std::fs::write(index.join("config.json"), "{}").unwrap();
        let found = super::index(&surroundings(folder.path())).await.unwrap();
        assert_eq!(found, "https://index.localhost");
    }

    #[tokio::test]
    async fn a_source_replacement_wins() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("home")).unwrap();
        std::fs::create_dir_all(folder.path().join("work/.cargo")).unwrap();
        std::fs::write(folder.path().join("work/.cargo/config.toml"), "[source.crates-io]\nreplace-with = \"near\"\n")
            .unwrap();
        std::fs::write(
            folder.path().join("home/config.toml"),
            "[source.near]\nregistry = \"sparse+http://localhost/index/\"\n",
        )
        .unwrap();
        let found = super::index(&surroundings(folder.path())).await.unwrap();
        assert_eq!(found, "http://localhost/index/");
    }

    #[tokio::test]
    async fn without_any_trace_the_error_says_what_to_set() {
        let folder = tempfile::tempdir().unwrap();
        let error = super::index(&surroundings(folder.path())).await.unwrap_err();
        assert!(error.to_string().contains("MINIMILL_CARGO_INDEX"), "{error}");
    }
}
