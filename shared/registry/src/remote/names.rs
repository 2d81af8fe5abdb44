//! What repositories are called at the registry, in addresses and in the scopes of tokens.

use reqwest::Url;

use super::Remote;
use crate::{Error, Repository, Result};

impl Remote {
    /// The repositories of this registry whose names begin with `prefix` and `/`, named without them.
    pub fn below(self, prefix: Repository) -> Self {
        Self { prefix: Some(prefix), ..self }
    }

    /// The registry's name of a repository.
    pub(super) fn name(&self, repository: &Repository) -> Result<Repository> {
        match &self.prefix {
            None => Ok(repository.clone()),
            Some(prefix) => format!("{prefix}/{repository}").parse(),
        }
    }

    /// Of the registry's repositories those that are meant here, sorted.
    pub(super) fn named_here(&self, all: Vec<Repository>) -> Result<Vec<Repository>> {
        let mut names = match &self.prefix {
            None => all,
            Some(prefix) => {
                let start = format!("{prefix}/");
                let names = all.iter().filter_map(|name| name.as_str().strip_prefix(&start));
                names.map(str::parse).collect::<Result<_>>()?
            }
        };
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(super) fn url(&self, repository: &Repository, rest: &str) -> Result<Url> {
        self.join(&format!("{}/{rest}", self.name(repository)?))
    }

    pub(super) fn join(&self, path: &str) -> Result<Url> {
        self.base.join(path).map_err(|error| Error::Endpoint { url: path.to_owned(), reason: error.to_string() })
    }

    pub(super) fn pull_scope(&self, repository: &Repository) -> Result<String> {
        Ok(format!("repository:{}:pull", self.name(repository)?))
    }

    pub(super) fn push_scope(&self, repository: &Repository) -> Result<String> {
        Ok(format!("repository:{}:pull,push", self.name(repository)?))
    }

    pub(super) fn delete_scope(&self, repository: &Repository) -> Result<String> {
        Ok(format!("repository:{}:pull,push,delete", self.name(repository)?))
    }
}
