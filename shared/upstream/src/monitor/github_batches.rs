//! GitHub's GraphQL API: the same list of many repositories in one request. Callers that ask at
//! about the same time share it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::github::{DRAFT, PRERELEASE};
use super::{GitHubListing, GitHubRepository};
use crate::error::{Error, Result};
use crate::filter::Candidate;
use crate::provider::Context;
use crate::rate_limit::Lifted;

/// Repositories per request. GitHub counts a hundred lists as one point of 5,000 an hour, but gives
/// up on a request that takes it more than ten seconds.
const MOST_TOGETHER: usize = 25;
/// How long a request waits for others to join it.
const GATHERING: Duration = Duration::from_millis(20);
const LONGEST_ANSWER: u64 = 32 * 1024 * 1024;
const RELEASES: &str = "list: releases(first: 100, after: $after, orderBy: {field: CREATED_AT, direction: DESC}) \
     { pageInfo { hasNextPage endCursor } nodes { tagName isDraft isPrerelease tagCommit { oid } } }";
/// What a tag points to is followed through two more tags.
const TAGS: &str = "list: refs(refPrefix: \"refs/tags/\", first: 100, after: $after, \
     orderBy: {field: TAG_COMMIT_DATE, direction: DESC}) { pageInfo { hasNextPage endCursor } nodes { name target \
     { __typename oid ... on Tag { target { __typename oid ... on Tag { target { __typename oid } } } } } } }";

/// A part of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) candidates: Vec<Candidate>,
    /// Where the next part begins, if there is one.
    pub(super) next: Option<String>,
}

/// What one caller waits for.
struct Wanted {
    repository: GitHubRepository,
    listing: GitHubListing,
    after: Option<String>,
    answer: oneshot::Sender<Result<Page>>,
}

/// Requests, and who waits to be part of the next.
pub(super) struct Batches {
    context: Context,
    waiting: Mutex<Vec<Wanted>>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "type", default)]
    kind: String,
    message: String,
    #[serde(default)]
    path: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RateLimit {
    cost: u64,
    remaining: u64,
    reset_at: Timestamp,
}

#[derive(Deserialize)]
struct Repository {
    list: List,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List {
    page_info: PageInfo,
    nodes: Vec<Option<Node>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

/// An element of either list.
#[derive(Deserialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Node {
    Release { tag_name: String, is_draft: bool, is_prerelease: bool, tag_commit: Option<Object> },
    Tag { name: String, target: Option<Object> },
}

/// A git object, and what it points to if it is a tag.
#[derive(Deserialize)]
struct Object {
    #[serde(rename = "__typename", default)]
    kind: String,
    oid: String,
    target: Option<Box<Object>>,
}

impl Batches {
    pub(super) fn new(context: Context) -> Self {
        Self { context, waiting: Mutex::default() }
    }

    /// A part of a repository's list, after the place `after`.
    pub(super) async fn page(
        self: &Arc<Self>,
        repository: GitHubRepository,
        listing: GitHubListing,
        after: Option<String>,
    ) -> Result<Page> {
        let (answer, told) = oneshot::channel();
        let (is_first, full) = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(Wanted { repository: repository.clone(), listing, after, answer });
            let full = (waiting.len() >= MOST_TOGETHER).then(|| std::mem::take(&mut *waiting));
            (waiting.len() == 1, full)
        };
        // A task of its own, because others wait for it too.
        let batches = Arc::clone(self);
        if let Some(full) = full {
            tokio::spawn(async move { batches.ask(full).await });
        } else if is_first {
            tokio::spawn(async move {
                tokio::time::sleep(GATHERING).await;
                let gathered = std::mem::take(&mut *batches.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                batches.ask(gathered).await;
            });
        }
        told.await.unwrap_or_else(|_| {
            Err(Error::Listing {
                url: repository.to_string(),
                reason: "the request ended without an answer".to_owned(),
            })
        })
    }

    /// Asks for a batch and gives everybody its part. A batch that is too much for the server is
    /// asked for in halves.
    async fn ask(&self, mut batch: Vec<Wanted>) {
        if batch.is_empty() {
            return;
        }
        match self.answers(&batch).await {
            Err(Error::Status { status: 502 | 504, .. } | Error::TooLarge { .. }) if batch.len() > 1 => {
                let rest = batch.split_off(batch.len() / 2);
                Box::pin(self.ask(batch)).await;
                Box::pin(self.ask(rest)).await;
            }
            Ok(answers) => {
                for (wanted, answer) in batch.into_iter().zip(answers) {
                    // A caller that has gone needs no answer.
                    let _ = wanted.answer.send(answer);
                }
            }
            Err(error) => {
                for wanted in batch {
                    let _ = wanted.answer.send(Err(error.shared()));
                }
            }
        }
    }

    async fn answers(&self, batch: &[Wanted]) -> Result<Vec<Result<Page>>> {
        let url = self.address()?;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(token) = self.context.endpoints.github_token()? {
            headers.insert(AUTHORIZATION, token.bearer()?);
        }
        let body = query(batch).to_string();
        let fetcher = &self.context.fetcher;
        let bytes = fetcher.ask(url.as_str(), &headers, body.into(), LONGEST_ANSWER).await?;
        let mut answer: Answer = super::pages::json(&url, &bytes)?;
        self.note_limit(&url, &mut answer)?;
        let mut data = answer.data.unwrap_or_default();
        Ok(batch
            .iter()
            .enumerate()
            .map(|(number, wanted)| {
                let name = alias(number);
                let fault = answer.errors.iter().find(|fault| fault.path.first() == Some(&json!(name)));
                page(&url, wanted, data.remove(&name).unwrap_or_default(), fault)
            })
            .collect())
    }

