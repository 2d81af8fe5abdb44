//! GitLab's REST API, version 4: releases and tags of public projects.

use std::fmt;

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde::Deserialize;

use super::pages::Pages;
use crate::endpoints::is_private;
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const PER_PAGE: &str = "100";
const RELEASE_PAGES: usize = 5;
const TAG_PAGES: usize = 100;
const LONGEST_PAGE: u64 = 32 * 1024 * 1024;

/// A project on a GitLab server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLabProject {
    server: Url,
    path: String,
}

impl GitLabProject {
    /// The project that `address` names, such as `https://HOST/GROUP/PROJECT` with or without
    /// `.git`; the server is at the root of its host.
    ///
    /// # Errors
    /// [`Error::Source`] when it is no such address, or not `https` (`http` on the loopback
    /// interface only).
    pub fn new(address: &str) -> Result<Self> {
        let refuse = || Error::Source {
            text: address.to_owned(),
            reason: "a project on GitLab is named as `https://HOST/GROUP/PROJECT`".to_owned(),
        };
        let mut server = Url::parse(address).map_err(|_| refuse())?;
        let path = server.path().trim_matches('/');
        let path = path.strip_suffix(".git").unwrap_or(path).to_owned();
        let part = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part != "-"
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        };
        let is_plain = server.username().is_empty() && server.password().is_none() && server.query().is_none();
        if !is_private(address) || !is_plain || !path.contains('/') || !path.split('/').all(part) {
            return Err(refuse());
        }
        server.set_path("/");
        server.set_fragment(None);
        Ok(Self { server, path })
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        self.server.as_str().trim_end_matches('/')
    }
}

impl fmt::Display for GitLabProject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.server(), self.path)
    }
}

/// Which of a project's lists counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GitLabListing {
    /// Releases, of which the 500 newest are read.
    Releases,
    /// Tags, all of them.
    Tags,
}

/// Releases and tags of projects on GitLab.
pub(crate) struct GitLab {
    context: Context,
}

/// An element of `GET /projects/ID/releases`.
#[derive(Deserialize)]
struct Release {
    tag_name: String,
    #[serde(default)]
    upcoming_release: bool,
    commit: Option<Commit>,
}

/// An element of `GET /projects/ID/repository/tags`.
#[derive(Deserialize)]
struct Tag {
    name: String,
    target: Option<String>,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    id: String,
}

impl GitLab {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// What one of the project's lists has.
    pub(crate) async fn candidates(&self, project: &GitLabProject, listing: GitLabListing) -> Result<Vec<Candidate>> {
        let candidates = match listing {
            GitLabListing::Releases => {
                let pages: Vec<Vec<Release>> = self.list(project, &["releases"], RELEASE_PAGES, true).await?;
                Ok(pages.into_iter().flatten().map(release).collect())
            }
            GitLabListing::Tags => {
                let pages: Result<Vec<Vec<Tag>>> = self.list(project, &["repository", "tags"], TAG_PAGES, false).await;
                pages.map(|pages| pages.into_iter().flatten().map(tag).collect())
            }
        };
        candidates.map_err(|error| match error {
            Error::Status { url, status: 404, .. } => {
                Error::UnknownPackage { package: project.to_string(), place: url }
            }
            other => other,
        })
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        project: &GitLabProject,
        list: &[&str],
        pages: usize,
        newest_only: bool,
    ) -> Result<Vec<T>> {
        let mut first = project.server.clone();
        if let Ok(mut segments) = first.path_segments_mut() {
            // The project's path is one segment, its slashes escaped.
            segments.pop_if_empty().extend(["api", "v4", "projects", project.path.as_str()]).extend(list);
        }
        first.query_pairs_mut().append_pair("per_page", PER_PAGE);
        let fetcher = &self.context.fetcher;
        Pages { fetcher, headers: HeaderMap::new(), pages, longest: LONGEST_PAGE, newest_only }.read(first).await
    }
}

fn release(release: Release) -> Candidate {
    let missing = release.commit.is_none().then(|| "its tag points to no commit".to_owned());
    Candidate {
        prerelease: release.upcoming_release.then(|| "marked as upcoming".to_owned()),
        withdrawn: missing,
        commit: release.commit.map(|commit| commit.id),
        ..Candidate::new(release.tag_name)
    }
}

fn tag(tag: Tag) -> Candidate {
    let missing = tag.commit.is_none().then(|| "it points to no commit".to_owned());
    let commit = tag.commit.map(|commit| commit.id);
    Candidate {
        withdrawn: missing,
        tag_object: tag.target.filter(|target| Some(target) != commit.as_ref()),
        commit,
        ..Candidate::new(tag.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_by_its_address() {
        for (address, shown) in [
            ("https://gitlab.com/a/b", "https://gitlab.com/a/b"),
            ("https://gitlab.example.org/a/b/c.git", "https://gitlab.example.org/a/b/c"),
            ("http://127.0.0.1:8080/a/b.c/", "http://127.0.0.1:8080/a/b.c"),
        ] {
            assert_eq!(GitLabProject::new(address).unwrap().to_string(), shown);
        }
        for address in [
            "",
            "a/b",
            "https://gitlab.com/a",
            "https://gitlab.com/a/-/b",
            "https://gitlab.com/a/b?x",
            "https://me:secret@gitlab.com/a/b",
            "http://gitlab.com/a/b",
            "https://gitlab.com/a%2F../b",
        ] {
            assert!(GitLabProject::new(address).is_err(), "{address}");
        }
    }
}
