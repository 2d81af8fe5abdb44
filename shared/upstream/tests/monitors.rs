//! Watching GitHub, the release-monitoring service and git repositories, from a server of our own
//! that answers as they do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::{Answer, Recorded};
use upstream::{
    Decision, EndpointSettings, Endpoints, Error, FetchOptions, GitHubListing, GitLabListing, GitLabProject, Lifted,
    Monitored, Options, Rules, Surroundings, Token, Upstreams, Verdict, Watch, WebPage,
};

const COMMIT: &str = "bc2e8d5fcc05570f7c712b6aeee07ae3c238c596";
const OTHER: &str = "0d1f2c3b4a5968778695a4b3c2d1e0f123456789";

struct Bench {
    server: Recorded,
    cache: tempfile::TempDir,
    token: Option<&'static str>,
    offline: bool,
}

impl Bench {
    async fn new() -> Self {
        Self { server: Recorded::start().await, cache: tempfile::tempdir().unwrap(), token: None, offline: false }
    }

    fn upstreams(&self) -> Upstreams {
        let settings = EndpointSettings {
            github_api: Some(format!("{}/api/v3/", self.server.base())),
            github_token: self.token.map(Token::new),
            release_monitor: Some(self.server.base().to_owned()),
            ..EndpointSettings::default()
        };
        let folder = self.cache.path();
        let surroundings = Surroundings {
            apt_folder: folder.join("apt"),
            debian_keyring: folder.join("none.gpg"),
            cargo_home: None,
            working_folder: folder.to_owned(),
            run_clients: false,
        };
        let fetch = FetchOptions {
            attempts: 2,
            first_wait: Duration::from_millis(1),
            offline: self.offline,
            ..FetchOptions::default()
        };
        let options = Options { fetch, git_timeout: Duration::from_secs(2), ..Options::default() };
        Upstreams::new(Endpoints::new(settings, surroundings), &folder.join("cache"), options).unwrap()
    }

    async fn check(&self, monitored: Monitored, current: &str, rules: Rules) -> Result<Decision, Error> {
        self.upstreams().check(&Watch { current: Some(current.to_owned()), rules, ..Watch::new(monitored) }).await
    }
}

fn github(listing: GitHubListing) -> Monitored {
    Monitored::GitHub { repository: "mill/hello".parse().unwrap(), listing }
}

fn strip(prefix: &str) -> Rules {
    Rules { strip_prefix: Some(prefix.to_owned()), ..Rules::default() }
}

fn verdicts(decision: &Decision) -> Vec<(&str, Verdict, &str)> {
    decision.considered.iter().map(|one| (one.version.as_str(), one.verdict, one.reason.as_str())).collect()
}

fn release(tag: &str, draft: bool, prerelease: bool) -> String {
    format!(
        r#"{{"url":"u","id":1,"tag_name":"{tag}","target_commitish":"main","name":null,"draft":{draft},"prerelease":{prerelease},"published_at":"2026-11-20T09:15:44Z","assets":[],"body":"notes"}}"#
    )
}

fn tag(name: &str, commit: &str) -> String {
    format!(
        r#"{{"name":"{name}","zipball_url":"z","tarball_url":"t","commit":{{"sha":"{commit}","url":"u"}},"node_id":"n"}}"#
    )
}

