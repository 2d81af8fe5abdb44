//! Signed tags of git sources, by OpenPGP and SSH keys, in builds and before the watch takes one.

use std::path::Path;

use serde_json::{Value, json};
use tests::factory::Factory;
use tests::git::{GitServer, Repository};
use tests::tools::{Gpg, run};

use crate::MILL;

/// How a tag is made.
#[derive(Clone, Copy, Debug)]
enum Tag<'a> {
    Signed(&'a [&'a str]),
    Annotated,
    Lightweight,
}

struct Bench {
    factory: Factory,
    server: GitServer,
    repository: Repository,
}

impl Bench {
    /// A repository with the tag `v1.0`, and a factory with a definition of it.
    fn new(policy: &str, proof: &str, tag: Tag) -> Self {
        let (factory, server) = (Factory::new(MILL), GitServer::start());
        for unused in ["packages/hello.yaml", "packages/greeting-data.yaml"] {
            std::fs::remove_file(factory.catalog().join(unused)).unwrap();
        }
        std::fs::remove_dir_all(factory.catalog().join("images/hello")).unwrap();
        let repository = server.repository("tool");
        let bench = Self { factory, server, repository };
        let commit = bench.release("1.0", tag);
        bench.factory.write(
            "packages/tool.yaml",
            &format!(
                "package:\n  name: tool\n  version: 1.0\n  epoch: 0\n  description: a tool\n  copyright:\n    - license: \
                 Apache-2.0\npipeline:\n  - uses: git-checkout\n    with:\n      repository: {}\n      tag: \
                 v${{{{package.version}}}}\n      expected-commit: {commit}\n  - runs: install -D -m 0644 README \
                 ${{{{targets.destdir}}}}/usr/share/tool/README\nupdate:\n  enabled: true\n  git:\n    strip-prefix: v\n",
                bench.server.url("tool")
            ),
        );
        bench.factory.write("authenticity/tool.yaml", &format!("policy: {policy}\nproofs:\n  - git-tag: {proof}\n"));
        bench
    }

    /// Commits a version and tags it; the commit.
    fn release(&self, version: &str, tag: Tag) -> String {
        let commit = self.repository.commit(version, &[("README", version)]);
        self.tag(&format!("v{version}"), tag);
        commit
    }

    fn tag(&self, name: &str, tag: Tag) {
        match tag {
            Tag::Signed(configuration) => {
                let tag = ["tag", "--force", "--sign", "--message", "release", name];
                self.repository.git(&[configuration, &tag[..]].concat());
            }
            Tag::Annotated => self.repository.tag(name),
            Tag::Lightweight => {
                self.repository.git(&["tag", "--force", name]);
            }
        }
    }

    fn published(&self) -> Vec<String> {
        self.factory.package_index().into_keys().collect()
    }

    fn newer(&self) -> Option<Value> {
        self.factory.documents("package#tool", "upstream").into_iter().next().map(|(_, document)| document)
    }

    /// The proof that the published build of a version gives in its provenance.
    fn proof(&self, version: &str) -> Value {
        let shown = self.factory.run(&["package", "show", "tool"]);
        let versions = shown.json["versions"].as_array().unwrap();
        let one = versions.iter().find(|one| one["version"] == version).unwrap_or_else(|| panic!("{:#}", shown.json));
        one["sources"][0]["authenticity"]["proofs"][0].clone()
    }
}

/// Two makers' git configuration, with the policy's proof that pins the first.
struct Makers {
    _gpg: Option<(Gpg, Gpg)>,
    _folder: Option<tempfile::TempDir>,
    proof: &'static str,
    key_file: &'static str,
    key: Vec<u8>,
    pinned: Vec<String>,
    other: Vec<String>,
    /// What messages call the other's key by.
    other_name: String,
}

