//! How other registries are reached, and what this one allows: `[registry]` of `mill.toml`.

use std::fs;
use std::path::PathBuf;

use registry::{DockerConfig, ImmutableTags, RemoteOptions, Repository};
use serde::Deserialize;

use crate::output::{Failure, OrFail};

/// `[registry]` of `mill.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct RegistrySettings {
    /// Run the credential helpers that `~/.docker/config.json` names.
    pub credential_helpers: bool,
    /// File with certificates (PEM) of authorities trusted beside the system's.
    pub certificates: Option<PathBuf>,
    /// Accept plain http beyond loopback.
    pub allow_http: bool,
    /// Regular expressions of tags that pushes may not move; the tags of single builds where it is
    /// not set.
    pub immutable_tags: Option<Vec<String>>,
}

impl RegistrySettings {
    /// How to reach a repository at a registry's address, with the credentials that
    /// `~/.docker/config.json` has for it.
    pub async fn options(&self, address: &str, repository: &Repository) -> Result<RemoteOptions, Failure> {
        let credentials = match DockerConfig::path(|name| std::env::var(name).ok()) {
            None => None,
            Some(path) => {
                let config = DockerConfig::read(&path).or_environment()?;
                config.credentials(address, repository, self.credential_helpers).await.or_environment()?
            }
        };
        let certificates = match &self.certificates {
            None => Vec::new(),
            Some(path) => {
                fs::read(path).map_err(|error| Failure::environment(format!("read `{}`: {error}", path.display())))?
            }
        };
        Ok(RemoteOptions { credentials, certificates, allow_http: self.allow_http, ..RemoteOptions::default() })
    }

    /// Which tags pushes may not move.
    pub fn immutable_tags(&self) -> Result<ImmutableTags, Failure> {
        match &self.immutable_tags {
            None => ImmutableTags::timestamps().or_environment(),
            Some(patterns) => ImmutableTags::new(patterns.iter().map(String::as_str))
                .map_err(|error| Failure::usage(format!("`[registry]` of mill.toml: {error}"))),
        }
    }
}
