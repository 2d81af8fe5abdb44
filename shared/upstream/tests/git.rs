//! Trees of git repositories as sources, from a git server of our own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step ends a test"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tests::git::GitServer;
use upstream::{
    CherryPick, EndpointSettings, Endpoints, Error, Evidence, FetchOptions, Fetched, GitCheckout, GitDepth,
    GitReference, Options, OwnTree, Surroundings, Upstreams,
};

struct Bench {
    server: GitServer,
    cache: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { server: GitServer::start(), cache: tempfile::tempdir().unwrap() }
    }

    async fn fetch(&self, checkout: &GitCheckout) -> Result<Fetched, Error> {
        self.fetch_as(checkout, self.cache.path(), false).await
    }

    async fn fetch_as(&self, checkout: &GitCheckout, cache: &Path, offline: bool) -> Result<Fetched, Error> {
        Self::upstreams(cache, offline).fetch_git(checkout).await
    }

    fn upstreams(cache: &Path, offline: bool) -> Upstreams {
        let surroundings = Surroundings {
            apt_folder: cache.join("apt"),
            debian_keyring: cache.join("none.gpg"),
            cargo_home: None,
            working_folder: cache.to_owned(),
            run_clients: false,
        };
        let endpoints = Endpoints::new(EndpointSettings::default(), surroundings);
        let fetch = FetchOptions { offline, ..FetchOptions::default() };
        Upstreams::new(endpoints, &cache.join("cache"), Options { fetch, ..Options::default() }).unwrap()
    }

    fn checkout(&self, name: &str, reference: GitReference, commit: &str) -> GitCheckout {
        GitCheckout {
            repository: self.server.url(name).parse().unwrap(),
            reference,
            commit: commit.to_owned(),
            depth: GitDepth::Commits(1),
            submodules: false,
            cherry_picks: Vec::new(),
            sparse_paths: Vec::new(),
        }
    }
}

fn tag(name: &str) -> GitReference {
    GitReference::Tag(name.to_owned())
}

/// A fetched tree, unpacked, with the index that the build's first step makes.
struct Unpacked(TempDir);

impl Unpacked {
    fn new(fetched: &Fetched) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("tar").arg("-xC").arg(folder.path()).arg("-f").arg(&fetched.path).status().unwrap();
        assert!(status.success());
        let unpacked = Self(folder);
        unpacked.git(&["reset", "--quiet"]);
        unpacked
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git").arg("-C").arg(self.0.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.path().join(path)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.0.path().join(path).exists()
    }
}

