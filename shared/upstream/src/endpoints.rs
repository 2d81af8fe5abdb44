//! Where each ecosystem's registry is: what the configuration says, else what the ecosystem's
//! own client on this machine is configured to use.

mod apt;
mod cargo;
mod command;
mod token;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tokio::sync::OnceCell;

pub use token::Token;

use crate::error::{Error, Result};
use crate::monitor::GitLabProject;

const GITHUB_API: &str = "https://api.github.com";
const RELEASE_MONITOR: &str = "https://release-monitoring.org";

/// Explicit settings, the `[endpoints]` table of `mill.toml`. What is absent is discovered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EndpointSettings {
    /// Base address of cargo's sparse index.
    pub cargo: Option<String>,
    /// Base address of the PyPI simple index.
    pub pypi: Option<String>,
    /// Base address of the npm registry.
    pub npm: Option<String>,
    /// The keys that the npm registry signs with, as a file of the form that its address
    /// `/-/npm/v1/keys` has; that address is asked when absent.
    pub npm_keys: Option<PathBuf>,
    /// Base address of the Debian archive, the folder that holds `dists` and `pool`.
    pub debian: Option<String>,
    /// Debian suites to watch; `trixie` when empty.
    pub debian_suites: Vec<String>,
    /// Debian components to read; `main` when empty.
    pub debian_components: Vec<String>,
    /// OpenPGP keyring files, binary or armored, that may sign the Debian archive.
    pub debian_keyrings: Vec<PathBuf>,
    /// Base address of GitHub's REST API; `https://api.github.com` when absent.
    pub github_api: Option<String>,
    /// Token for GitHub's API, which allows more requests; none when absent.
    pub github_token: Option<Token>,
    /// GitLab servers, such as `https://gitlab.com`: repositories on them are watched through their
    /// API, and others by `git ls-remote`.
    pub gitlab: Vec<String>,
    /// Base address of the release-monitoring service (Anitya); `https://release-monitoring.org`
    /// when absent.
    pub release_monitor: Option<String>,
}

impl EndpointSettings {
    /// These settings with what `MINIMILL_CARGO_INDEX`, `MINIMILL_PYPI_INDEX`,
    /// `MINIMILL_NPM_REGISTRY`, `MINIMILL_NPM_KEYS`, `MINIMILL_DEBIAN_ARCHIVE`, `MINIMILL_DEBIAN_SUITES`,
    /// `MINIMILL_DEBIAN_COMPONENTS`, `MINIMILL_DEBIAN_KEYRINGS`, `MINIMILL_GITHUB_API`,
    /// `MINIMILL_GITHUB_TOKEN`, `MINIMILL_GITLAB` and `MINIMILL_RELEASE_MONITOR` say put over them. The lists are
    /// separated by spaces or commas, the keyrings by colons.
    pub fn overridden_by(mut self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let text = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let words = |value: String| -> Vec<String> {
            value.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        self.cargo = text("MINIMILL_CARGO_INDEX").or(self.cargo);
        self.pypi = text("MINIMILL_PYPI_INDEX").or(self.pypi);
        self.npm = text("MINIMILL_NPM_REGISTRY").or(self.npm);
        self.npm_keys = text("MINIMILL_NPM_KEYS").map(PathBuf::from).or(self.npm_keys);
        self.debian = text("MINIMILL_DEBIAN_ARCHIVE").or(self.debian);
        self.github_api = text("MINIMILL_GITHUB_API").or(self.github_api);
        self.github_token = text("MINIMILL_GITHUB_TOKEN").map(Token::new).or(self.github_token);
        self.release_monitor = text("MINIMILL_RELEASE_MONITOR").or(self.release_monitor);
        if let Some(servers) = text("MINIMILL_GITLAB") {
            self.gitlab = words(servers);
        }
        if let Some(suites) = text("MINIMILL_DEBIAN_SUITES") {
            self.debian_suites = words(suites);
        }
        if let Some(components) = text("MINIMILL_DEBIAN_COMPONENTS") {
            self.debian_components = words(components);
        }
        if let Some(keyrings) = text("MINIMILL_DEBIAN_KEYRINGS") {
            self.debian_keyrings = keyrings.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
        }
        self
    }
}

/// The places on this machine where the standard clients keep their configuration.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// apt's configuration folder.
    pub apt_folder: PathBuf,
    /// Keyring used when apt's sources name none.
    pub debian_keyring: PathBuf,
    /// cargo's home folder.
    pub cargo_home: Option<PathBuf>,
    /// Folder from which cargo looks upwards for `.cargo/config.toml`.
    pub working_folder: PathBuf,
    /// Whether the clients themselves (`cargo`, `npm`, `pip`) may be run and asked.
    pub run_clients: bool,
}

