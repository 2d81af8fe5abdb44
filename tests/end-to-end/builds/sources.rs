//! Sources: git trees by commit, files by SHA-512, and those that are refused.

use serde_json::Value;
use sha2::{Digest, Sha512};
use tests::factory::{Factory, source_archive};
use tests::git::GitServer;

use crate::MILL;
use crate::package::Package;

fn definition(name: &str, with: &[(&str, &str)], script: &str) -> String {
    let with: String = with.iter().map(|(key, value)| format!("      {key}: {value}\n")).collect();
    format!(
        "package:\n  name: {name}\n  version: 1.0\n  epoch: 0\n  description: a test\n  copyright:\n    - license: MIT\n\
         pipeline:\n  - uses: git-checkout\n    with:\n{with}  - runs: |\n      {}\nupdate:\n  enabled: false\n",
        script.replace('\n', "\n      ")
    )
}

/// Writes what a build sees of its checkout into a package.
const LOOK: &str = "out=\"${{targets.destdir}}/usr/share/look\"\nmkdir -p \"$(dirname \"$out\")\"\n\
                    { cat README; git describe --tags --dirty; git status --porcelain; git rev-parse HEAD; \
                    echo $SOURCE_DATE_EPOCH; } > \"$out\"";

#[test]
fn a_git_checkout_is_built_from_its_commit_with_evidence() {
    let factory = Factory::new(MILL);
    let server = GitServer::start();
    let repository = server.repository("look");
    let commit = repository.commit("one", &[("README", "from git\n")]);
    repository.tag("v1.0");
    let url = server.url("look");
    let with = [("repository", url.as_str()), ("tag", "v${{package.version}}"), ("expected-commit", &commit)];
    factory.write("packages/look.yaml", &definition("look", &with, LOOK));

    let cycle = factory.cycle();
    cycle.expect_code(0);
    let expected = format!("from git\nv1.0\n{commit}\n1700000000\n");
    assert_eq!(Package::read(&factory.home(), "look-1.0-r0").text("usr/share/look"), expected);

    let sbom: Value = serde_json::from_str(
        &Package::read(&factory.home(), "look-1.0-r0").text("var/lib/db/sbom/look-1.0-r0.spdx.json"),
    )
    .unwrap();
    let source =
        sbom["packages"].as_array().unwrap().iter().find(|package| package["primaryPackagePurpose"] == "SOURCE");
    let source = source.unwrap();
    assert_eq!(source["downloadLocation"], format!("git+{url}@{commit}"));
    assert!(
        source["externalRefs"][0]["referenceLocator"].as_str().unwrap().starts_with("pkg:generic/look@v1.0?vcs_url=")
    );
    assert!(factory.holds_blob(&format!("\"expected\":\"git:{commit}\"")), "the build's result names the commit");

    // The tag is moved: what is built stays, and a build of the same version is refused.
    repository.commit("two", &[("README", "other\n")]);
    repository.tag("v1.0");
    let moved = repository.git(&["rev-parse", "HEAD"]);
    factory.write("packages/again.yaml", &definition("again", &with, &format!("# another\n{LOOK}")));
    std::fs::remove_dir_all(factory.home().join("cache")).unwrap();
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "again");
    for part in [&commit, &moved, "again.yaml:9:", "the tag was moved"] {
        assert!(failure.contains(part), "{failure}");
    }
    assert!(factory.package_index().keys().any(|name| name == "look 1.0-r0"));
}

#[test]
fn branches_picks_submodules_and_sparse_paths_are_built() {
    let factory = Factory::new(MILL);
    let server = GitServer::start();
    let library = server.repository("library");
    library.commit("library", &[("lib.h", "#define X\n")]);
    let repository = server.repository("program");
    repository.git(&["submodule", "--quiet", "add", &server.url("library"), "lib"]);
    let old = repository.commit("one", &[("README", "one\n"), ("tools/x", "x\n"), ("docs/y", "y\n")]);
    repository.git(&["tag", "v1"]);
    let fix = repository.commit("fix", &[("fix", "fixed\n")]);
    let url = server.url("program");
    let picks = format!("|\n        main/{fix}: a fix");
    let with = [
        ("repository", url.as_str()),
        ("branch", "main"),
        ("expected-commit", &old),
        ("recurse-submodules", "true"),
        ("cherry-picks", &picks),
    ];
    let look = format!("test -f fix && test -f lib/lib.h && git -C lib rev-parse HEAD\n{LOOK}");
    factory.write("packages/picked.yaml", &definition("picked", &with, &look));
    let with = [
        ("repository", url.as_str()),
        ("tag", "v1"),
        ("expected-commit", &old),
        ("destination", "src"),
        ("sparse-paths", "tools"),
        ("depth", "-1"),
        ("type-hint", "gitlab"),
        ("max-retries", "3"),
    ];
    let look = format!("cd src\ntest -f tools/x && ! test -e docs\n{LOOK}");
    factory.write("packages/sparse.yaml", &definition("sparse", &with, &look));
    let cycle = factory.cycle();
    cycle.expect_code(0);
    let picked = Package::read(&factory.home(), "picked-1.0-r0").text("usr/share/look");
    assert!(picked.starts_with("one\nv1-1-g") && !picked.contains("dirty"), "{picked}");
    assert_eq!(
        Package::read(&factory.home(), "sparse-1.0-r0").text("usr/share/look"),
        format!("one\nv1\n{old}\n1700000000\n")
    );
}

#[test]
fn a_sha512_proves_a_source_and_nothing_at_all_does_not() {
    let factory = Factory::new(MILL);
    let digest = hex::encode(Sha512::digest(source_archive("hello-mill", "1.0.0")));
    let text = std::fs::read_to_string(factory.catalog().join("packages/hello.yaml")).unwrap();
    let line = text.lines().find(|line| line.contains("expected-sha256")).unwrap().to_owned();
    factory.edit("packages/hello.yaml", &line, &format!("      expected-sha512: {digest}"));
    factory.cycle().expect_code(0);
    assert!(factory.holds_blob(&format!("\"expected\":\"sha512:{digest}\"")));

    factory.edit("packages/hello.yaml", &digest, &"0".repeat(128));
    let cycle = factory.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("package-build", "hello");
    assert!(failure.contains("sha512 mismatch") && failure.contains(&digest), "{failure}");

    factory.edit("packages/hello.yaml", &format!("expected-sha512: {}", "0".repeat(128)), "expected-none: it is small");
    let failure = factory.cycle().failure("package-build", "hello");
    assert!(failure.contains("has no `expected-sha256` or `expected-sha512`"), "{failure}");
    assert!(failure.contains("hello.yaml:"), "{failure}");
}
