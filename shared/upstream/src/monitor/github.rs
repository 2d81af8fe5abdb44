//! GitHub's REST API, version 2022-11-28: releases, tags, and the commit of a tag. With a token,
//! lists are read through GraphQL, many repositories in one request.

use std::sync::Arc;

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::github_batches::Batches;
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
const LONGEST_REFERENCE: u64 = 64 * 1024;
pub(super) const DRAFT: &str = "a draft";
pub(super) const PRERELEASE: &str = "marked as a pre-release";
const JSON: HeaderValue = HeaderValue::from_static("application/vnd.github+json");
const COMMIT: HeaderValue = HeaderValue::from_static("application/vnd.github.sha");
const API_VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28"));

/// Releases and tags of repositories on GitHub.
pub(crate) struct GitHub {
    context: Context,
    batches: Arc<Batches>,
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

/// `GET /repos/OWNER/NAME/git/ref/tags/TAG`.
#[derive(Deserialize)]
struct Reference {
    object: Commit,
}

impl GitHub {
    pub(crate) fn new(context: Context) -> Self {
        Self { batches: Arc::new(Batches::new(context.clone())), context }
    }

    /// What one of the repository's lists has, the newest first. With a token no more than is
    /// needed is read: `enough` says whether the rest, which is older, still matters.
    pub(crate) async fn candidates(
        &self,
        repository: &GitHubRepository,
        listing: GitHubListing,
        enough: impl Fn(&[Candidate]) -> Result<bool>,
    ) -> Result<Vec<Candidate>> {
        let is_known = self.context.endpoints.github_token()?.is_some() && !self.context.fetcher.offline();
        if is_known {
            match self.batched(repository, listing, enough).await {
                // A server of one's own may have no GraphQL.
                Err(Error::Status { url, status: 404, .. }) => tracing::debug!(url, "no GraphQL; asking by REST"),
                answered => return answered,
            }
        }
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

    async fn batched(
        &self,
        repository: &GitHubRepository,
        listing: GitHubListing,
        enough: impl Fn(&[Candidate]) -> Result<bool>,
    ) -> Result<Vec<Candidate>> {
        let most = match listing {
            GitHubListing::Releases => RELEASE_PAGES,
            GitHubListing::Tags => TAG_PAGES,
        };
        let mut candidates = Vec::new();
        let mut after = None;
        for _ in 0..most {
            let page = self.batches.page(repository.clone(), listing, after.take()).await?;
            candidates.extend(page.candidates);
            after = page.next;
            if after.is_none() || enough(&candidates)? {
                break;
            }
        }
        Ok(candidates)
    }

    /// The object that a tag names itself: its own if it is annotated or signed.
    pub(crate) async fn tag_object(&self, repository: &GitHubRepository, tag: &str) -> Result<Option<String>> {
        let path = ["git", "ref", "tags"].into_iter().chain(tag.split('/'));
        let url = self.address(repository, path)?;
        match self.context.fetcher.document_with(url.as_str(), &self.headers(JSON)?, LONGEST_REFERENCE).await {
            Ok(document) => Ok(Some(super::pages::json::<Reference>(&url, &document.bytes)?.object.sha)),
            Err(Error::Status { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commit that a tag points to, through a signed tag too; `None` when it points to none.
    pub(crate) async fn commit(&self, repository: &GitHubRepository, tag: &str) -> Result<Option<String>> {
        let path = ["commits", "tags"].into_iter().chain(tag.split('/'));
        let url = self.address(repository, path)?;
        let headers = self.headers(COMMIT)?;
        let document = match self.context.fetcher.document_with(url.as_str(), &headers, LONGEST_COMMIT).await {
            Ok(document) => document,
            Err(Error::Status { status: 404 | 409 | 422, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let text = String::from_utf8_lossy(&document.bytes);
        let commit = text.trim();
        if !super::is_commit(commit) {
            return Err(Error::Listing { url: url.into(), reason: format!("`{commit}` is not a commit") });
        }
        Ok(Some(commit.to_owned()))
    }

    async fn releases(&self, repository: &GitHubRepository) -> Result<Vec<Candidate>> {
        let pages: Vec<Vec<Release>> = self.list(repository, "releases", RELEASE_PAGES, true).await?;
        Ok(pages
            .into_iter()
            .flatten()
            .map(|release| Candidate {
                withdrawn: release.draft.then(|| DRAFT.to_owned()),
                prerelease: release.prerelease.then(|| PRERELEASE.to_owned()),
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