impl Surroundings {
    /// This machine's, with `variable` giving the environment and `working_folder` the folder
    /// that the process works in.
    pub fn of_machine(variable: impl Fn(&str) -> Option<String>, working_folder: impl Into<PathBuf>) -> Self {
        Self {
            apt_folder: PathBuf::from("/etc/apt"),
            debian_keyring: PathBuf::from("/usr/share/keyrings/debian-archive-keyring.gpg"),
            cargo_home: variable("CARGO_HOME")
                .map(PathBuf::from)
                .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".cargo"))),
            working_folder: working_folder.into(),
            run_clients: true,
        }
    }
}

/// A Debian archive and what is watched in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianArchive {
    /// Base address without a final slash.
    pub base: String,
    /// Suites, by the names of their folders under `dists`.
    pub suites: Vec<String>,
    /// Components.
    pub components: Vec<String>,
    /// Keyring files; a release file must be signed by a key of one of them.
    pub keyrings: Vec<PathBuf>,
}

/// Every endpoint, discovered when first asked for.
#[derive(Debug)]
pub struct Endpoints {
    settings: EndpointSettings,
    surroundings: Surroundings,
    cargo: OnceCell<String>,
    pypi: OnceCell<String>,
    npm: OnceCell<String>,
}

impl Endpoints {
    /// Endpoints from `settings`, and from `surroundings` where those are silent.
    pub fn new(settings: EndpointSettings, surroundings: Surroundings) -> Self {
        Self { settings, surroundings, cargo: OnceCell::new(), pypi: OnceCell::new(), npm: OnceCell::new() }
    }

    /// The Debian archive: the settings, else the first apt source whose address ends in
    /// `/debian`, with its `Signed-By` keyring.
    pub fn debian(&self) -> Result<DebianArchive> {
        let mut keyrings = self.settings.debian_keyrings.clone();
        let base = match &self.settings.debian {
            Some(base) => base.clone(),
            None => {
                let source = apt::debian_source(&self.surroundings.apt_folder)?.ok_or_else(|| Error::Endpoint {
                    ecosystem: "debian",
                    reason: format!(
                        "no source under `{}` has an address ending in `/debian`",
                        self.surroundings.apt_folder.display()
                    ),
                    setting: "debian",
                    variable: "MINIMILL_DEBIAN_ARCHIVE",
                })?;
                if keyrings.is_empty() {
                    keyrings = source.keyrings;
                }
                source.uri
            }
        };
        if keyrings.is_empty() {
            keyrings.push(self.surroundings.debian_keyring.clone());
        }
        let or_default = |list: &[String], default: &str| {
            if list.is_empty() { vec![default.to_owned()] } else { list.to_vec() }
        };
        let suites = or_default(&self.settings.debian_suites, "trixie");
        let components = or_default(&self.settings.debian_components, "main");
        for (name, part) in suites
            .iter()
            .map(|suite| ("debian-suites", suite))
            .chain(components.iter().map(|component| ("debian-components", component)))
        {
            if !is_path_part(part) {
                return Err(Error::Configuration {
                    origin: format!("`{name}`"),
                    reason: format!("`{part}` can't be part of an address"),
                });
            }
        }
        Ok(DebianArchive { base: checked_base(&base, "debian")?, suites, components, keyrings })
    }

    /// Base address of cargo's sparse index, with a final slash: the settings, else a source
    /// replacement in cargo's configuration, else cargo's built-in index as its registry folder
    /// names it.
    pub async fn cargo(&self) -> Result<String> {
        self.cargo
            .get_or_try_init(|| async {
                let base = match &self.settings.cargo {
                    Some(base) => base.clone(),
                    None => cargo::index(&self.surroundings).await?,
                };
                let base = base.strip_prefix("sparse+").unwrap_or(&base).to_owned();
                Ok(format!("{}/", checked_base(&base, "cargo")?))
            })
            .await
            .cloned()
    }

    /// Base address of the npm registry without a final slash: the settings, else what
    /// `npm config get registry` prints.
    pub async fn npm(&self) -> Result<String> {
        self.npm
            .get_or_try_init(|| async {
                let base = match &self.settings.npm {
                    Some(base) => base.clone(),
                    None => command::npm_registry(&self.surroundings).await?,
                };
                checked_base(&base, "npm")
            })
            .await
            .cloned()
    }

    /// The file of the keys that the npm registry signs with, if one is named.
    pub fn npm_keys(&self) -> Option<&Path> {
        self.settings.npm_keys.as_deref()
    }

    /// Base address of the PyPI simple index without a final slash: the settings, else pip's
    /// configured index, else the one built into pip.
    pub async fn pypi(&self) -> Result<String> {
        self.pypi
            .get_or_try_init(|| async {
                let base = match &self.settings.pypi {
                    Some(base) => base.clone(),
                    None => command::pip_index(&self.surroundings).await?,
                };
                checked_base(&base, "pypi")
            })
            .await
            .cloned()
    }

    /// Base address of GitHub's REST API without a final slash.
    pub fn github_api(&self) -> Result<String> {
        checked_base(self.settings.github_api.as_deref().unwrap_or(GITHUB_API), "github-api")
    }