#[tokio::test]
async fn releases_of_github_give_the_newest_with_its_commit() {
    let bench = Bench::new().await;
    let releases = [
        release("v1.3.0", true, false),
        release("v1.3.0-next", false, true),
        release("v1.2.1", false, false),
        release("v1.2.0", false, false),
    ];
    let list = "/api/v3/repos/mill/hello/releases?per_page=100";
    bench.server.put(list, Answer::ok(format!("[{}]", releases.join(","))).header("etag", "\"one\""));
    bench.server.put("/api/v3/repos/mill/hello/commits/tags/v1.2.1", Answer::ok(COMMIT));
    let decision = bench.check(github(GitHubListing::Releases), "1.2.0", strip("v")).await.unwrap();
    assert_eq!(
        verdicts(&decision),
        [
            ("1.2.1", Verdict::Taken, "the newest release, above `1.2.0`"),
            ("1.2.0", Verdict::Current, "the version that is built already"),
            ("v1.3.0", Verdict::PassedOver, "a draft"),
            ("v1.3.0-next", Verdict::PassedOver, "marked as a pre-release"),
        ]
    );
    let chosen = decision.chosen.unwrap();
    assert_eq!((chosen.upstream.as_str(), chosen.commit.as_deref()), ("v1.2.1", Some(COMMIT)));
    assert_eq!(bench.server.asked().len(), 2);

    // Nothing newer: one conditional request, and no commit asked for.
    let decision = bench.check(github(GitHubListing::Releases), "1.2.1", strip("v")).await.unwrap();
    assert_eq!(decision.chosen, None);
    let asked: Vec<_> = bench.server.asked().into_iter().map(|one| (one.path, one.status)).collect();
    assert_eq!(asked, [(list.to_owned(), 304)]);
}

#[tokio::test]
async fn a_release_whose_tag_points_to_nothing_is_passed_over() {
    let bench = Bench::new().await;
    let releases = [release("v1.2", false, false), release("v1.1", false, false), release("v1.0", false, false)];
    bench.server.put("/api/v3/repos/mill/hello/releases?per_page=100", Answer::ok(format!("[{}]", releases.join(","))));
    bench.server.put("/api/v3/repos/mill/hello/commits/tags/v1.1", Answer::ok(COMMIT));
    let decision = bench.check(github(GitHubListing::Releases), "1.0", strip("v")).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.1");
    assert_eq!(decision.considered[2].reason, "its tag points to no commit");

    // The commit is another than was seen: not built, and the tag's own object has been asked for.
    let seen = [("v1.1".to_owned(), OTHER.to_owned())].into();
    let watch = Watch {
        current: Some("1.0".to_owned()),
        rules: strip("v"),
        seen,
        ..Watch::new(github(GitHubListing::Releases))
    };
    let decision = bench.upstreams().check(&watch).await.unwrap();
    assert_eq!(decision.chosen, None);
    assert!(decision.considered.iter().any(|one| one.version == "1.1" && one.verdict == Verdict::Republished));
    let reference = format!(r#"{{"ref":"refs/tags/v1.1","object":{{"sha":"{OTHER}","type":"tag"}}}}"#);
    bench.server.put("/api/v3/repos/mill/hello/git/ref/tags/v1.1", Answer::ok(reference));
    let decision = bench.upstreams().check(&watch).await.unwrap();
    assert_eq!(decision.chosen.unwrap().commit.as_deref(), Some(COMMIT));
}

#[tokio::test]
async fn projects_on_gitlab_are_read_through_its_api() {
    let bench = Bench::new().await;
    let project = GitLabProject::new(&format!("{}/mill/tools/hello.git", bench.server.base())).unwrap();
    let watched = |listing| Monitored::GitLab { project: project.clone(), listing };
    let api = "/api/v4/projects/mill%2Ftools%2Fhello";
    let tags = format!(
        r#"[{{"name":"v1.1","message":"","target":"{OTHER}","commit":{{"id":"{COMMIT}"}},"release":null,"protected":false}},
            {{"name":"v1.0","message":"","target":"{COMMIT}","commit":{{"id":"{COMMIT}"}}}},{{"name":"v2","target":null,"commit":null}}]"#
    );
    let list = format!("{api}/repository/tags?per_page=100");
    bench.server.put(&list, Answer::ok(tags).header("etag", "W/\"1\""));
    let releases = format!(
        r#"[{{"tag_name":"v1.2","upcoming_release":true,"commit":{{"id":"{OTHER}"}}}},
            {{"tag_name":"v1.1","name":"1.1","upcoming_release":false,"commit":{{"id":"{COMMIT}"}}}}]"#
    );
    bench.server.put(&format!("{api}/releases?per_page=100"), Answer::ok(releases));
    for listing in [GitLabListing::Tags, GitLabListing::Releases] {
        let chosen = bench.check(watched(listing), "1.0", strip("v")).await.unwrap().chosen.unwrap();
        assert_eq!((chosen.version.as_str(), chosen.commit.as_deref()), ("1.1", Some(COMMIT)));
    }
    bench.server.asked();
    let decision = bench.check(watched(GitLabListing::Tags), "1.1", strip("v")).await.unwrap();
    assert_eq!(decision.chosen, None);
    let asked: Vec<_> = bench.server.asked().into_iter().map(|one| (one.path, one.status)).collect();
    assert_eq!(asked, [(list, 304)]);
    let unknown = GitLabProject::new(&format!("{}/mill/none", bench.server.base())).unwrap();
    let unknown = Monitored::GitLab { project: unknown, listing: GitLabListing::Tags };
    let error = bench.check(unknown, "1.0", strip("v")).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
}

