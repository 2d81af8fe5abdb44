//! What package builds take from the host's own Debian, until the catalog builds its own tools.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, find};

const MAXIMUM_BYTES: u64 = 1 << 20;

/// The names that a package definition may want and the host satisfies; `bootstrap.yaml`:
///
/// ```yaml
/// provides:
///   build-base:
///     debian: [gcc, make, binutils, libc6-dev]   # packages, for messages and provenance
///     commands: [gcc, make, ld]                  # what must be there
///     files: [bin/gcc, lib/musl.specs]           # what of the bootstrap's folder builds use that want it
///     targets:                                   # what an architecture other than the host's needs besides
///       aarch64: {debian: [gcc-aarch64-linux-gnu], commands: [aarch64-linux-gnu-gcc]}
/// ```
#[derive(Debug, Clone, Default)]
pub struct Bootstrap {
    provides: BTreeMap<String, Provided>,
    path: PathBuf,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    provides: BTreeMap<String, Provided>,
}

#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Provided {
    debian: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    targets: BTreeMap<String, Tools>,
}

/// Commands, and the Debian packages that have them.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tools {
    debian: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    #[serde(default)]
    files: Vec<String>,
}

impl Provided {
    /// The packages and commands for a target; the host's own machine needs no more.
    fn tools(&self, target: &str) -> Tools {
        let mut tools = Tools { debian: self.debian.clone(), commands: self.commands.clone(), files: Vec::new() };
        if let Some(further) = self.targets.get(target).filter(|_| target != std::env::consts::ARCH) {
            tools.debian.extend_from_slice(&further.debian);
            tools.commands.extend_from_slice(&further.commands);
        }
        tools
    }
}

