//! apt's sources: deb822 `.sources` files and one-line `.list` files (sources.list(5)).

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::store::read_bounded;

const LONGEST_FILE: u64 = 1024 * 1024;

/// A Debian archive that apt is configured to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AptSource {
    pub(crate) uri: String,
    /// Files of `Signed-By`; empty when it names none.
    pub(crate) keyrings: Vec<PathBuf>,
}

/// The first source, files in name order and `sources.list` first, whose address is http or
/// https with a path ending in `/debian`.
pub(crate) fn debian_source(apt_folder: &Path) -> Result<Option<AptSource>> {
    let mut files = vec![apt_folder.join("sources.list")];
    let parts = apt_folder.join("sources.list.d");
    match std::fs::read_dir(&parts) {
        Ok(entries) => {
            let mut found = Vec::new();
            for entry in entries {
                found.push(entry.map_err(Error::io("list", &parts))?.path());
            }
            found.sort();
            files.append(&mut found);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io("list", parts)(error)),
    }
    for path in files {
        let parse: fn(&str) -> Vec<AptSource> = match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => one_line,
            Some("sources") => deb822,
            _ => continue,
        };
        let Some(bytes) = read_bounded(&path, LONGEST_FILE)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let source = parse(&text).into_iter().find(|source| is_debian(&source.uri));
        if source.is_some() {
            return Ok(source);
        }
    }
    Ok(None)
}

fn is_debian(uri: &str) -> bool {
    (uri.starts_with("http://") || uri.starts_with("https://")) && uri.trim_end_matches('/').ends_with("/debian")
}

fn one_line(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(one_line_source).collect()
}

fn one_line_source(line: &str) -> Option<AptSource> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb-src").or_else(|| line.strip_prefix("deb"))?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let keyrings = options
        .split_whitespace()
        .filter_map(|option| option.strip_prefix("signed-by="))
        .flat_map(|value| value.split(','))
        .filter_map(keyring)
        .collect();
    let uri = rest.split_whitespace().next()?.to_owned();
    Some(AptSource { uri, keyrings })
}

fn deb822(text: &str) -> Vec<AptSource> {
    let mut sources = Vec::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in lines.split(|line| line.trim().is_empty()) {
        let (mut uris, mut keyrings) = (Vec::new(), Vec::new());
        let (mut enabled, mut field) = (true, String::new());
        for line in stanza {
            let value = if line.starts_with([' ', '\t']) {
                line.trim()
            } else if let Some((name, value)) = line.split_once(':') {
                field = name.trim().to_ascii_lowercase();
                value.trim()
            } else {
                continue;
            };
            match field.as_str() {
                "uris" => uris.extend(value.split_whitespace().map(str::to_owned)),
                "signed-by" => {
                    keyrings.extend(value.split([' ', '\t', ',']).filter_map(keyring));
                }
                "enabled" => enabled = !matches!(value, "no" | "false" | "off" | "0"),
                _ => {}
            }
        }
        if enabled {
            sources.extend(uris.into_iter().map(|uri| AptSource { uri, keyrings: keyrings.clone() }));
        }
    }
    sources
}

/// `Signed-By` may also hold fingerprints or a whole key; only files serve here.
fn keyring(word: &str) -> Option<PathBuf> {
    word.starts_with('/').then(|| PathBuf::from(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn deb822_sources_give_address_and_keyring() {
        let folder = folder(&[
            ("sources.list.d/a.sources", "Types: deb\nURIs: http://localhost/off/debian\nEnabled: no\nSuites: x\n"),
            (
                "sources.list.d/b.sources",
                "Types: deb\n# a comment\nURIs: http://localhost/debian-security\n \
                 http://localhost/debian/\nSuites: bookworm\nSigned-By: /k/one.gpg\n",
            ),
        ]);
        let source = debian_source(folder.path()).unwrap().unwrap();
        assert_eq!(source.uri, "http://localhost/debian/");
        assert_eq!(source.keyrings, [PathBuf::from("/k/one.gpg")]);
    }

    #[test]
    fn one_line_sources_give_address_and_keyring() {
        let folder = folder(&[(
            "sources.list",
            "# deb http://localhost/old/debian x main\n\
             deb [arch=amd64 signed-by=/k/two.gpg] https://localhost/debian trixie main\n",
        )]);
        let source = debian_source(folder.path()).unwrap().unwrap();
        assert_eq!(source.uri, "https://localhost/debian");
        assert_eq!(source.keyrings, [PathBuf::from("/k/two.gpg")]);
    }

    #[test]
    fn other_archives_are_not_taken() {
        let folder = folder(&[("sources.list", "deb http://localhost/ubuntu noble main\n")]);
        assert_eq!(debian_source(folder.path()).unwrap(), None);
    }
}