    /// The token for GitHub's API, if there is one. It is lent only where the API's address is
    /// `https` or on the loopback interface.
    pub fn github_token(&self) -> Result<Option<&Token>> {
        let Some(token) = &self.settings.github_token else {
            return Ok(None);
        };
        let base = self.github_api()?;
        if !is_private(&base) {
            return Err(Error::Configuration {
                origin: "`github-token`".to_owned(),
                reason: format!("it is not sent to `{base}`, which is not an https address"),
            });
        }
        Ok(Some(token))
    }

    /// Whether the project is on one of the GitLab servers that are asked through their API.
    pub fn is_gitlab(&self, project: &GitLabProject) -> bool {
        self.settings.gitlab.iter().any(|server| server.trim_end_matches('/') == project.server())
    }

    /// Base address of the release-monitoring service without a final slash.
    pub fn release_monitor(&self) -> Result<String> {
        checked_base(self.settings.release_monitor.as_deref().unwrap_or(RELEASE_MONITOR), "release-monitor")
    }
}

/// Whether `text` can stand in an address as one or more folder names.
pub(crate) fn is_path_part(text: &str) -> bool {
    !text.is_empty()
        && text.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        })
}

/// Whether what is sent to `address` can't be read on the way.
pub(crate) fn is_private(address: &str) -> bool {
    reqwest::Url::parse(address)
        .is_ok_and(|url| url.scheme() == "https" || matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
}

fn checked_base(base: &str, name: &str) -> Result<String> {
    let reason = |reason: String| Error::Configuration { origin: format!("{name} endpoint"), reason };
    let url = reqwest::Url::parse(base).map_err(|error| reason(format!("`{base}`: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(reason(format!("`{base}` is not an http or https address")));
    }
    Ok(base.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surroundings(folder: &std::path::Path) -> Surroundings {
        Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("default.gpg"),
            cargo_home: Some(folder.join("cargo")),
            working_folder: folder.to_owned(),
            run_clients: false,
        }
    }

    #[test]
    fn settings_win_over_discovery_and_variables_over_settings() {
        let folder = tempfile::tempdir().unwrap();
        let settings: EndpointSettings =
            toml::from_str("debian = \"http://localhost:1/debian/\"\ndebian-suites = [\"bookworm\"]\n").unwrap();
        let endpoints = Endpoints::new(settings.clone(), surroundings(folder.path()));
        let archive = endpoints.debian().unwrap();
        assert_eq!(archive.base, "http://localhost:1/debian");
        assert_eq!(archive.suites, ["bookworm"]);
        assert_eq!(archive.components, ["main"]);
        assert_eq!(archive.keyrings, [folder.path().join("default.gpg")]);

        let settings = settings.overridden_by(|name| match name {
            "MINIMILL_DEBIAN_SUITES" => Some("trixie, bookworm".to_owned()),
            "MINIMILL_DEBIAN_KEYRINGS" => Some("/a.gpg:/b.gpg".to_owned()),
            _ => None,
        });
        let archive = Endpoints::new(settings, surroundings(folder.path())).debian().unwrap();
        assert_eq!(archive.suites, ["trixie", "bookworm"]);
        assert_eq!(archive.keyrings, [PathBuf::from("/a.gpg"), PathBuf::from("/b.gpg")]);
    }

    #[test]
    fn nothing_configured_says_what_to_set() {
        let folder = tempfile::tempdir().unwrap();
        let endpoints = Endpoints::new(EndpointSettings::default(), surroundings(folder.path()));
        let message = endpoints.debian().unwrap_err().to_string();
        assert!(message.contains("MINIMILL_DEBIAN_ARCHIVE"), "{message}");
    }

    #[test]
    fn a_token_is_sent_only_where_nobody_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let with = |api: Option<&str>| {
            let settings: EndpointSettings = toml::from_str("github-token = \"settings\"").unwrap();
            let settings = EndpointSettings { github_api: api.map(str::to_owned), ..settings };
            Endpoints::new(
                settings.overridden_by(|name| (name == "MINIMILL_GITHUB_TOKEN").then(|| "secret".to_owned())),
                surroundings(folder.path()),
            )
        };
        let endpoints = with(None);
        assert_eq!(endpoints.github_token().unwrap(), Some(&Token::new("secret")));
        assert!(!format!("{endpoints:?}").contains("secret"));
        assert!(with(Some("http://127.0.0.1:1/")).github_token().is_ok());
        let error = with(Some("http://192.0.2.1/")).github_token().unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_suite_that_leaves_its_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let settings = EndpointSettings {
            debian: Some("http://localhost:1/debian".to_owned()),
            debian_suites: vec!["../other".to_owned()],
            ..EndpointSettings::default()
        };
        let error = Endpoints::new(settings, surroundings(folder.path())).debian().unwrap_err();
        assert!(error.to_string().contains("../other"), "{error}");
    }
}
