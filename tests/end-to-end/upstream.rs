//! Watching: `mill upstream` and the cycle over definitions of every provider, from servers of our
//! own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use tests::archive::{Archive, ArchiveKey, Server, sha256_hex};
use tests::factory::{Answer, Factory, answer};
use tests::git::{GitServer, Repository};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

/// A factory, and a server that stands for GitHub, the release-monitoring service and web pages.
struct Bench {
    factory: Factory,
    web: Archive,
    server: Server,
}

impl Bench {
    fn new() -> Self {
        let web = Archive::new(ArchiveKey::generate());
        let server = web.serve();
        Self { factory: Factory::new(env!("CARGO_BIN_EXE_mill")), web, server }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.factory.command();
        command
            .args(["--format", "json"])
            .args(arguments)
            .env("MINIMILL_GITHUB_API", self.server.base())
            .env("MINIMILL_RELEASE_MONITOR", self.server.base())
            .env_remove("MINIMILL_GITHUB_TOKEN");
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        answer(self.command(arguments))
    }

    /// The tags of `mill/NAME` on GitHub.
    fn tags(&self, name: &str, tags: &[(&str, &str)]) {
        let tags: Vec<Value> =
            tags.iter().map(|(tag, commit)| json!({ "name": tag, "commit": { "sha": commit } })).collect();
        self.web.put(&format!("repos/mill/{name}/tags"), json!(tags).to_string());
    }

    /// A definition that takes a tag of a repository, and that no build is tried of.
    fn add(&self, name: &str, repository: &str, commit: &str, update: &str) {
        self.factory.write(
            &format!("packages/{name}.yaml"),
            &format!(
                "# Kept.\npackage:\n  name: {name}\n  version: \"1.0\" # the version\n  epoch: 3\n  description: {name} of a \
                 test\n  copyright:\n    - license: Apache-2.0\npipeline:\n  - uses: git-checkout\n    with:\n      \
                 repository: {repository}\n      tag: v${{{{package.version}}}}\n      expected-commit: {commit}\n  - uses: \
                 no/such-pipeline\nupdate:\n  enabled: true\n{update}"
            ),
        );
    }

    fn add_github(&self, name: &str, update: &str) {
        let provider =
            format!("  github:\n    identifier: mill/{name}\n    use-tag: true\n    strip-prefix: v\n{update}");
        self.add(name, &format!("https://github.com/mill/{name}"), FIRST, &provider);
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.factory.catalog().join(format!("packages/{name}.yaml"))).unwrap()
    }
}

fn row<'a>(answer: &'a Answer, name: &str) -> &'a Value {
    let rows = answer.json["packages"].as_array().unwrap_or_else(|| panic!("{}", answer.stderr));
    rows.iter().find(|row| row["package"] == name).unwrap_or_else(|| panic!("{:#}", answer.json))
}

fn verdict<'a>(row: &'a Value, version: &str) -> &'a str {
    let all = row["considered"].as_array().unwrap();
    all.iter().find(|one| one["version"] == version).unwrap_or_else(|| panic!("{row:#}"))["verdict"].as_str().unwrap()
}

