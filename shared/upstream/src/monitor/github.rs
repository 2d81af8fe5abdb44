//! GitHub's REST API, version 2022-11-28: releases, tags, and the commit of a tag.

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::pages::Pages;
use super::{GitHubListing, GitHubRepository};
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;

const PER_PAGE: &str = "100";
const RELEASE_PAGES: usize = 5;
const TAG_PAGES: usize = 100;
const LONGEST_PAGE: u64 = 32 * 1024 * 1024;
const LONGEST_COMMIT: u64 = 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
const COMMIT: HeaderValue = HeaderValue::from_static("application/vnd.github.sha");
const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28"));

/// Releases and tags of repositories on GitHub.
pub(crate) struct GitHub {
    context: Context,
}

/// An element of `GET /repos/OWNER/NAME/releases`.
#[derive(Deserialize)]
struct Release {
    tag_name: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    prerelease: bool,
}

/// An element of `GET /repos/OWNER/NAME/tags`.
#[derive(Deserialize)]
struct Tag {
    name: String,
    commit: Commit,
}

#[derive(Deserialize)]
struct Commit {
    sha: String,
}

impl GitHub {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// What one of the repository's lists has.
    pub(crate) async fn candidates(
        &self,
        repository: &GitHubRepository,
        listing: GitHubListing,
    ) -> Result<Vec<Candidate>> {
        let candidates = match listing {
            GitHubListing::Releases => self.releases(repository).await,
            GitHubListing::Tags => self.tags(repository).await,
        };
        candidates.map_err(|error| match error {
            Error::Status { url, status: 404 | 451, .. } => {
                Error::UnknownPackage { package: repository.to_string(), place: url }
            }
            other => other,
        })
    }

    /// The commit that a tag points to, through a signed tag too.
    pub(crate) async fn commit(&self, repository: &GitHubRepository, tag: &str) -> Result<String> {
        let path = ["commits", "tags"].into_iter().chain(tag.split('/'));
        let url = self.address(repository, path)?;
        let document = self.context.fetcher.document_with(url.as_str(), &self.headers(COMMIT)?, LONGEST_COMMIT).await?;
        let text = String::from_utf8_lossy(&document.bytes);
        let commit = text.trim();
        if !super::is_commit(commit) {
            return Err(Error::Listing { url: url.into(), reason: format!("`{commit}` is not a commit") });
        }
        Ok(commit.to_owned())
    }

    async fn releases(&self, repository: &GitHubRepository) -> Result<Vec<Candidate>> {
        let pages: Vec<Vec<Release>> = self.list(repository, "releases", RELEASE_PAGES, true).await?;
        let published = pages.into_iter().flatten().filter(|release| !release.draft);
        Ok(published
            .map(|release| Candidate {
                prerelease: release.prerelease.then(|| "marked as a pre-release".to_owned()),
                ..Candidate::new(release.tag_name)
            })
            .collect())
    }

    async fn tags(&self, repository: &GitHubRepository) -> Result<Vec<Candidate>> {
        let pages: Vec<Vec<Tag>> = self.list(repository, "tags", TAG_PAGES, false).await?;
        Ok(pages
            .into_iter()
            .flatten()
            .map(|tag| Candidate { commit: Some(tag.commit.sha), ..Candidate::new(tag.name) })
            .collect())
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        repository: &GitHubRepository,
        list: &str,
        pages: usize,
        newest_only: bool,
    ) -> Result<Vec<T>> {
        let mut first = self.address(repository, [list])?;
        first.query_pairs_mut().append_pair("per_page", PER_PAGE);
        let headers = self.headers(JSON)?;
        let fetcher = &self.context.fetcher;
        Pages { fetcher, headers, pages, longest: LONGEST_PAGE, newest_only }.read(first).await
    }

    fn headers(&self, accept: HeaderValue) -> Result<HeaderMap> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, accept), API_VERSION]);
        if let Some(token) = self.context.endpoints.github_token()? {
            headers.insert(AUTHORIZATION, token.bearer()?);
        }
        Ok(headers)
    }

    fn address<'a>(&self, repository: &GitHubRepository, path: impl IntoIterator<Item = &'a str>) -> Result<Url> {
        let base = self.context.endpoints.github_api()?;
        let refuse = |reason: String| Error::Configuration { origin: "github-api endpoint".to_owned(), reason };
        let mut url = Url::parse(&base).map_err(|error| refuse(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| refuse(format!("`{base}` can't have a path")))?
            .pop_if_empty()
            .extend(["repos", repository.owner(), repository.name()])
            .extend(path);
        Ok(url)
    }
}