#[tokio::test]
async fn a_web_page_is_searched_for_versions() {
    let bench = Bench::new().await;
    let page = "<a href=hello-1.9.tar.gz>1.9</a><a href=hello-1.10.tar.gz>1.10</a><a href=hello-2.0-rc1.tar.gz>rc</a>";
    bench.server.put("/download/", Answer::ok(page).header("last-modified", "Wed, 25 Nov 2026 04:00:00 GMT"));
    let address = format!("{}/download/", bench.server.base());
    let watched = |pattern| Monitored::Page(WebPage::new(&address, pattern).unwrap());
    let pattern = r"hello-([\w.-]+)\.tar\.gz";
    let decision = bench.check(watched(pattern), "1.9", Rules::default()).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.10");
    assert_eq!(decision.considered[2].reason, "a pre-release (`rc`)");
    let error = bench.check(watched("world-(.*)"), "1.9", Rules::default()).await.unwrap_err();
    assert!(error.to_string().contains("matches nothing"), "{error}");
    bench.server.put("/download/", Answer::ok(vec![b'a'; 9 << 20]));
    let error = bench.check(watched(pattern), "1.9", Rules::default()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_host_that_is_down_is_asked_by_the_first_only() {
    let bench = Bench::new().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let host = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstreams = bench.upstreams();
    let page = |number: usize| Watch::new(Monitored::Page(WebPage::new(&format!("{host}/{number}"), ".").unwrap()));
    let error = upstreams.check(&page(0)).await.unwrap_err();
    assert!(matches!(&error, Error::Request { attempts: 2, .. }), "{error}");
    for number in 1..100 {
        let error = upstreams.check(&page(number)).await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { .. }), "{error}");
    }
    let git = Watch::new(Monitored::Git(format!("{host}/a.git").parse().unwrap()));
    assert!(matches!(upstreams.check(&git).await.unwrap_err(), Error::Unreachable { .. }));
    // Other hosts are asked as ever, and git's failures count too.
    let upstreams = bench.upstreams();
    assert!(matches!(upstreams.check(&git).await.unwrap_err(), Error::Git { .. }));
    assert!(matches!(upstreams.check(&git).await.unwrap_err(), Error::Unreachable { .. }));
}