#[test]
fn a_tag_that_moves_is_an_alarm_and_not_built_until_it_is_accepted() {
    let bench = Bench::new();
    bench.add_github("moved", "");
    bench.tags("moved", &[("v1.0", FIRST)]);
    bench.run(&["upstream", "check", "moved"]).expect_code(0);

    // Seen once as one commit, then as another: nothing newer is left to build.
    bench.tags("moved", &[("v1.1", FIRST), ("v1.0", FIRST)]);
    let seen = bench.run(&["upstream", "check", "moved"]);
    seen.expect_code(0);
    assert_eq!(row(&seen, "moved")["chosen"]["commit"], FIRST);
    bench.tags("moved", &[("v1.1", SECOND), ("v1.0", FIRST)]);
    let alarm = bench.run(&["upstream", "check", "moved"]);
    alarm.expect_code(1);
    assert_eq!(row(&alarm, "moved")["newest"], Value::Null);
    assert_eq!(verdict(row(&alarm, "moved"), "1.1"), "republished");
    assert_eq!(alarm.json["summary"]["republished"], 1);
    let cycle = bench.run(&["cycle"]);
    cycle.expect_code(1);
    let failure = cycle.failure("upstream-check", "moved");
    assert!(failure.contains(FIRST) && failure.contains(SECOND) && failure.contains("accept"), "{failure}");
    assert_eq!(cycle.texts("done", "upstream-check", "moved"), Vec::<String>::new());

    bench.run(&["upstream", "accept", "moved", "9.9"]).expect_code(1);
    let accepted = bench.run(&["upstream", "accept", "moved", "1.1"]);
    accepted.expect_code(0);
    assert_eq!(accepted.json["taken"]["now"], SECOND);
    let after = bench.run(&["upstream", "check", "moved"]);
    after.expect_code(0);
    assert_eq!(row(&after, "moved")["chosen"]["commit"], SECOND);

    // The definition's own tag: what the definition states is what counts.
    bench.tags("moved", &[("v1.0", SECOND)]);
    let own = bench.run(&["upstream", "check", "moved"]);
    own.expect_code(1);
    assert_eq!(verdict(row(&own, "moved"), "1.0"), "republished");
    let refused = bench.run(&["upstream", "accept", "moved", "1.0"]);
    refused.expect_code(1);
    assert!(refused.stderr.contains("state"), "{}", refused.stderr);
    bench.factory.edit("packages/moved.yaml", FIRST, SECOND);
    bench.run(&["upstream", "check", "moved"]).expect_code(0);
}

#[test]
fn a_new_tag_is_written_into_the_definition_and_only_those_lines_change() {
    let bench = Bench::new();
    bench.add_github("hand", "  manual: true\n");
    bench.tags("hand", &[("v1.1", SECOND), ("v1.0", FIRST), ("v2.0-rc1", FIRST), ("20250101", FIRST)]);
    let before = bench.text("hand");
    let shown = bench.run(&["upstream", "update", "hand"]);
    shown.expect_code(0);
    assert_eq!((shown.json["to"].as_str(), shown.json["basis"].as_str()), (Some("1.1"), Some("tag-on-first-use")));
    assert_eq!(bench.text("hand"), before);
    bench.run(&["upstream", "update", "hand", "--write"]).expect_code(0);
    let expected = before.replace("\"1.0\"", "\"1.1\"").replace("epoch: 3", "epoch: 0").replace(FIRST, SECOND);
    assert_eq!(bench.text("hand"), expected);
    assert_eq!(bench.run(&["upstream", "update", "hand"]).code, Some(1));

    // By hand means told, not built.
    std::fs::write(bench.factory.catalog().join("packages/hand.yaml"), before).unwrap();
    let cycle = bench.run(&["cycle"]);
    let told = cycle.texts("skipped", "upstream-check", "hand");
    assert!(told[0].contains("1.1 follows 1.0") && told[0].contains("update.manual"), "{told:?}");

    // Nothing is stated of what a plain address gives; its digest is computed, and called so.
    let address = format!("{}/files/plain-", bench.server.base());
    bench.web.put("files/plain-1.1.tar.gz", "the new source");
    bench.factory.write(
        "packages/plain.yaml",
        &format!(
            "package:\n  name: plain\n  version: 1.0\n  epoch: 0\n  copyright:\n    - license: Apache-2.0\npipeline:\n  - uses: \
             fetch\n    with:\n      uri: {address}${{{{package.version}}}}.tar.gz\n      expected-sha256: {}\nupdate:\n  \
             enabled: true\n",
            "0".repeat(64)
        ),
    );
    bench.web.put("download/", "plain-1.0.tar.gz plain-1.1.tar.gz");
    let page = format!("page: {}/download/\npattern: 'plain-([0-9.]+)\\.tar\\.gz'\n", bench.server.base());
    bench.factory.write("watch/plain.yaml", &page);
    let computed = bench.run(&["upstream", "update", "plain", "--write"]);
    computed.expect_code(0);
    assert_eq!(computed.json["basis"], "address-on-first-use");
    assert!(computed.json["note"].as_str().unwrap().contains("not proved"));
    assert!(bench.text("plain").contains(&sha256_hex(b"the new source")));
}