fn openpgp() -> Option<Makers> {
    let (gpg, other) = (Gpg::new("up@example.org", "ed25519")?, Gpg::new("other@example.org", "ed25519")?);
    let configuration = |gpg: &Gpg, user: &str| {
        // gpg's home is not the caller's, and git passes no option to it.
        let program = gpg.folder().join("gpg");
        let script = format!("#!/bin/sh\nexec gpg --homedir '{}' \"$@\"\n", gpg.folder().join("gnupg").display());
        std::fs::write(&program, script).unwrap();
        run(gpg.folder(), "chmod", &["+x", "gpg"], b"").unwrap();
        let program = format!("gpg.program={}", program.display());
        ["-c".to_owned(), program, "-c".to_owned(), format!("user.signingkey={user}")].to_vec()
    };
    Some(Makers {
        proof: "{keys: up.asc}",
        key_file: "up.asc",
        key: gpg.public_key("up@example.org"),
        pinned: configuration(&gpg, "up@example.org"),
        other: configuration(&other, "other@example.org"),
        other_name: other.fingerprint("other@example.org"),
        _gpg: Some((gpg, other)),
        _folder: None,
    })
}

fn ssh() -> Option<Makers> {
    let folder = tempfile::tempdir().unwrap();
    let generate = |name: &str| run(folder.path(), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name], b"");
    generate("key")?;
    generate("other")?;
    let configuration = |name: &str| {
        let key = format!("user.signingkey={}", folder.path().join(name).display());
        ["-c".to_owned(), "gpg.format=ssh".to_owned(), "-c".to_owned(), key].to_vec()
    };
    let fingerprint = run(folder.path(), "ssh-keygen", &["-l", "-f", "other.pub"], b"").unwrap();
    let fingerprint = String::from_utf8(fingerprint).unwrap().split(' ').nth(1).unwrap().to_owned();
    Some(Makers {
        proof: "{ssh-signers: allowed_signers}",
        key_file: "allowed_signers",
        key: [b"up@example.org ".to_vec(), std::fs::read(folder.path().join("key.pub")).unwrap()].concat(),
        pinned: configuration("key"),
        other: configuration("other"),
        other_name: fingerprint,
        _gpg: None,
        _folder: Some(folder),
    })
}

fn words(configuration: &[String]) -> Vec<&str> {
    configuration.iter().map(String::as_str).collect()
}

fn pin(bench: &Bench, makers: &Makers) {
    let text = String::from_utf8(makers.key.clone()).unwrap();
    bench.factory.write(&format!("authenticity/keys/{}", makers.key_file), &text);
}

#[test]
fn a_signed_tag_is_proved_in_the_build_and_before_the_watch_takes_the_next() {
    for makers in [openpgp(), ssh()].into_iter().flatten() {
        let (pinned, other) = (words(&makers.pinned), words(&makers.other));
        let (signed, foreign) = (Tag::Signed(&pinned), Tag::Signed(&other));
        let bench = Bench::new("required", makers.proof, signed);
        pin(&bench, &makers);
        bench.factory.cycle().expect_code(0);
        assert_eq!(bench.published(), ["tool 1.0-r0"]);
        let proof = bench.proof("1.0-r0");
        assert_eq!((&proof["result"], &proof["evidence"]["tag"]), (&json!("holds"), &json!("v1.0")), "{proof:#}");

        for (tag, reason) in [
            (Tag::Lightweight, "tag `v1.1` is a lightweight one"),
            (Tag::Annotated, "is not signed"),
            (foreign, makers.other_name.as_str()),
        ] {
            bench.release("1.1", tag);
            // A tag that moves is an alarm of its own; here each is asked about for the first time.
            let moved = bench.factory.run(&["upstream", "check", "tool"]);
            if moved.code == Some(1) {
                bench.factory.run(&["upstream", "accept", "tool", "1.1"]).expect_code(0);
            }
            let cycle = bench.factory.cycle();
            cycle.expect_code(1);
            let failure = cycle.failure("upstream-check", "tool");
            assert!(failure.contains("1.1 is not authentic") && failure.contains(reason), "{tag:?}: {failure}");
            assert_eq!((bench.published(), bench.newer()), (vec!["tool 1.0-r0".to_owned()], None));
        }

        let commit = bench.release("1.2", signed);
        bench.factory.cycle().expect_code(0);
        assert_eq!(bench.published(), ["tool 1.0-r0", "tool 1.2-r0"]);
        let newer = bench.newer().unwrap();
        assert_eq!((&newer["basis"], &newer["commit"]), (&json!("proved"), &json!(commit)), "{newer:#}");
        assert_eq!(bench.proof("1.2-r0")["evidence"]["commit"], commit);

        // The signed tag of 1.2 under another name, on the commit that it signs.
        let object = bench.repository.git(&["rev-parse", "v1.2"]);
        bench.repository.git(&["update-ref", "refs/tags/v1.3", &object]);
        let cycle = bench.factory.cycle();
        let failure = cycle.failure("upstream-check", "tool");
        assert!(failure.contains("tag is `v1.2`, expected `v1.3`"), "{failure}");
        assert_eq!(bench.published(), ["tool 1.0-r0", "tool 1.2-r0"]);
    }
}

