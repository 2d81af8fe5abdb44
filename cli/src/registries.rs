//! How other registries are reached, and what this one allows: `[registry]` of `mill.toml`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ports::local::Home;
use registry::{Below, DockerConfig, ImmutableTags, Layouts, Registry, Remote, RemoteOptions, Repository};
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
    /// Where images are published, `ADDRESS/PREFIX`: the repository of an image is `PREFIX/NAME` there.
    /// They are published in the home where it is not set.
    pub publish: Option<String>,
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

    /// Where this factory's images are published, a repository being called as its image.
    pub async fn published(&self, home: &Home) -> Result<Arc<dyn Registry>, Failure> {
        let Some(place) = &self.publish else {
            return Ok(Arc::new(Layouts::new(home.folder("registry").or_environment()?)));
        };
        let wrong =
            |reason: String| Failure::usage(format!("`[registry] publish = \"{place}\"` of mill.toml: {reason}"));
        let (address, prefix) = place
            .split_once('/')
            .ok_or_else(|| wrong("expected the registry's address, `/` and what the names begin with".to_owned()))?;
        let prefix: Repository = prefix.parse().map_err(|error: registry::Error| wrong(stage::chain(&error)))?;
        let remote = Remote::new(address, self.options(address, &prefix).await?).or_environment()?;
        Ok(Arc::new(Below::new(Arc::new(remote), prefix)))
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
