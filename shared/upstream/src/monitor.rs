//! Where releases are listed, apart from the registries that also hold the sources.

mod git;
mod github;
mod github_batches;
mod gitlab;
mod image_repository;
mod oci;
mod pages;
mod release_monitor;
mod web_page;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::source::SourceUri;

pub(crate) use git::{CALLERS, Git};
pub(crate) use github::GitHub;
pub(crate) use gitlab::GitLab;
pub use gitlab::{GitLabListing, GitLabProject};
pub use image_repository::ImageRepository;
pub(crate) use oci::Oci;
pub(crate) use release_monitor::ReleaseMonitor;
pub use web_page::WebPage;
pub(crate) use web_page::candidates as web_page_candidates;

/// What is watched for a package: the provider of its `update:` block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Monitored {
    /// The registry that the source comes from; a version in it doesn't matter.
    Source(SourceUri),
    /// `github`: a repository there.
    GitHub {
        /// Repository.
        repository: GitHubRepository,
        /// Which of its lists counts.
        listing: GitHubListing,
    },
    /// `release-monitor`: a project number of the release-monitoring service (Anitya).
    ReleaseMonitor(u64),
    /// `git`: the tags of any repository.
    Git(GitAddress),
    /// `oci`: the tags of a repository in a registry.
    Oci(ImageRepository),
    /// A project on a GitLab server, through its API.
    GitLab {
        /// Project.
        project: GitLabProject,
        /// Which of its lists counts.
        listing: GitLabListing,
    },
    /// The versions that a web page names.
    Page(WebPage),
}

impl From<SourceUri> for Monitored {
    fn from(source: SourceUri) -> Self {
        Self::Source(source)
    }
}

impl fmt::Display for Monitored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => source.fmt(formatter),
            Self::GitHub { repository, listing: GitHubListing::Releases } => write!(formatter, "github:{repository}"),
            Self::GitHub { repository, listing: GitHubListing::Tags } => {
                write!(formatter, "github:{repository} (tags)")
            }
            Self::ReleaseMonitor(project) => write!(formatter, "release-monitor:{project}"),
            Self::Git(address) => write!(formatter, "git:{address}"),
            Self::Oci(repository) => write!(formatter, "oci:{repository}"),
            Self::GitLab { project, listing: GitLabListing::Releases } => write!(formatter, "gitlab:{project}"),
            Self::GitLab { project, listing: GitLabListing::Tags } => write!(formatter, "gitlab:{project} (tags)"),
            Self::Page(page) => write!(formatter, "page:{page}"),
        }
    }
}

/// Which of a repository's lists counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GitHubListing {
    /// Published releases, of which the 500 newest are read.
    #[default]
    Releases,
    /// Tags, all of them (`use-tag`).
    Tags,
}

/// A repository on GitHub, as `OWNER/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitHubRepository {
    owner: String,
    name: String,
}

impl GitHubRepository {
    /// The user or organisation that it belongs to.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for GitHubRepository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(Error::Source {
                text: text.to_owned(),
                reason: "a repository on GitHub is named as `OWNER/NAME`".to_owned(),
            }),
        }
    }
}

impl fmt::Display for GitHubRepository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)
    }
}

/// The address of a git repository: `https`, `http`, `git` or `file`, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitAddress(String);

impl GitAddress {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GitAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // What was given is left out where it may hold a password.
        let refuse = |text: &str, reason: &str| {
            Err(Error::Source {
                text: text.to_owned(),
                reason: format!("as the address of a git repository, {reason}"),
            })
        };
        let Ok(url) = reqwest::Url::parse(text) else {
            return refuse(text, "it must be whole, as in `https://HOST/PATH`");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse(url.host_str().unwrap_or_default(), "it may not hold a user or password");
        }
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        match url.scheme() {
            "https" | "http" | "git" if has_host => Ok(Self(url.into())),
            "file" if !has_host => Ok(Self(url.into())),
            _ => refuse(text, "it must be `https`, `http`, `git` or a local `file`"),
        }
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether `text` names a git object, by SHA-1 or SHA-256.
pub(crate) fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_on_github_have_an_owner_and_a_name() {
        let repository: GitHubRepository = "rjbs/Mixin-Linewise_2.0".parse().unwrap();
        assert_eq!((repository.owner(), repository.name()), ("rjbs", "Mixin-Linewise_2.0"));
        for text in ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b?c", "a/b#", "a b/c", "a/%2e"] {
            assert!(text.parse::<GitHubRepository>().is_err(), "{text}");
        }
    }

    #[test]
    fn git_addresses_run_no_helper_and_hold_no_password() {
        for text in ["https://localhost/a.git", "http://127.0.0.1:1/a", "git://localhost/a", "file:///srv/git/a.git"] {
            assert_eq!(text.parse::<GitAddress>().unwrap().as_str(), text);
        }
        for text in [
            "ext::sh -c touch% /tmp/x",
            "--upload-pack=touch x",
            "-o",
            "ssh://localhost/a",
            "git@localhost:a/b.git",
            "/srv/git/a",
            "file://elsewhere/a",
            "fd::17",
            "git:/a",
        ] {
            assert!(text.parse::<GitAddress>().is_err(), "{text}");
        }
        let error = "https://me:secret@localhost/a".parse::<GitAddress>().unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