#[tokio::test]
async fn tags_of_github_are_read_to_the_last_page() {
    let bench = Bench::new().await;
    let first = "/api/v3/repos/mill/hello/tags?per_page=100";
    let second = "/api/v3/repositories/7/tags?per_page=100&page=2";
    let link =
        format!(r#"<{}{second}>; rel="next", <{}{second}>; rel="last""#, bench.server.base(), bench.server.base());
    let page = format!("[{},{}]", tag("hello-1.9", OTHER), tag("world-3.0", OTHER));
    bench.server.put(first, Answer::ok(page).header("etag", "W/\"1\"").header("link", link));
    bench.server.put(second, Answer::ok(format!("[{}]", tag("hello-1.10", COMMIT))).header("etag", "W/\"2\""));
    let rules = Rules { filter_prefix: Some("hello-".to_owned()), ..strip("hello-") };
    for status in [200, 304] {
        let decision = bench.check(github(GitHubListing::Tags), "1.9", rules.clone()).await.unwrap();
        let chosen = decision.chosen.unwrap();
        assert_eq!((chosen.version.as_str(), chosen.commit.as_deref()), ("1.10", Some(COMMIT)));
        assert_eq!(decision.considered[2].reason, "does not start with `hello-`");
        let asked: Vec<_> = bench.server.asked().into_iter().map(|one| (one.path, one.status)).collect();
        assert_eq!(asked, [(first.to_owned(), status), (second.to_owned(), status)]);
    }
}

#[tokio::test]
async fn a_list_without_end_and_a_next_page_elsewhere_are_refused() {
    let bench = Bench::new().await;
    let path = "/api/v3/repos/mill/hello/tags?per_page=100";
    let page = Answer::ok(format!("[{}]", tag("1.0", COMMIT)));
    bench.server.put(path, page.clone().header("link", format!("<{path}>; rel=\"next\"")));
    let error = bench.check(github(GitHubListing::Tags), "1.0", Rules::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Listing { reason, .. } if reason.contains("100 pages")), "{error}");
    bench.server.asked();
    bench.server.put(path, page.header("link", "<https://elsewhere.invalid/tags>; rel=\"next\""));
    let error = bench.check(github(GitHubListing::Tags), "1.0", Rules::default()).await.unwrap_err();
    assert!(error.to_string().contains("elsewhere.invalid"), "{error}");
    assert_eq!(bench.server.asked().len(), 1);
}