#[test]
fn a_tag_of_the_watched_repository_is_built_by_its_commit() {
    let bench = Bench::new();
    let repository = bench.factory.folder().join("upstream/hello");
    std::fs::create_dir_all(&repository).unwrap();
    let first = commit(&repository, "one");
    git(&repository, &["tag", "v1.0"]);
    let address = format!("file://{}", repository.display());
    bench.add("tagged", &address, &first, "  git:\n    strip-prefix: v\n");
    let quiet = bench.run(&["upstream", "check", "tagged"]);
    assert_eq!(verdict(row(&quiet, "tagged"), "1.0"), "current");

    let second = commit(&repository, "two");
    git(&repository, &["tag", "--annotate", "--message", "release", "v1.1"]);
    let cycle = bench.run(&["cycle"]);
    assert_eq!(cycle.texts("done", "upstream-check", "tagged"), ["1.1 follows 1.0"]);
    let claimed = bench.run(&["upstream", "update", "tagged"]);
    assert_eq!(claimed.json["checksum"]["commit"], second);

    // A release-monitoring service knows no commits: the repository is asked for its tag.
    bench.add("monitored", &address, &first, "  release-monitor:\n    identifier: 7\n");
    let versions = json!({ "versions": ["1.1", "1.0"], "stable_versions": ["1.1", "1.0"], "latest_version": "1.1" });
    bench.web.put("api/v2/versions/", versions.to_string());
    let update = bench.run(&["upstream", "update", "monitored"]);
    update.expect_code(0);
    assert_eq!(update.json["checksum"]["commit"], second);
    bench.web.put("api/v2/versions/", versions.to_string().replace("1.1", "1.2"));
    let missing = bench.run(&["upstream", "update", "monitored"]);
    missing.expect_code(1);
    assert!(missing.stderr.contains("has no tag `v1.2`"), "{}", missing.stderr);
}

#[test]
fn dependents_of_a_shared_package_get_the_next_revision() {
    let bench = Bench::new();
    bench.factory.add_package("compiler", "1.0", &[], "mkdir -p ${{targets.destdir}}/usr/share/compiler");
    bench.factory.add_package("program", "5", &["compiler"], "mkdir -p ${{targets.destdir}}/usr/share/program");
    let mut shared = bench.text("compiler");
    shared.push_str("update:\n  enabled: false\n  shared: true\n");
    bench.factory.write("packages/compiler.yaml", &shared);
    bench.run(&["cycle"]).expect_code(0);
    let index = || bench.factory.package_index().into_keys().collect::<Vec<_>>();
    assert!(index().contains(&"program 5-r0".to_owned()), "{:?}", index());
    bench.run(&["cycle"]).expect_code(0);
    assert!(!index().contains(&"program 5-r1".to_owned()), "{:?}", index());
    bench.factory.write("packages/compiler.yaml", &shared.replace("version: 1.0", "version: 1.1"));
    bench.run(&["cycle"]).expect_code(0);
    assert!(index().contains(&"compiler 1.1-r0".to_owned()), "{:?}", index());
    assert!(index().contains(&"program 5-r1".to_owned()), "{:?}", index());
}