impl Bootstrap {
    /// Reads a `bootstrap.yaml`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::BootstrapFormat`] with line and column.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let size = path.metadata().map_err(|source| Error::io("read", path, source))?.len();
        let text = if size > MAXIMUM_BYTES {
            return Err(Error::BootstrapFormat {
                path: path.to_path_buf(),
                message: format!("has {size} bytes; at most {MAXIMUM_BYTES} are read"),
            });
        } else {
            std::fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?
        };
        let document: Document = serde_saphyr::from_str(&text).map_err(|error| {
            let place = error.location().map(|at| format!("{}:{}: ", at.line(), at.column())).unwrap_or_default();
            let message = error.without_snippet().to_string();
            // The place is said once, in front.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            Error::BootstrapFormat { path: path.to_path_buf(), message: format!("{place}{message}") }
        })?;
        Ok(Bootstrap { provides: document.provides, path: path.to_path_buf() })
    }

    /// Whether the host satisfies `name`.
    #[must_use]
    pub fn provides(&self, name: &str) -> bool {
        self.provides.contains_key(name)
    }

    /// One message for each of `names` whose commands aren't where a build looks for them, with
    /// the Debian packages to install. Empty when all is there. `target` is the architecture that is
    /// built for, as apk names it.
    #[must_use]
    pub fn missing(&self, names: &[String], target: &str) -> Vec<String> {
        let mut messages = Vec::new();
        for name in names {
            match self.find_provided(name) {
                Err(error) => messages.push(error.to_string()),
                Ok(provided) => {
                    let Tools { debian, mut commands, .. } = provided.tools(target);
                    commands.retain(|command| find::find(command, OsStr::new("")).is_none());
                    if !commands.is_empty() {
                        let error = Error::MissingCommands { commands, packages: debian };
                        messages.push(error.to_string());
                    }
                }
            }
        }
        messages
    }

    /// The Debian packages behind `names` with their installed versions, sorted by name.
    ///
    /// # Errors
    /// [`Error::NotProvided`]; [`Error::MissingProgram`] on a host without `dpkg-query`;
    /// [`Error::NotInstalled`] for packages that aren't installed.
    pub fn versions(&self, names: &[String], target: &str) -> Result<Vec<(String, String)>, Error> {
        let mut packages = BTreeSet::new();
        for name in names {
            packages.extend(self.find_provided(name)?.tools(target).debian);
        }
        if packages.is_empty() {
            return Ok(Vec::new());
        }
        let program = find::require("dpkg-query", "dpkg", OsStr::new(""))?;
        let output = Command::new(&program)
            .args(["--show", "--showformat=${db:Status-Status} ${Package} ${Version}\\n", "--"])
            .args(&packages)
            .env_clear()
            .output()
            .map_err(|source| Error::io("start", &program, source))?;
        let mut installed = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if let Some(("installed", package)) = line.split_once(' ')
                && let Some((name, version)) = package.split_once(' ')
            {
                installed.insert(name.to_owned(), version.to_owned());
            }
        }
        let absent: Vec<_> = packages.into_iter().filter(|name| !installed.contains_key(name)).collect();
        if absent.is_empty() {
            Ok(installed.into_iter().collect())
        } else {
            Err(Error::NotInstalled { packages: absent })
        }
    }

    /// The files and folders beside `bootstrap.yaml` that builds for `target` use that want these
    /// names. They do not depend on the machine, so that every machine claims one version.
    #[must_use]
    pub fn files(&self, names: &[String], target: &str) -> BTreeSet<&str> {
        let provided = names.iter().filter_map(|name| self.provides.get(name));
        let files = provided.flat_map(|provided| {
            let further = provided.targets.get(target).map(|tools| tools.files.as_slice()).unwrap_or_default();
            provided.files.iter().chain(further)
        });
        files.map(String::as_str).collect()
    }

    /// All files and folders that some name lists.
    #[must_use]
    pub fn listed_files(&self) -> BTreeSet<&str> {
        let files = self
            .provides
            .values()
            .flat_map(|provided| provided.files.iter().chain(provided.targets.values().flat_map(|tools| &tools.files)));
        files.map(String::as_str).collect()
    }

    fn find_provided(&self, name: &str) -> Result<&Provided, Error> {
        self.provides.get(name).ok_or_else(|| Error::NotProvided { name: name.to_owned(), path: self.path.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Bootstrap, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.yaml");
        std::fs::write(&path, text).unwrap();
        Bootstrap::load(&path)
    }

    #[test]
    fn commands_of_the_host_are_checked_and_packages_have_versions() {
        let bootstrap = load(
            "provides:\n  shell: {debian: [dash, coreutils], commands: [sh, ls]}\n  \
             strange: {debian: [strange-tools], commands: [strange-command, sh]}\n",
        )
        .unwrap();
        assert!(bootstrap.provides("shell") && !bootstrap.provides("zlib"));
        assert_eq!(bootstrap.missing(&["shell".into()], "x86_64"), Vec::<String>::new());
        assert_eq!(
            bootstrap.missing(&["strange".into()], "x86_64"),
            ["the builder root lacks `strange-command`; install the Debian packages `strange-tools` \
              (`apt-get install strange-tools`)"]
        );
        assert!(
            bootstrap.missing(&["zlib".into()], "x86_64")[0].starts_with("`zlib` is not provided by the bootstrap `")
        );
        let versions = bootstrap.versions(&["shell".into()], "x86_64").unwrap();
        let names: Vec<_> = versions.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["coreutils", "dash"]);
        assert!(versions.iter().all(|(_, version)| version.starts_with(|first: char| first.is_ascii_digit())));
        let error = bootstrap.versions(&["strange".into()], "x86_64").unwrap_err();
        assert!(error.is_environment());
        assert_eq!(
            error.to_string(),
            "not installed: the Debian packages `strange-tools` (`apt-get install strange-tools`)"
        );
    }

    #[test]
    fn another_target_needs_a_tool_chain_of_its_own() {
        let bootstrap = load(
            "provides:\n  shell:\n    debian: [dash]\n    commands: [sh]\n    targets:\n      \
             other: {debian: [cross-shell], commands: [other-sh]}\n",
        )
        .unwrap();
        let wanted = ["shell".to_owned()];
        assert_eq!(bootstrap.missing(&wanted, "third"), Vec::<String>::new());
        assert_eq!(
            bootstrap.missing(&wanted, "other"),
            ["the builder root lacks `other-sh`; install the Debian packages `dash`, `cross-shell` \
              (`apt-get install dash cross-shell`)"]
        );
    }

    #[test]
    fn files_are_of_those_that_want_them_and_of_the_target() {
        let bootstrap = load(
            "provides:\n  cc:\n    debian: [gcc]\n    files: [bin/cc]\n    targets:\n      \
             other: {debian: [cross-gcc], files: [other]}\n  go: {debian: [golang], files: [bin/go]}\n",
        )
        .unwrap();
        let files = |names: &[&str], target: &str| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            bootstrap.files(&names, target).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(files(&["cc"], "x86_64"), ["bin/cc"]);
        assert_eq!(files(&["cc", "zlib"], "other"), ["bin/cc", "other"]);
        assert_eq!(files(&["go"], "other"), ["bin/go"]);
        assert_eq!(bootstrap.listed_files().into_iter().collect::<Vec<_>>(), ["bin/cc", "bin/go", "other"]);
    }

    #[test]
    fn the_catalogs_own_bootstrap_is_of_the_format() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../catalog/bootstrap/bootstrap.yaml");
        let bootstrap = Bootstrap::load(Path::new(path)).unwrap();
        assert!(bootstrap.provides("build-base"));
    }

    #[test]
    fn a_wrong_file_names_the_place() {
        let message = load("provides:\n  a:\n    debian: [x]\n    comands: [y]\n").unwrap_err().to_string();
        assert!(message.contains("bootstrap.yaml: 4:5: ") && message.contains("comands"), "{message}");
        assert!(message.matches("line").count() == 0, "{message}");
        let message = load("provides:\n  a: [\n").unwrap_err().to_string();
        assert!(message.contains("bootstrap.yaml: "), "{message}");
    }
}