    /// Takes the limit out of an answer, and remembers one that is spent.
    fn note_limit(&self, url: &Url, answer: &mut Answer) -> Result<()> {
        let limit = answer.data.as_mut().and_then(|data| data.remove("rateLimit"));
        let limit = limit.and_then(|limit| serde_json::from_value::<RateLimit>(limit).ok());
        let lifted = limit.as_ref().map_or(Lifted::After(60), |limit| Lifted::At(limit.reset_at));
        if let Some(limit) = &limit {
            tracing::debug!(cost = limit.cost, remaining = limit.remaining, "GitHub's GraphQL limit");
            if limit.remaining == 0 {
                self.context.fetcher.hosts().limited(url.as_str(), lifted);
            }
        }
        if answer.errors.iter().any(|fault| fault.kind == "RATE_LIMITED") {
            self.context.fetcher.hosts().limited(url.as_str(), lifted);
            return Err(Error::RateLimited { url: url.to_string(), lifted });
        }
        match answer.errors.iter().find(|fault| fault.path.is_empty()) {
            Some(fault) if answer.data.as_ref().is_none_or(BTreeMap::is_empty) => {
                Err(Error::Listing { url: url.to_string(), reason: fault.message.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Beside the REST API: `/graphql`, and on a server of one's own `/api/graphql`.
    fn address(&self) -> Result<Url> {
        let base = self.context.endpoints.github_api()?;
        let base = base.strip_suffix("/v3").unwrap_or(&base);
        let address = format!("{base}/graphql");
        Url::parse(&address).map_err(|error| Error::Configuration {
            origin: "github-api endpoint".to_owned(),
            reason: format!("`{address}`: {error}"),
        })
    }
}

fn alias(number: usize) -> String {
    format!("r{number}")
}

/// The request's body. Names are variables, so that none can be taken for a part of the query.
fn query(batch: &[Wanted]) -> Value {
    let (mut declared, mut asked) = (String::new(), String::new());
    let mut variables = Map::new();
    for (number, wanted) in batch.iter().enumerate() {
        let list = match wanted.listing {
            GitHubListing::Releases => RELEASES,
            GitHubListing::Tags => TAGS,
        };
        let list = list.replace("$after", &format!("$a{number}"));
        // Writing to a text can't fail.
        let _ = write!(declared, "$o{number}: String!, $n{number}: String!, $a{number}: String, ");
        let _ = writeln!(asked, "{}: repository(owner: $o{number}, name: $n{number}) {{ {list} }}", alias(number));
        variables.insert(format!("o{number}"), json!(wanted.repository.owner()));
        variables.insert(format!("n{number}"), json!(wanted.repository.name()));
        variables.insert(format!("a{number}"), json!(wanted.after));
    }
    json!({ "query": format!("query({declared}) {{ rateLimit {{ cost remaining resetAt }}\n{asked}}}"), "variables": variables })
}

fn page(url: &Url, wanted: &Wanted, value: Value, fault: Option<&Fault>) -> Result<Page> {
    let listing = |reason: String| Error::Listing { url: format!("{url} ({})", wanted.repository), reason };
    if value.is_null() {
        return Err(match fault {
            Some(fault) if fault.kind == "NOT_FOUND" => {
                Error::UnknownPackage { package: wanted.repository.to_string(), place: url.to_string() }
            }
            Some(fault) => listing(fault.message.clone()),
            None => listing("the answer leaves it out".to_owned()),
        });
    }
    let repository: Repository = serde_json::from_value(value)
        .map_err(|error| listing(format!("the answer is not of the form that is known: {error}")))?;
    let PageInfo { has_next_page, end_cursor } = repository.list.page_info;
    Ok(Page {
        candidates: repository.list.nodes.into_iter().flatten().map(candidate).collect(),
        next: end_cursor.filter(|_| has_next_page),
    })
}

fn candidate(node: Node) -> Candidate {
    match node {
        Node::Release { tag_name, is_draft, is_prerelease, tag_commit } => {
            let missing = tag_commit.is_none().then(|| "its tag points to no commit".to_owned());
            Candidate {
                withdrawn: is_draft.then(|| DRAFT.to_owned()).or(missing),
                prerelease: is_prerelease.then(|| PRERELEASE.to_owned()),
                commit: tag_commit.map(|commit| commit.oid),
                ..Candidate::new(tag_name)
            }
        }
        Node::Tag { name, target } => {
            let is_tag = target.as_ref().is_some_and(|object| object.kind == "Tag");
            let tag_object = target.as_ref().filter(|_| is_tag).map(|object| object.oid.clone());
            let commit = target.and_then(commit);
            let missing = commit.is_none().then(|| "its tag points to no commit".to_owned());
            Candidate { withdrawn: missing, commit, tag_object, ..Candidate::new(name) }
        }
    }
}

fn commit(object: Object) -> Option<String> {
    match object.kind.as_str() {
        "Commit" => Some(object.oid),
        "Tag" => commit(*object.target?),
        _ => None,
    }
}