#[test]
fn a_schedule_is_kept_and_unusable_blocks_fail_alone() {
    let mut bench = Bench::new();
    bench.add_github("weekly", "  schedule:\n    period: weekly\n    reason: large\n");
    bench.add_github("broken", "  ignore-regex-patterns:\n    - \"*ignore_me\"\n");
    bench.add_github("streams", "  version_data:\n    sources:\n      - name: nodejs\n        stream: '22'\n");
    for name in ["weekly", "broken"] {
        bench.tags(name, &[("v1.0", FIRST)]);
    }
    bench.factory.at("2026-03-04T06:00:00Z");
    let first = bench.run(&["upstream", "check"]);
    first.expect_code(1);
    assert!(row(&first, "broken")["error"].as_str().unwrap().contains("*ignore_me"));
    assert!(row(&first, "streams")["error"].as_str().unwrap().contains("version_data"));
    assert_eq!(
        (&first.json["summary"]["failed"], &first.json["summary"]["skipped_by_schedule"]),
        (&json!(2), &json!(0))
    );
    bench.factory.at("2026-03-09T06:00:00Z");
    let again = bench.run(&["upstream", "check"]);
    assert_eq!(again.json["summary"]["skipped_by_schedule"], 1);
    assert!(row(&again, "weekly")["reason"].as_str().unwrap().contains("2026-03-04"));
    // Whoever asks by name is answered.
    assert_eq!(row(&bench.run(&["upstream", "check", "weekly"]), "weekly")["asked"], true);
    bench.factory.at("2026-03-16T06:00:00Z");
    assert_eq!(bench.run(&["upstream", "check"]).json["summary"]["skipped_by_schedule"], 0);
}

