use std::path::{Path, PathBuf};

use apk::Architecture;

use crate::{Error, Result};

const INDEX: &str = "APKINDEX.tar.gz";

/// One line of `contents.repositories`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryLine {
    /// The tag, without `@`, that a want must carry to see the packages.
    pub tag: Option<String>,
    /// Where the repository is.
    pub location: Location,
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder with a folder per architecture, a folder that holds the index itself, or the index
    /// file. Relative ones are tried below each of these folders in turn.
    Path {
        /// As written.
        path: PathBuf,
        /// The folders it may be relative to.
        bases: Vec<PathBuf>,
    },
    /// `http://` or `https://`, without a slash at the end.
    Url(String),
}

impl RepositoryLine {
    /// Reads `[@tag ]PATH|URL`. A relative path is looked for below each of `bases`, in order.
    ///
    /// # Errors
    /// [`Error::Line`].
    pub fn parse(line: &str, bases: &[&Path]) -> Result<Self> {
        let failed = |problem| Error::Line { line: line.to_owned(), problem };
        let text = line.trim();
        let (tag, text) = match text.strip_prefix('@') {
            None => (None, text),
            Some(rest) => {
                let (tag, rest) =
                    rest.split_once(char::is_whitespace).ok_or_else(|| failed("nothing follows the tag"))?;
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
                if tag.is_empty() || !tag.bytes().all(valid) {
                    return Err(failed("a tag holds only letters, digits, `_`, `-` and `.`"));
                }
                (Some(tag.to_owned()), rest.trim())
            }
        };
        if text.is_empty() {
            return Err(failed("it is empty"));
        }
        let location = match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => Location::Url(text.trim_end_matches('/').to_owned()),
            Some(("file", rest)) => {
                Location::Path { path: rest.strip_prefix("localhost").unwrap_or(rest).into(), bases: Vec::new() }
            }
            Some(_) => return Err(failed("only http, https and file addresses are known")),
            None => Location::Path { path: text.into(), bases: bases.iter().map(|base| (*base).to_owned()).collect() },
        };
        Ok(Self { tag, location })
    }

    /// Whether the repository is on this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.location, Location::Path { .. })
    }
}

impl Location {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Path { path, .. } => path.display().to_string(),
            Self::Url(url) => url.clone(),
        }
    }
}

/// The addresses of an index and of the folder that holds its packages.
pub(crate) fn index_url(url: &str, architecture: Architecture) -> (String, String) {
    let folder = match url.strip_suffix(INDEX) {
        Some(folder) => folder.trim_end_matches('/').to_owned(),
        None => format!("{url}/{}", architecture.apk()),
    };
    (format!("{folder}/{INDEX}"), folder)
}

/// The index file of a repository on this machine.
pub(crate) fn index_file(path: &Path, bases: &[PathBuf], architecture: Architecture) -> Result<PathBuf> {
    let roots: Vec<PathBuf> = if path.is_absolute() || bases.is_empty() {
        vec![path.to_owned()]
    } else {
        bases.iter().map(|base| base.join(path)).collect()
    };
    let mut looked = Vec::new();
    for root in roots {
        if root.is_file() {
            return Ok(root);
        }
        for file in [root.join(architecture.apk()).join(INDEX), root.join(INDEX)] {
            if file.is_file() {
                return Ok(file);
            }
            looked.push(file);
        }
    }
    Err(Error::NoIndex { location: path.display().to_string(), architecture, looked })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RepositoryLine> {
        RepositoryLine::parse(line, &[Path::new("/base")])
    }

    #[test]
    fn lines_are_taken_apart() {
        let tagged = parse("@edge https://packages.example/os/").unwrap();
        assert_eq!(tagged.tag.as_deref(), Some("edge"));
        assert_eq!(tagged.location, Location::Url("https://packages.example/os".to_owned()));
        assert!(!tagged.is_local());
        let local = parse(" ./packages ").unwrap();
        assert_eq!(local.location, Location::Path { path: "./packages".into(), bases: vec!["/base".into()] });
        let file = parse("file://localhost/srv/apk").unwrap();
        assert_eq!(file.location, Location::Path { path: "/srv/apk".into(), bases: Vec::new() });
    }

    #[test]
    fn what_is_no_repository_says_why() {
        for (line, problem) in [
            ("", "it is empty"),
            ("@edge", "nothing follows the tag"),
            ("@e/x path", "a tag holds only"),
            ("ftp://host/os", "only http, https and file"),
            ("https://", "only http, https and file"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(problem), "{line}: {error}");
        }
    }

    #[test]
    fn an_index_address_may_name_the_file() {
        let (index, folder) = index_url("https://h/os", Architecture::Aarch64);
        assert_eq!((index.as_str(), folder.as_str()), ("https://h/os/aarch64/APKINDEX.tar.gz", "https://h/os/aarch64"));
        let (index, folder) = index_url("https://h/x/APKINDEX.tar.gz", Architecture::X86_64);
        assert_eq!((index.as_str(), folder.as_str()), ("https://h/x/APKINDEX.tar.gz", "https://h/x"));
    }
}
