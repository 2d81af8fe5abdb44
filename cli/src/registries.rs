//! How other registries are reached, and what this one allows: `[registry]` of `mill.toml`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ecr::{Address, Ecr};
use ports::local::Home;
use registry::{DockerConfig, ImmutableTags, Layouts, Provider, Registry, Remote, RemoteOptions, Repository};
use serde::Deserialize;

use crate::output::{Failure, OrFail};

/// What is asked for what the distribution spec leaves out: credentials, new repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// Nothing: credentials are those of `~/.docker/config.json`.
    Distribution,
    /// Amazon ECR, as AWS's own clients are configured.
    Ecr,
}

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
    /// What runs the registry that `publish` names; where it is not set, its address says it.
    pub service: Option<Service>,
}

impl RegistrySettings {
    /// How to reach a repository at a registry's address, with the credentials that its service or
    /// `~/.docker/config.json` has for it.
    pub async fn options(&self, address: &str, repository: &Repository) -> Result<RemoteOptions, Failure> {
        let provider = self.provider(address).await;
        let credentials = match DockerConfig::path(|name| std::env::var(name).ok()) {
            Some(path) if provider.is_none() => {
                let config = DockerConfig::read(&path).or_environment()?;
                config.credentials(address, repository, self.credential_helpers).await.or_environment()?
            }
            _ => None,
        };
        let certificates = match &self.certificates {
            None => Vec::new(),
            Some(path) => {
                fs::read(path).map_err(|error| Failure::environment(format!("read `{}`: {error}", path.display())))?
            }
        };
        let allow_http = self.allow_http;
        Ok(RemoteOptions { credentials, provider, certificates, allow_http, ..RemoteOptions::default() })
    }

    async fn provider(&self, address: &str) -> Option<Arc<dyn Provider>> {
        let known = Address::of_host(address);
        let own = self.publish.as_deref().and_then(|place| place.split_once('/')).map(|(own, _)| own);
        let service = self.service.filter(|_| own == Some(address)).or(known.as_ref().map(|_| Service::Ecr));
        match service {
            Some(Service::Ecr) => Some(Arc::new(Ecr::new(&ecr::load().await, known))),
            Some(Service::Distribution) | None => None,
        }
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
        Ok(Arc::new(remote.below(prefix)))
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