/// 3,400 packages with nothing new, as a distribution has them.
#[test]
fn thousands_of_packages_with_nothing_new_cost_one_conditional_request_each() {
    let bench = Bench::new();
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let mut github = 0_u32;
    for number in 0..3398 {
        let name = format!("p{number}");
        match number {
            0..2650 => {
                let schedule = if number < 67 { "  schedule:\n    period: monthly\n" } else { "" };
                let manual = if number % 13 == 0 { "  manual: true\n" } else { "" };
                bench.add_github(&name, &format!("{schedule}{manual}"));
                bench.tags(&name, &[("v1.0", FIRST), ("v0.9", SECOND), ("v1.1-rc1", SECOND), ("nightly", SECOND)]);
                github += 1;
            }
            2650..2950 => {
                let update = format!("  release-monitor:\n    identifier: {number}\n");
                bench.add(&name, "https://localhost/a.git", FIRST, &update);
            }
            2950..2980 => {
                let address = format!("{}/{name}.git", bench.server.base());
                bench.web.put(&format!("{name}.git/info/refs"), format!("{FIRST}\trefs/tags/v1.0\n"));
                bench.web.put(&format!("{name}.git/HEAD"), "ref: refs/heads/main\n");
                bench.add(&name, &address, FIRST, "  git:\n    strip-prefix: v\n");
            }
            2980..3248 => {
                bench.add(&name, &format!("http://{dead}/{name}.git"), FIRST, "  git:\n    strip-prefix: v\n")
            }
            _ => bench.add(&name, "https://localhost/a.git", FIRST, "  exclude-reason: end of life\n"),
        }
        if number >= 3248 {
            bench.factory.edit(&format!("packages/{name}.yaml"), "enabled: true", "enabled: false");
        }
    }
    bench.web.put("api/v2/versions/", r#"{"versions":["1.0"],"stable_versions":["1.0"],"latest_version":"1.0"}"#);
    for (turn, unchanged) in [(1, 0), (2, github - 67 + 300)] {
        bench.web.forget_requests();
        let started = Instant::now();
        let answer = bench.run(&["upstream", "check"]);
        let elapsed = started.elapsed();
        answer.expect_code(1);
        let summary = &answer.json["summary"];
        let requests = bench.web.requests_of("");
        println!("check {turn} of 3,400 packages: {elapsed:.1?}, {requests:?}, {summary}");
        assert_eq!(summary["packages"], 3400);
        assert_eq!(summary["newer"], 0);
        assert_eq!(summary["skipped_by_schedule"], if turn == 1 { 0 } else { 67 });
        assert_eq!((&summary["failed"], &summary["not_watched"]), (&json!(268), &json!(150)));
        let reasons = summary["reasons"].as_object().unwrap();
        assert!(reasons.len() <= 2, "{reasons:?}");
        assert_eq!(requests.unchanged, unchanged);
        // The git client asks more than once.
        assert!(requests.total <= github + 300 + 30 * 4, "{requests:?}");
    }
    bench.web.forget_requests();
    let started = Instant::now();
    let cycle = bench.run(&["cycle"]);
    println!("the stage path: {:.1?}, {:?}", started.elapsed(), bench.web.requests_of(""));
    assert_eq!(cycle.count("upstream-check", "failed"), 268);
    assert_eq!(cycle.count("upstream-check", "skipped"), 3400 - 268);
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=mill", "-c", "user.email=mill@localhost"];
    let output = Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Commits a file; the answer is the commit.
fn commit(repository: &Path, text: &str) -> String {
    git(repository, &["init", "--quiet"]);
    std::fs::write(repository.join("README.md"), text).unwrap();
    git(repository, &["add", "README.md"]);
    git(repository, &["commit", "--quiet", "--message", text]);
    git(repository, &["rev-parse", "HEAD"])
}

#[test]
fn every_source_that_follows_the_version_gets_its_own_commit_or_none_is_taken() {
    let bench = Bench::new();
    let server = GitServer::start();
    let (program, data) = (server.repository("program"), server.repository("data"));
    let release = |repository: &Repository, version: &str| {
        let text = format!("{} {version}", repository.folder().file_name().unwrap().display());
        let commit = repository.commit(&text, &[("file", &text)]);
        repository.tag(&format!("v{version}"));
        commit
    };
    let (program_first, data_first) = (release(&program, "1.0"), release(&data, "1.0"));
    let step = |name: &str, commit: &str| {
        format!(
            "  - uses: git-checkout\n    with:\n      repository: {}\n      tag: v${{{{package.version}}}}\n      \
             expected-commit: {commit}\n      destination: {name}\n",
            server.url(name)
        )
    };
    let definition = format!(
        "package:\n  name: double\n  version: \"1.0\"\n  epoch: 0\n  copyright:\n    - license: Apache-2.0\nenvironment:\n  \
         contents:\n    packages: [git]\npipeline:\n{}{}  - runs: |\n      mkdir -p ${{{{targets.destdir}}}}/usr/share/double\n      \
         cp program/* ${{{{targets.destdir}}}}/usr/share/double/program\n      cp data/* \
         ${{{{targets.destdir}}}}/usr/share/double/data\nupdate:\n  enabled: true\n  git:\n    strip-prefix: v\n",
        step("program", &program_first),
        step("data", &data_first)
    );
    bench.factory.write("packages/double.yaml", &definition);
    let first = bench.run(&["cycle"]);
    assert!(bench.factory.package_index().contains_key("double 1.0-r0"), "{:#}", first.json);

    // One has released, the other has not: nothing is taken by halves.
    let program_second = release(&program, "1.1");
    let half = bench.run(&["cycle"]);
    let told = half.failure("upstream-check", "double");
    assert!(told.contains("has no tag `v1.1`") && told.contains(&server.url("data")), "{told}");
    assert!(!bench.factory.package_index().contains_key("double 1.1-r0"));

    let data_second = release(&data, "1.1");
    let proposed = bench.run(&["upstream", "update", "double"]);
    proposed.expect_code(0);
    let expected = definition
        .replace("\"1.0\"", "\"1.1\"")
        .replace(&program_first, &program_second)
        .replace(&data_first, &data_second);
    assert_eq!(proposed.json["text"], expected);
    assert_eq!(proposed.json["checksum"]["commit"], program_second);
    assert_eq!(proposed.json["further"][0]["commit"], data_second);
    let cycle = bench.run(&["cycle"]);
    assert_eq!(cycle.texts("done", "upstream-check", "double"), ["1.1 follows 1.0"]);
    assert!(bench.factory.package_index().contains_key("double 1.1-r0"), "{:#}", cycle.json);

    // A tag of either that moves later stops what would be built from it.
    program.commit("again", &[("file", "another 1.1")]);
    program.git(&["tag", "--force", "v1.1"]);
    let moved = bench.run(&["cycle"]);
    moved.expect_code(1);
    assert!(moved.failure("upstream-check", "double").contains("1.1"));
    assert!(!bench.factory.package_index().contains_key("double 1.1-r1"));
}
