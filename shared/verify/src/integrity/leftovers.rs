//! What a build leaves behind and an image must not have.

use std::sync::LazyLock;

use regex::bytes::Regex;

use crate::files::{Files, Kind};
use crate::report::{Complaint, Finding};

use super::programs::BUILD_FOLDERS;

/// Folders whose content is made anew where the image runs.
const VOLATILE: [&str; 8] =
    ["tmp/", "var/tmp/", "run/", "var/run/", "var/cache/", "var/log/", "var/lib/apt/lists/", "etc/apk/cache/"];
/// Folders of caches and of version control, wherever they are.
const WORKING: [&str; 10] =
    [".cache", ".npm", ".cargo", ".rustup", ".gradle", ".m2", ".git", ".hg", ".svn", "node-gyp-cache"];
/// What shells and editors remember.
const REMEMBERED: [&str; 8] = [
    ".ash_history",
    ".bash_history",
    ".python_history",
    ".sh_history",
    ".zsh_history",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
];
/// Files that programs keep secrets in.
const SECRETS: [&str; 8] = [
    ".netrc",
    ".git-credentials",
    ".pypirc",
    ".dockercfg",
    ".docker/config.json",
    ".aws/credentials",
    ".ssh/id_rsa",
    ".ssh/id_ed25519",
];

/// The first lines of a private key in PEM. A program that can read keys has the first line alone.
static KEY: LazyLock<Result<Regex, regex::Error>> = LazyLock::new(|| {
    Regex::new(
        r"(?m-u)^-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY( BLOCK)?-----\r?\n([A-Za-z-]+: [^\n]*\n)*\r?\n?[A-Za-z0-9+/=]{16}",
    )
});

/// A folder that only builds see, or something in it.
static BUILD_PATH: LazyLock<Result<Regex, regex::Error>> =
    LazyLock::new(|| Regex::new(&format!(r"(?-u)({})([^A-Za-z0-9_-]|$)", BUILD_FOLDERS.join("|"))));

/// What reading every file has found.
#[derive(Default)]
pub(super) struct Leftovers {
    keys: Vec<Complaint>,
    build_paths: Vec<Complaint>,
}

impl Leftovers {
    /// Looks at a file's content.
    pub(super) fn look(&mut self, path: &str, bytes: &[u8]) {
        if KEY.as_ref().is_ok_and(|expression| expression.is_match(bytes)) {
            let message = format!("`/{path}` holds a private key; remove it from its package");
            self.keys.push(Complaint::at(path, message));
        }
        let named = BUILD_PATH.as_ref().ok().and_then(|expression| expression.captures(bytes)?.get(1));
        if let Some(folder) = named {
            let folder = String::from_utf8_lossy(folder.as_bytes());
            let message = format!(
                "`/{path}` names `{folder}`, which only its build had; \
                 build it with `-ffile-prefix-map`, or remove the path in its pipeline"
            );
            self.build_paths.push(Complaint::at(path, message));
        }
    }

    pub(super) fn keys(&self, files: &Files) -> Finding {
        if let Err(error) = &*KEY {
            return Finding::not_run(format!("the expression of private keys can't be used: {error}"));
        }
        let mut complaints = self.keys.clone();
        for (path, _) in files.iter().filter(|(_, entry)| entry.kind != Kind::Directory) {
            if SECRETS.iter().any(|name| path == *name || path.ends_with(&format!("/{name}"))) {
                complaints.push(Complaint::at(path, format!("`/{path}` is where secrets are kept; remove it")));
            } else if path.starts_with("etc/apk/keys/") && !path.ends_with(".pub") {
                complaints
                    .push(Complaint::at(path, format!("`/{path}` is no public key; only `.pub` files belong there")));
            }
        }
        Finding::listing(complaints, "no file holds a private key, or is where secrets are kept")
    }

    pub(super) fn build_paths(&self) -> Finding {
        if let Err(error) = &*BUILD_PATH {
            return Finding::not_run(format!("the expression of build folders can't be used: {error}"));
        }
        Finding::listing(self.build_paths.clone(), "no file names a folder of its build")
    }
}

/// Whether caches, logs and other traces of working are left.
pub(super) fn caches(files: &Files) -> Finding {
    let mut complaints = Vec::new();
    for (path, _) in files.iter().filter(|(_, entry)| entry.kind != Kind::Directory) {
        let name = path.rsplit('/').next().unwrap_or_default();
        let volatile = VOLATILE.iter().find(|folder| path.starts_with(**folder));
        let working = path.split('/').rev().skip(1).find(|part| WORKING.contains(part));
        if let Some(folder) = volatile {
            complaints.push(Complaint::at(
                path,
                format!("`/{path}` lies in `/{folder}`, which is filled where the image runs; remove it"),
            ));
        } else if let Some(folder) = working {
            complaints.push(Complaint::at(
                path,
                format!("`/{path}` lies in a `{folder}`, which only working with it needs; remove it"),
            ));
        } else if REMEMBERED.contains(&name) || name.ends_with(".apk-new") {
            complaints.push(Complaint::at(path, format!("`/{path}` is a trace of a session; remove it")));
        }
    }
    Finding::listing(complaints, "no cache, log or trace of a session is left")
}