#[test]
fn a_build_refuses_tags_that_nobody_pinned_has_signed() {
    let Some(makers) = ssh() else { return };
    let other = words(&makers.other);
    for (tag, reason) in [
        (Tag::Lightweight, "tag `v1.0` is a lightweight one"),
        (Tag::Annotated, "is not signed"),
        (Tag::Signed(&other), makers.other_name.as_str()),
    ] {
        let bench = Bench::new("required", makers.proof, tag);
        pin(&bench, &makers);
        let answer = bench.factory.run(&["package", "build", "tool"]);
        answer.expect_code(1);
        let failure = answer.json["failed"][0]["text"].as_str().unwrap().to_owned();
        assert!(failure.contains(reason) && failure.contains("tool.yaml:"), "{tag:?}: {failure}");
        assert_eq!(bench.published(), Vec::<String>::new());
        assert_eq!(bench.factory.documents("package#tool", "refused#").len(), 1);
    }

    // Preferred: no signature does, a wrong one does not.
    let bench = Bench::new("preferred", makers.proof, Tag::Annotated);
    pin(&bench, &makers);
    bench.factory.run(&["package", "build", "tool"]).expect_code(0);
    assert_eq!(bench.proof("1.0-r0")["result"], "absent");
    let bench = Bench::new("preferred", makers.proof, Tag::Signed(&other));
    pin(&bench, &makers);
    bench.factory.run(&["package", "build", "tool"]).expect_code(1);

    // A tag that was moved, however it is signed.
    let pinned = words(&makers.pinned);
    let bench = Bench::new("required", makers.proof, Tag::Signed(&pinned));
    pin(&bench, &makers);
    bench.repository.commit("other", &[("README", "other")]);
    bench.tag("v1.0", Tag::Signed(&pinned));
    let answer = bench.factory.run(&["package", "build", "tool"]);
    answer.expect_code(1);
    let failure = answer.json["failed"][0]["text"].as_str().unwrap();
    assert!(failure.contains("the tag was moved"), "{failure}");
}

#[test]
fn a_commit_of_a_branch_is_proved_by_its_own_signature() {
    let Some(makers) = ssh() else { return };
    let bench = Bench::new("required", makers.proof, Tag::Lightweight);
    pin(&bench, &makers);
    let definition = |commit: &str| {
        let file = Path::new("packages/tool.yaml");
        let text = std::fs::read_to_string(bench.factory.catalog().join(file)).unwrap();
        let line = text.lines().find(|line| line.contains("expected-commit")).unwrap().to_owned();
        let text = text.replace(&line, &format!("      expected-commit: {commit}"));
        let text =
            text.replace("tag: v${{package.version}}", "branch: main").replace("enabled: true", "enabled: false");
        bench.factory.write(file.to_str().unwrap(), &text);
    };
    for (maker, code) in [(&makers.other, 1), (&makers.pinned, 0)] {
        std::fs::write(bench.repository.folder().join("README"), format!("{code}\n")).unwrap();
        let commit = ["commit", "--quiet", "--all", "--gpg-sign", "--message", "signed"];
        bench.repository.git(&[&words(maker), &commit[..]].concat());
        definition(&bench.repository.git(&["rev-parse", "HEAD"]));
        bench.factory.run(&["package", "build", "tool"]).expect_code(code);
    }
    let proof = bench.proof("1.0-r1");
    assert_eq!(proof["evidence"]["object"], "commit", "{proof:#}");
}
