//! Every kind of proof, through builds: what holds is built and stands in the provenance; what is
//! altered, made by another, or missing where it is required is refused, told and kept.
//!
//! All cases of a test are packages of one factory, which runs one cycle.

mod ecosystems;
mod signatures;
mod table;

use std::fs;

use serde_json::json;
use tests::archive::{ArchiveKey, sha256_hex};
use tests::git::GitServer;
use tests::tools::run;

use self::table::{Case, Outcome, Table, fetch};
use crate::plain::source;

#[test]
fn what_a_definition_states_of_its_source() {
    let mut table = Table::new();
    let (bytes, other) = (source("1.0"), source("9.9"));
    let file = table.put("stated", "source-1.0.tar.gz", &bytes);
    let altered = table.put("altered", "source-1.0.tar.gz", &other);
    let (sha256, sha512) = (sha256_hex(&bytes), table::sha512_hex(&bytes));
    for (algorithm, digest) in [("sha256", &sha256), ("sha512", &sha512)] {
        let kind = format!("expected-{algorithm}");
        table.add(Case {
            name: format!("{algorithm}-good"),
            source: fetch(&file, algorithm, digest),
            policy: None,
            outcome: Outcome::Taken { kind: kind.clone(), holds: vec![("digest", json!(digest))] },
        });
        table.add(Case {
            name: format!("{algorithm}-altered"),
            source: fetch(&altered, algorithm, digest),
            policy: None,
            outcome: Outcome::Refused { kind, reason: "mismatch".to_owned(), kept: vec![other.clone()] },
        });
    }

    let server = GitServer::start();
    let repository = server.repository("tool");
    let commit = repository.commit("first", &[("README", "first")]);
    repository.tag("v1.0");
    let later = repository.commit("second", &[("README", "second")]);
    repository.tag("v2.0");
    for (tag, outcome) in [
        ("v1.0", Outcome::Taken { kind: "expected-commit".to_owned(), holds: vec![("digest", json!(commit))] }),
        ("v2.0", Outcome::Refused { kind: "expected-commit".to_owned(), reason: later.clone(), kept: Vec::new() }),
    ] {
        let name = format!("commit-{}", tag.replace('.', "-"));
        let source = table::checkout(&server.url("tool"), tag, &commit);
        table.add(Case { name, source, policy: None, outcome });
    }
    table.check();
}

#[test]
fn signatures_of_upstream() {
    let mut table = Table::new();
    let folder = tempfile::tempdir().unwrap();
    for kind in signatures::all(&table, folder.path()) {
        kind.add(&mut table);
    }
    table.check();
}

#[test]
fn signed_git_tags() {
    let mut table = Table::new();
    let folder = tempfile::tempdir().unwrap();
    let generate = |name: &str| {
        run(folder.path(), "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name], b"")?;
        fs::read_to_string(folder.path().join(format!("{name}.pub"))).ok()
    };
    let (Some(key), Some(other)) = (generate("key"), generate("other")) else { return };
    table.key("pinned", &format!("up@example.org {key}"));
    table.key("other", &format!("up@example.org {other}"));
    let server = GitServer::start();
    let repository = server.repository("tool");
    let commit = repository.commit("first", &[("README", "first")]);
    let signing = format!("user.signingkey={}", folder.path().join("key").display());
    repository.git(&["-c", "gpg.format=ssh", "-c", &signing, "tag", "--sign", "--message", "release", "signed"]);
    repository.tag("annotated");
    repository.git(&["tag", "lightweight"]);
    let refused = |reason: &str, kept| Outcome::Refused { kind: "git-tag".to_owned(), reason: reason.to_owned(), kept };
    let object = |tag: &str| format!("{}\n", repository.git(&["cat-file", "tag", tag])).into_bytes();
    let unproved = Outcome::Unproved { kind: "git-tag".to_owned(), reason: "lightweight".to_owned() };
    for (name, tag, policy, key, outcome) in [
        (
            "good",
            "signed",
            "required",
            "pinned",
            Outcome::Taken {
                kind: "git-tag".to_owned(),
                holds: vec![("tag", json!("signed")), ("commit", json!(commit))],
            },
        ),
        ("foreign", "signed", "preferred", "other", refused("SHA256:", vec![object("signed")])),
        ("unsigned", "annotated", "required", "pinned", refused("is not signed", Vec::new())),
        ("missing", "lightweight", "required", "pinned", refused("lightweight", Vec::new())),
        ("preferred", "lightweight", "preferred", "pinned", unproved),
    ] {
        table.add(Case {
            name: format!("git-{name}"),
            source: table::checkout(&server.url("tool"), tag, &commit),
            policy: Some((policy, format!("  - git-tag: {{ssh-signers: {key}}}\n"))),
            outcome,
        });
    }
    table.check();
}

#[test]
fn proofs_of_ecosystems() {
    let mut table = Table::new();
    ecosystems::debian(&mut table);
    ecosystems::crates(&mut table);
    ecosystems::pypi(&mut table);
    ecosystems::attestations(&mut table);
    ecosystems::npm(&mut table);
    table.check();
}

#[test]
fn registries_that_sign_with_another_key_or_not_at_all() {
    let mut table = Table::new();
    let archive = table.factory.archive.clone();
    archive.set(|settings| settings.signed_by = Some(ArchiveKey::generate()));
    ecosystems::unsigned_debian(&mut table);
    ecosystems::npm_without_keys(&mut table);
    table.check();
}