#[tokio::test]
async fn githubs_refusals_say_what_to_do() {
    let mut bench = Bench::new().await;
    bench.token = Some("ghp_secret");
    let path = "/api/v3/repos/mill/hello/releases?per_page=100";
    let error = bench.check(github(GitHubListing::Releases), "1", Rules::default()).await.unwrap_err();
    assert!(matches!(&error, Error::UnknownPackage { package, .. } if package == "mill/hello"), "{error}");

    bench.server.put(path, Answer::ok("[]"));
    let error = bench.check(github(GitHubListing::Releases), "1", Rules::default()).await.unwrap_err();
    assert!(error.to_string().contains("use-tag"), "{error}");

    bench.server.put(path, Answer::ok(r#"{"message":"unexpected"}"#));
    let error = bench.check(github(GitHubListing::Releases), "1", Rules::default()).await.unwrap_err();
    assert!(matches!(error, Error::Listing { .. }), "{error}");

    // A server without GraphQL, so that the token is used with REST.
    let asked = bench.server.asked();
    assert!(asked.iter().all(|one| one.authorization.as_deref() == Some("Bearer ghp_secret")), "{asked:?}");
    bench.token = None;
    for status in [403, 429] {
        let refusal = Answer::status(status).header("x-ratelimit-remaining", "0");
        bench.server.put(path, refusal.header("x-ratelimit-reset", "1795579200"));
        let error = bench.check(github(GitHubListing::Releases), "1", Rules::default()).await.unwrap_err();
        let reset = "2026-11-25T04:00:00Z";
        assert!(
            matches!(&error, Error::RateLimited { lifted: Lifted::At(time), .. } if time.to_string() == reset),
            "{error}"
        );
        assert!(error.to_string().contains(reset) && !error.to_string().contains("secret"), "{error}");
        assert_eq!(bench.server.asked().len(), 1, "asked again although the limit is reached");
    }
}

#[tokio::test]
async fn the_release_monitoring_service_tells_stable_versions_from_others() {
    let bench = Bench::new().await;
    let path = "/api/v2/versions/?project_id=15";
    let body = r#"{"latest_version":"3.1.90","stable_versions":["3.0.8","3.0.7"],"versions":["3.1.90","3.0.8","3.0.7","2.9.9_final"]}"#;
    bench.server.put(path, Answer::ok(body));
    let watched = || Monitored::ReleaseMonitor(15);
    let rules = Rules { filter_prefix: Some("3.".to_owned()), ..Rules::default() };
    let decision = bench.check(watched(), "3.0.7", rules.clone()).await.unwrap();
    assert_eq!(
        verdicts(&decision),
        [
            ("3.0.8", Verdict::Taken, "the newest release, above `3.0.7`"),
            ("3.0.7", Verdict::Current, "the version that is built already"),
            ("3.1.90", Verdict::PassedOver, "not among the project's stable versions"),
            ("2.9.9_final", Verdict::PassedOver, "does not start with `3.`"),
        ]
    );
    let all = Rules { enable_prerelease_tags: true, ..rules };
    assert_eq!(bench.check(watched(), "3.0.7", all).await.unwrap().chosen.unwrap().version, "3.1.90");
    let error = bench.check(Monitored::ReleaseMonitor(16), "1", Rules::default()).await.unwrap_err();
    assert!(matches!(&error, Error::UnknownPackage { package, .. } if package == "16"), "{error}");
    bench.server.put(path, Answer::ok(r#"{"latest_version":null,"stable_versions":[],"versions":[]}"#));
    let error = bench.check(watched(), "1", Rules::default()).await.unwrap_err();
    assert!(matches!(&error, Error::NoReleases { subject, .. } if subject == "release-monitor:15"), "{error}");
}

fn run_git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["-c", "user.name=mill", "-c", "user.email=mill@localhost", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn tags_of_a_git_repository_have_the_commits_that_they_point_to() {
    let bench = Bench::new().await;
    let repository = tempfile::tempdir().unwrap();
    run_git(repository.path(), &["init", "--quiet"]);
    run_git(repository.path(), &["commit", "--quiet", "--allow-empty", "--message", "one"]);
    run_git(repository.path(), &["tag", "v1.0"]);
    run_git(repository.path(), &["commit", "--quiet", "--allow-empty", "--message", "two"]);
    run_git(repository.path(), &["tag", "--annotate", "--message", "release", "v1.1"]);
    let commit = run_git(repository.path(), &["rev-parse", "HEAD"]);
    let address = format!("file://{}", repository.path().display());
    let watched = || Monitored::Git(address.parse().unwrap());
    let decision = bench.check(watched(), "1.0", strip("v")).await.unwrap();
    let chosen = decision.chosen.unwrap();
    assert_eq!((chosen.version.as_str(), chosen.commit), ("1.1", Some(commit)));
    assert_eq!(decision.considered.len(), 2);

    run_git(repository.path(), &["tag", "--delete", "v1.0", "v1.1"]);
    let error = bench.check(watched(), "1.0", strip("v")).await.unwrap_err();
    assert!(matches!(error, Error::NoReleases { .. }), "{error}");
    let offline = Bench { offline: true, ..bench };
    let error = offline.check(watched(), "1.0", strip("v")).await.unwrap_err();
    assert!(matches!(error, Error::Offline { .. }), "{error}");
}

#[tokio::test]
async fn tags_of_a_registry_are_read_with_the_token_that_it_gives_to_anybody() {
    let bench = Bench::new().await;
    let host = bench.server.base().trim_start_matches("http://");
    let watched = || Monitored::Oci(format!("{host}/mill/hello").parse().unwrap());
    let first = "/v2/mill/hello/tags/list?n=1000";
    let second = "/v2/mill/hello/tags/list?last=1.9&n=1000";
    let page = Answer::ok(r#"{"name":"mill/hello","tags":["1.10","1.9","latest"]}"#);
    let page = page.header("link", format!("<{second}>; rel=\"next\""));
    bench.server.put(second, Answer::ok(r#"{"name":"mill/hello","tags":["1.11"]}"#));
    let challenge = format!(
        r#"Bearer realm="{}/token",service="registry",scope="repository:mill/hello:pull""#,
        bench.server.base()
    );
    bench.server.put_private(first, "Bearer anybody", &challenge, page);
    bench.server.put(
        "/token?service=registry&scope=repository%3Amill%2Fhello%3Apull",
        Answer::ok(r#"{"token":"anybody","expires_in":300}"#),
    );
    let decision = bench.check(watched(), "1.9", Rules::default()).await.unwrap();
    assert_eq!(decision.chosen.unwrap().version, "1.11");
    assert_eq!(decision.considered.last().unwrap().reason, "`latest` is not a package version");
    let asked: Vec<_> = bench.server.asked().into_iter().map(|one| (one.status, one.authorization)).collect();
    let bearer = || Some("Bearer anybody".to_owned());
    assert_eq!(asked, [(401, None), (200, None), (200, bearer()), (200, bearer())]);

    bench.server.put_private(first, "x", "Basic realm=\"registry\"", Answer::ok("{}"));
    let error = bench.check(watched(), "1.9", Rules::default()).await.unwrap_err();
    assert!(error.to_string().contains("Basic realm"), "{error}");
    bench.server.put(first, Answer::ok(r#"{"name":"mill/hello","tags":null}"#));
    let error = bench.check(watched(), "1.9", Rules::default()).await.unwrap_err();
    assert!(matches!(error, Error::NoReleases { .. }), "{error}");
    bench.server.put(first, Answer::status(404));
    let error = bench.check(watched(), "1.9", Rules::default()).await.unwrap_err();
    assert!(matches!(error, Error::UnknownPackage { .. }), "{error}");
}

fn packet(text: &str) -> String {
    format!("{:04x}{text}", text.len() + 4)
}

#[tokio::test]
async fn a_git_repository_is_asked_over_http_without_credentials() {
    let bench = Bench::new().await;
    // What a server of the first smart protocol answers to `info/refs`.
    let advertisement = [
        packet("# service=git-upload-pack\n"),
        "0000".to_owned(),
        packet(&format!("{OTHER} HEAD\0multi_ack side-band-64k ofs-delta\n")),
        packet(&format!("{OTHER} refs/heads/main\n")),
        packet(&format!("{} refs/tags/2.0\n", "1".repeat(40))),
        packet(&format!("{COMMIT} refs/tags/2.0^{{}}\n")),
        "0000".to_owned(),
    ];
    let path = "/hello.git/info/refs?service=git-upload-pack";
    let answer = Answer::ok(advertisement.concat());
    bench.server.put(path, answer.header("content-type", "application/x-git-upload-pack-advertisement"));
    let watched = |path: &str| Monitored::Git(format!("{}/{path}", bench.server.base()).parse().unwrap());
    let chosen = bench.check(watched("hello.git"), "1.0", Rules::default()).await.unwrap().chosen.unwrap();
    assert_eq!((chosen.version.as_str(), chosen.commit.as_deref()), ("2.0", Some(COMMIT)));

    bench.server.put(
        "/closed.git/info/refs?service=git-upload-pack",
        Answer::status(401).header("www-authenticate", "Basic realm=\"git\""),
    );
    for path in ["closed.git", "none.git"] {
        let error = bench.check(watched(path), "1.0", Rules::default()).await.unwrap_err();
        assert!(matches!(&error, Error::Git { reason, .. } if reason.contains("ls-remote")), "{error}");
    }
    assert!(bench.server.asked().iter().all(|one| one.authorization.is_none()));
}

#[tokio::test]
async fn a_git_server_that_never_answers_is_given_up() {
    let bench = Bench::new().await;
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let watched = Monitored::Git(format!("http://{}/a.git", silent.local_addr().unwrap()).parse().unwrap());
    let started = std::time::Instant::now();
    let error = bench.check(watched, "1.0", Rules::default()).await.unwrap_err();
    assert!(matches!(&error, Error::Git { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
