//! GitHub's GraphQL API, from a server of our own that answers as it does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use upstream::{
    Decision, EndpointSettings, Endpoints, Error, FetchOptions, GitHubListing, Monitored, Options, Rules, Surroundings,
    Token, Upstreams, Verdict, Watch,
};

/// One request: how many repositories it is about, and its credentials.
type Asked = (usize, Option<String>);

/// What the server has: pages of each repository's list, and how it behaves.
#[derive(Clone, Default)]
struct GitHub {
    lists: Arc<Mutex<BTreeMap<String, Vec<Value>>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Behaviour {
    #[default]
    Good,
    /// More repositories in one request are too much.
    AtMost(usize),
    Spent,
    Secondary,
}

impl GitHub {
    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}/api/v3", listener.local_addr().unwrap());
        let router = Router::new().route("/api/graphql", axum::routing::post(answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        base
    }

    fn has(&self, repository: &str, pages: Vec<Value>) {
        self.lists.lock().unwrap().insert(repository.to_owned(), pages);
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn answer(State(github): State<GitHub>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let query = body["query"].as_str().unwrap();
    let count = query.matches(": repository(owner:").count();
    let authorization = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    github.asked.lock().unwrap().push((count, authorization));
    match *github.behaviour.lock().unwrap() {
        Behaviour::AtMost(most) if count > most => return StatusCode::BAD_GATEWAY.into_response(),
        Behaviour::Secondary => return (StatusCode::FORBIDDEN, [("retry-after", "60")]).into_response(),
        Behaviour::Spent => {
            let errors = json!([{ "type": "RATE_LIMITED", "message": "API rate limit exceeded" }]);
            return json!({ "errors": errors }).to_string().into_response();
        }
        _ => {}
    }
    let lists = github.lists.lock().unwrap();
    let mut data = serde_json::Map::new();
    data.insert("rateLimit".to_owned(), json!({ "cost": 1, "remaining": 4999, "resetAt": "2026-11-25T05:00:00Z" }));
    let mut errors = Vec::new();
    for number in 0..count {
        let variable = |letter: &str| body["variables"][format!("{letter}{number}")].as_str().map(str::to_owned);
        let name = format!("{}/{}", variable("o").unwrap(), variable("n").unwrap());
        let alias = format!("r{number}");
        let at: usize = variable("a").map_or(0, |cursor| cursor.parse().unwrap());
        let Some(pages) = lists.get(&name) else {
            let message = format!("Could not resolve to a Repository with the name '{name}'.");
            errors.push(json!({ "type": "NOT_FOUND", "path": [alias], "message": message }));
            data.insert(alias, Value::Null);
            continue;
        };
        let info = json!({ "hasNextPage": at + 1 < pages.len(), "endCursor": (at + 1).to_string() });
        data.insert(alias, json!({ "list": { "pageInfo": info, "nodes": pages[at] } }));
    }
    let mut answer = json!({ "data": data });
    if !errors.is_empty() {
        answer["errors"] = errors.into();
    }
    answer.to_string().into_response()
}

fn upstreams(base: &str, cache: &std::path::Path) -> Upstreams {
    let settings = EndpointSettings {
        github_api: Some(base.to_owned()),
        github_token: Some(Token::new("ghp_secret")),
        ..EndpointSettings::default()
    };
    let surroundings = Surroundings { run_clients: false, ..Surroundings::of_machine(|_| None, cache) };
    let fetch = FetchOptions { attempts: 2, first_wait: Duration::from_millis(1), ..FetchOptions::default() };
    Upstreams::new(Endpoints::new(settings, surroundings), cache, Options { fetch, ..Options::default() }).unwrap()
}

fn watch(repository: &str, listing: GitHubListing, current: &str) -> Watch {
    let monitored = Monitored::GitHub { repository: repository.parse().unwrap(), listing };
    let rules = Rules { strip_prefix: Some("v".to_owned()), ..Rules::default() };
    Watch { current: Some(current.to_owned()), rules, ..Watch::new(monitored) }
}

fn oid(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn release(tag: &str, digit: Option<char>) -> Value {
    json!({ "tagName": tag, "isDraft": false, "isPrerelease": tag.contains("next"), "tagCommit": digit.map(|digit| json!({ "oid": oid(digit) })) })
}

/// An annotated tag: an object of its own that points to a commit.
fn annotated(tag: &str, own: char, commit: char) -> Value {
    let target = json!({ "__typename": "Commit", "oid": oid(commit) });
    json!({ "name": tag, "target": { "__typename": "Tag", "oid": oid(own), "target": target } })
}

async fn check_all(upstreams: &Upstreams, watches: Vec<Watch>) -> Vec<Result<Decision, Error>> {
    let checks = watches.iter().map(|watch| upstreams.check(watch));
    futures_util::future::join_all(checks).await
}

#[tokio::test]
async fn many_repositories_are_read_in_few_requests_and_one_that_is_missing_fails_alone() {
    let github = GitHub::default();
    let base = github.serve().await;
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(&base, cache.path());
    let mut watches = Vec::new();
    for number in 0..59 {
        let name = format!("mill/hello-{number}");
        if number != 7 {
            let drafts = json!([
                { "tagName": "v9", "isDraft": true, "isPrerelease": false, "tagCommit": null },
                release("v2.0", None), release("v1.2-next", Some('3')), release("v1.1", Some('1')), null,
                release("v1.0", Some('2')),
            ]);
            github.has(&name, vec![drafts]);
        }
        watches.push(watch(&name, GitHubListing::Releases, "1.0"));
    }
    github.has("mill/tags", vec![json!([annotated("v1.1", '4', '5'), { "name": "v1.2", "target": null }])]);
    watches.push(watch("mill/tags", GitHubListing::Tags, "1.0"));
    let mut answers = check_all(&upstreams, watches).await;
    let asked = github.asked();
    assert_eq!(asked.iter().map(|(count, _)| count).sum::<usize>(), 60);
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|(_, authorization)| authorization.as_deref() == Some("Bearer ghp_secret")));

    let tags = answers.pop().unwrap().unwrap();
    assert_eq!(tags.chosen.unwrap().commit, Some(oid('5')));
    assert_eq!(tags.considered[1].reason, "its tag points to no commit");
    for (number, answer) in answers.into_iter().enumerate() {
        if number == 7 {
            assert!(matches!(answer, Err(Error::UnknownPackage { package, .. }) if package == "mill/hello-7"));
            continue;
        }
        let decision = answer.unwrap();
        let reasons: Vec<_> = decision.considered.iter().skip(2).map(|one| one.reason.as_str()).collect();
        assert_eq!(reasons, ["a draft", "its tag points to no commit", "marked as a pre-release"]);
        let chosen = decision.chosen.unwrap();
        assert_eq!((chosen.version.as_str(), chosen.commit), ("1.1", Some(oid('1'))));
    }
}

#[tokio::test]
async fn a_list_is_read_as_far_as_the_current_version() {
    let github = GitHub::default();
    let base = github.serve().await;
    let cache = tempfile::tempdir().unwrap();
    let upstreams = upstreams(&base, cache.path());
    let page = |tag: &str| json!([annotated(tag, '1', '2')]);
    github.has("mill/hello", vec![page("other-9"), page("v1.1"), page("v1.0"), page("v0.9")]);
    let decision = upstreams.check(&watch("mill/hello", GitHubListing::Tags, "1.0")).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.1");
    assert_eq!(github.asked().len(), 3);

    // What was seen under a tag may be the commit or the tag's own object.
    for (seen, verdict) in [('1', Verdict::Current), ('2', Verdict::Current), ('3', Verdict::Republished)] {
        let seen = [("v1.0".to_owned(), oid(seen))].into();
        let watch = Watch { seen, ..watch("mill/hello", GitHubListing::Tags, "1.0") };
        let decision = upstreams.check(&watch).await.unwrap();
        assert_eq!(decision.considered.iter().find(|one| one.version == "1.0").unwrap().verdict, verdict);
    }
}

#[tokio::test]
async fn limits_and_requests_that_are_too_much_are_respected() {
    let github = GitHub::default();
    let base = github.serve().await;
    let cache = tempfile::tempdir().unwrap();
    let watches = || (0..10).map(|number| watch(&format!("mill/{number}"), GitHubListing::Releases, "1.0")).collect();
    for number in 0..10 {
        github.has(&format!("mill/{number}"), vec![json!([release("v1.0", Some('1'))])]);
    }
    *github.behaviour.lock().unwrap() = Behaviour::AtMost(3);
    let answers = check_all(&upstreams(&base, cache.path()), watches()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");

    for behaviour in [Behaviour::Spent, Behaviour::Secondary] {
        *github.behaviour.lock().unwrap() = behaviour;
        let upstreams = upstreams(&base, cache.path());
        github.asked();
        for answer in check_all(&upstreams, watches()).await {
            assert!(matches!(answer, Err(Error::RateLimited { .. })), "{answer:?}");
        }
        let one = upstreams.check(&watch("mill/1", GitHubListing::Releases, "1.0")).await;
        assert!(matches!(one, Err(Error::RateLimited { .. })), "{one:?}");
        assert_eq!(github.asked().len(), 1, "asked again although the limit is reached");
    }
}