#[tokio::test]
async fn a_tagged_tree_comes_with_a_git_folder_that_builds_can_ask() {
    let bench = Bench::new();
    let repository = bench.server.repository("group/hello.git");
    repository.commit("first", &[("old", "gone later\n")]);
    std::fs::remove_file(repository.folder().join("old")).unwrap();
    std::fs::create_dir_all(repository.folder().join("bin")).unwrap();
    std::fs::write(repository.folder().join("bin/run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(repository.folder().join("bin/run"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("bin/run", repository.folder().join("link")).unwrap();
    let deep = format!("{}/file", "a-folder-with-a-long-name/".repeat(8).trim_end_matches('/'));
    let commit = repository.commit("second", &[("README", "hello\n"), (&deep, "deep\n"), ("sp ace", "x\n")]);
    repository.tag("v1.0");
    repository.commit("third", &[("later", "not in 1.0\n")]);

    let checkout = bench.checkout("group/hello.git", tag("v1.0"), &commit);
    let fetched = bench.fetch(&checkout).await.unwrap();
    assert_eq!(fetched.file_name, format!("hello-{commit}.tar"));
    assert_eq!(fetched.newest_mtime().unwrap(), 1_700_000_000);
    let Evidence::Git { reference, tag_object, commit: proved, tree, sha256, .. } = &fetched.evidence else {
        panic!("{:?}", fetched.evidence)
    };
    assert_eq!((reference.as_str(), proved, sha256), ("tag `v1.0`", &commit, &fetched.sha256));
    assert_eq!(tree, &repository.git(&["rev-parse", "v1.0^{tree}"]));
    assert_eq!(tag_object.as_ref(), Some(&repository.git(&["rev-parse", "refs/tags/v1.0"])));

    let unpacked = Unpacked::new(&fetched);
    assert_eq!(unpacked.read("README"), "hello\n");
    assert_eq!(unpacked.read(&deep), "deep\n");
    assert!(!unpacked.has("later") && !unpacked.has("old"));
    assert_eq!(unpacked.git(&["rev-parse", "HEAD"]), commit);
    assert_eq!(unpacked.git(&["describe", "--tags", "--dirty"]), "v1.0");
    assert_eq!(unpacked.git(&["status", "--porcelain"]), "");
    assert_eq!(unpacked.git(&["log", "--format=%s"]), "second");
    assert_eq!(unpacked.git(&["show", "HEAD:README"]), "hello");
    unpacked.git(&["fsck", "--strict"]);
    assert_eq!(std::fs::read_link(unpacked.0.path().join("link")).unwrap(), Path::new("bin/run"));
    let mode = std::fs::metadata(unpacked.0.path().join("bin/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    // A build may commit, as `git am` does.
    std::fs::write(unpacked.0.path().join("README"), "patched\n").unwrap();
    unpacked.git(&["commit", "--quiet", "--all", "--message", "patch"]);

    // Another factory gets the same bytes; this one does not ask again, and needs no network.
    let other = tempfile::tempdir().unwrap();
    assert_eq!(bench.fetch_as(&checkout, other.path(), false).await.unwrap().sha256, fetched.sha256);
    let asked = bench.server.asked();
    let again = bench.fetch_as(&checkout, bench.cache.path(), true).await.unwrap();
    assert_eq!((again.sha256, again.evidence), (fetched.sha256, fetched.evidence));
    assert_eq!(bench.server.asked(), asked);
    let scratch = std::fs::read_dir(bench.cache.path().join("cache/git")).unwrap();
    assert_eq!(scratch.count(), 0);
}

#[tokio::test]
async fn a_moved_tag_is_told_with_both_commits() {
    let bench = Bench::new();
    let repository = bench.server.repository("a");
    let one = repository.commit("one", &[("a", "1")]);
    repository.tag("v1");
    let two = repository.commit("two", &[("a", "2")]);
    repository.tag("v1");
    let error = bench.fetch(&bench.checkout("a", tag("v1"), &one)).await.unwrap_err();
    let Error::GitCommit { expected, found, .. } = &error else { panic!("{error}") };
    assert_eq!((expected, found), (&one, &two));
    let message = error.to_string();
    assert!(message.contains("tag `v1` is at commit") && message.contains("the tag was moved"), "{message}");
    assert_eq!(std::fs::read_dir(bench.cache.path().join("cache/git")).unwrap().count(), 0);

    let error = bench.fetch(&bench.checkout("a", tag("v2"), &two)).await.unwrap_err();
    assert!(matches!(&error, Error::GitTree { reason, .. } if reason.contains("refs/tags/v2")), "{error}");
    let error = bench.fetch(&bench.checkout("none", tag("v2"), &two)).await.unwrap_err();
    assert!(matches!(&error, Error::Git { .. }), "{error}");
}

#[tokio::test]
async fn a_branch_must_hold_the_commit_and_tells_its_history() {
    let bench = Bench::new();
    let repository = bench.server.repository("a");
    repository.commit("one", &[("a", "1"), ("b", "1")]);
    repository.tag("v1");
    let two = repository.commit("two", &[("a", "2")]);
    let three = repository.commit("three", &[("a", "3")]);
    repository.git(&["checkout", "--quiet", "-b", "other", "v1"]);
    let elsewhere = repository.commit("elsewhere", &[("a", "4")]);

    let branch = || GitReference::Branch("main".to_owned());
    let mut checkout = bench.checkout("a", branch(), &two);
    checkout.depth = GitDepth::Everything;
    let unpacked = Unpacked::new(&bench.fetch(&checkout).await.unwrap());
    assert_eq!(unpacked.read("a"), "2");
    assert_eq!(unpacked.git(&["describe", "--tags"]), format!("v1-1-g{}", &two[..7]));
    assert_eq!(unpacked.git(&["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(unpacked.git(&["branch", "--show-current"]), "main");
    assert_eq!(unpacked.git(&["status", "--porcelain"]), "");

    // One commit deep, an older one is still found.
    let unpacked = Unpacked::new(&bench.fetch(&bench.checkout("a", branch(), &two)).await.unwrap());
    assert_eq!(unpacked.git(&["rev-list", "--count", "HEAD"]), "1");
    assert_eq!(unpacked.read("a"), "2");

    let error = bench.fetch(&bench.checkout("a", branch(), &elsewhere)).await.unwrap_err();
    assert!(matches!(&error, Error::GitCommit { found, .. } if *found == three), "{error}");
    let tip = GitReference::BranchTip("main".to_owned());
    let error = bench.fetch(&bench.checkout("a", tip.clone(), &two)).await.unwrap_err();
    assert!(error.to_string().contains("the branch has gone on"), "{error}");
    bench.fetch(&bench.checkout("a", tip, &three)).await.unwrap();
    let unpacked = Unpacked::new(&bench.fetch(&bench.checkout("a", GitReference::Any, &elsewhere)).await.unwrap());
    assert_eq!(unpacked.read("a"), "4");
    let error = bench.fetch(&bench.checkout("a", GitReference::Any, &"1".repeat(40))).await.unwrap_err();
    assert!(matches!(&error, Error::GitTree { .. }), "{error}");
}

#[tokio::test]
async fn submodules_come_at_the_commits_that_the_tree_names() {
    let bench = Bench::new();
    let inner = bench.server.repository("group/inner");
    inner.commit("inner", &[("deep.txt", "deepest\n")]);
    let library = bench.server.repository("group/library");
    library.commit("library", &[("library.c", "int x;\n")]);
    library.git(&["submodule", "--quiet", "add", &bench.server.url("group/inner"), "vendor/inner"]);
    let pinned = library.commit("with inner", &[]);
    let program = bench.server.repository("group/program");
    program.git(&["submodule", "--quiet", "add", &bench.server.url("group/library"), "libs/library"]);
    program.git(&["config", "--file", ".gitmodules", "submodule.libs/library.url", "../library"]);
    let commit = program.commit("program", &[("main.c", "int main;\n")]);
    program.git(&["tag", "v1"]);
    library.commit("later", &[("library.c", "changed\n")]);

    let mut checkout = bench.checkout("group/program", tag("v1"), &commit);
    let without = bench.fetch(&checkout).await.unwrap();
    let unpacked = Unpacked::new(&without);
    assert!(unpacked.has("libs/library") && !unpacked.has("libs/library/library.c"));

    checkout.submodules = true;
    let fetched = bench.fetch(&checkout).await.unwrap();
    assert_ne!(fetched.sha256, without.sha256);
    let unpacked = Unpacked::new(&fetched);
    assert_eq!(unpacked.read("libs/library/library.c"), "int x;\n");
    assert_eq!(unpacked.read("libs/library/vendor/inner/deep.txt"), "deepest\n");
    let Evidence::Git { submodules, .. } = &fetched.evidence else { panic!() };
    assert_eq!(submodules.len(), 2);
    assert_eq!(submodules[0], format!("libs/library {} {pinned}", bench.server.url("group/library")));
    unpacked.git(&["submodule", "--quiet", "foreach", "--recursive", "git reset --quiet"]);
    // What builds say although it is all there already: it asks nobody.
    let asked = bench.server.asked();
    unpacked.git(&["submodule", "update", "--init", "--recursive"]);
    assert_eq!(bench.server.asked(), asked);
    assert_eq!(unpacked.git(&["-C", "libs/library", "rev-parse", "HEAD"]), pinned);
    assert_eq!(unpacked.git(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_submodule_of_a_helper_or_a_local_folder_is_refused() {
    let bench = Bench::new();
    let repository = bench.server.repository("a");
    let other = bench.server.repository("b");
    other.commit("b", &[("b", "")]);
    repository.git(&["submodule", "--quiet", "add", &bench.server.url("b"), "b"]);
    for url in ["ext::sh -c touch% /tmp/x", &format!("file://{}", other.folder().display()), "../../../etc"] {
        repository.git(&["config", "--file", ".gitmodules", "submodule.b.url", url]);
        let commit = repository.commit("evil", &[]);
        let mut checkout = bench.checkout("a", GitReference::Any, &commit);
        checkout.submodules = true;
        let error = bench.fetch(&checkout).await.unwrap_err().to_string();
        assert!(
            error.contains("not allowed") || error.contains("is not a source") || error.contains("failed"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn cherry_picks_are_applied_in_order_and_always_the_same() {
    let bench = Bench::new();
    let repository = bench.server.repository("a");
    repository.commit("zero", &[("a", "0\n")]);
    let base = repository.commit("one", &[("a", "1\n"), ("b", "1\n2\n3\n4\n5\n")]);
    repository.tag("v1");
    let first = repository.commit("fix b", &[("b", "1\n2\n3\n4\nfive\n")]);
    let conflicting = repository.commit("rewrite", &[("a", "2\n"), ("b", "nothing\n")]);
    repository.git(&["checkout", "--quiet", "-b", "release/1.x", "v1"]);
    let second = repository.commit("add c", &[("c", "c\n")]);

    let mut checkout = bench.checkout("a", tag("v1"), &base);
    let picks = format!("main/{first}: fixes b\n\n# and\nrelease/1.x/{second}: adds c\n");
    checkout.cherry_picks = CherryPick::parse_all(&picks).unwrap();
    let fetched = bench.fetch(&checkout).await.unwrap();
    let unpacked = Unpacked::new(&fetched);
    assert_eq!(unpacked.read("b"), "1\n2\n3\n4\nfive\n");
    assert_eq!(unpacked.read("c"), "c\n");
    assert_eq!(unpacked.git(&["log", "--format=%s"]), "add c\nfix b\none");
    assert_eq!(unpacked.git(&["describe", "--tags"]).split('-').next(), Some("v1"));
    assert_eq!(unpacked.git(&["status", "--porcelain"]), "");
    let other = tempfile::tempdir().unwrap();
    assert_eq!(bench.fetch_as(&checkout, other.path(), false).await.unwrap().sha256, fetched.sha256);

    checkout.cherry_picks = CherryPick::parse_all(&format!("main/{second}: of another branch")).unwrap();
    let error = bench.fetch(&checkout).await.unwrap_err();
    assert!(error.to_string().contains("branch `main` does not hold the cherry-pick"), "{error}");
    checkout.cherry_picks = CherryPick::parse_all(&format!("{conflicting}: does not fit")).unwrap();
    let error = bench.fetch(&checkout).await.unwrap_err();
    assert!(matches!(&error, Error::GitTree { reason, .. } if reason.contains("does not apply")), "{error}");
}

#[tokio::test]
async fn sparse_paths_leave_the_rest_out() {
    let bench = Bench::new();
    let repository = bench.server.repository("mono");
    let files = ["README", "shared/README", "shared/lib/a", "shared/other/b", "tool/x/y", "rest/z"];
    let files: Vec<(&str, &str)> = files.iter().map(|name| (*name, *name)).collect();
    let commit = repository.commit("all", &files);
    let mut checkout = bench.checkout("mono", GitReference::Branch("main".to_owned()), &commit);
    checkout.sparse_paths = vec!["shared/lib".to_owned(), "tool".to_owned()];
    let unpacked = Unpacked::new(&bench.fetch(&checkout).await.unwrap());
    let there: BTreeMap<&str, bool> = files.iter().map(|(name, _)| (*name, unpacked.has(name))).collect();
    let expected = [("README", true), ("rest/z", false), ("shared/README", true), ("shared/lib/a", true)];
    assert_eq!(there, expected.into_iter().chain([("shared/other/b", false), ("tool/x/y", true)]).collect());
    assert_eq!(unpacked.git(&["describe", "--always", "--dirty"]), commit[..7]);
    checkout.sparse_paths = vec!["../x".to_owned()];
    assert!(matches!(bench.fetch(&checkout).await.unwrap_err(), Error::Source { .. }));
}

#[tokio::test]
async fn what_is_no_commit_or_no_server_is_refused_before_anyone_is_asked() {
    let bench = Bench::new();
    let repository = bench.server.repository("a");
    let commit = repository.commit("one", &[("a", "1")]);
    for (reference, commit) in [
        (tag("v1"), "abc"),
        (tag("v1"), &"1".repeat(64)),
        (tag("+v1:refs/heads/x"), &commit),
        (GitReference::Branch("--upload-pack=x".to_owned()), &commit),
    ] {
        let error = bench.fetch(&bench.checkout("a", reference, commit)).await.unwrap_err();
        assert!(matches!(error, Error::Source { .. }), "{error}");
    }
    let mut checkout = bench.checkout("a", GitReference::Any, &commit);
    let offline = bench.fetch_as(&checkout, bench.cache.path(), true).await.unwrap_err();
    assert!(matches!(offline, Error::Offline { .. }), "{offline}");
    checkout.repository = format!("file://{}", repository.folder().display()).parse().unwrap();
    let error = bench.fetch(&checkout).await.unwrap_err();
    assert!(error.to_string().contains("local folder"), "{error}");
    assert_eq!(bench.server.asked(), 0);
}

#[tokio::test]
async fn a_folder_of_the_own_repository_is_taken_without_a_network() {
    let bench = Bench::new();
    let repository = bench.server.repository("definitions");
    let first = repository.commit("first", &[("tools/greet/main.c", "one\n"), ("packages/greet.yaml", "a\n")]);
    let packages = repository.folder().join("packages");
    let upstreams = Bench::upstreams(bench.cache.path(), true);
    let own = OwnTree::find(&packages, None, "/tools/greet/").unwrap();
    assert_eq!(
        (own.commit(), own.tree()),
        (first.as_str(), repository.git(&["rev-parse", "HEAD:tools/greet"]).as_str())
    );
    let taken = upstreams.take_own_tree(&own).await.unwrap();
    assert_eq!(Unpacked::new(&taken).read("tools/greet/main.c"), "one\n");
    let Evidence::Git { repository: told, commit, .. } = &taken.evidence else { panic!("{:?}", taken.evidence) };
    assert_eq!((told.as_str(), commit), ("the definition's own repository", &first));

    // Another commit without a change of the folder gives the same tree; what is not committed nothing.
    let second = repository.commit("second", &[("README", "more\n")]);
    std::fs::write(repository.folder().join("tools/greet/main.c"), "uncommitted\n").unwrap();
    let later = OwnTree::find(&packages, None, "tools/greet").unwrap();
    assert_eq!((later.commit(), later.tree()), (second.as_str(), own.tree()));
    repository.tag("v1");
    let third = repository.commit("third", &[("tools/greet/main.c", "three\n")]);
    let newest = OwnTree::find(&packages, None, "tools/greet").unwrap();
    assert_eq!(newest.commit(), third);
    assert_eq!(OwnTree::find(&packages, Some("v1"), "tools/greet").unwrap().commit(), second);
    let old = OwnTree::find(&packages, Some(&first), "tools/greet").unwrap();
    assert_eq!(upstreams.take_own_tree(&old).await.unwrap().sha256, taken.sha256);

    for (reference, path, problem) in [
        (None, "tools/none", "has no folder `tools/none`"),
        (None, "README", "is a file"),
        (Some("v2"), "tools/greet", "has no commit `v2`"),
        (Some("--all"), "tools/greet", "a branch, a tag or a commit"),
        (None, "../etc", "must be a folder"),
    ] {
        let error = OwnTree::find(&packages, reference, path).unwrap_err().to_string();
        assert!(error.contains(problem), "{path}: {error}");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    assert!(OwnTree::find(elsewhere.path(), None, "x").unwrap_err().to_string().contains("no git repository"));
    // A definition can't name a folder of the machine itself.
    let mut checkout = bench.checkout("definitions", GitReference::Any, &first);
    checkout.repository = format!("file://{}", repository.folder().display()).parse().unwrap();
    assert!(bench.fetch(&checkout).await.unwrap_err().to_string().contains("local folder"));
}
