//! The watch: a new version is taken only when its source stands by the policy.

use serde_json::{Value, json};
use tests::archive::{ArchiveKey, sha256_hex};
use tests::tools::Gpg;

use crate::plain::{Plain, source};

const FIRST: &str = "plain 1.0-r0";
const SECOND: &str = "plain 1.1-r0";

/// The factory after a first cycle under the policy, when upstream has released 1.1.
fn released(policy: &str, pinned: &[&str], first: &[u8]) -> Plain {
    let plain = Plain::new();
    plain.openpgp(policy, pinned);
    plain.beside("1.0", ".asc", first);
    plain.cycle().expect_code(0);
    assert_eq!(plain.published(), [FIRST]);
    plain.release(&["1.1", "1.0"]);
    plain
}

/// Asserts that 1.1 is refused for these reasons, told and kept once, and that 1.0 stays.
fn expect_refusal(plain: &Plain, reasons: &[&str]) {
    for _ in 0..2 {
        let cycle = plain.cycle();
        cycle.expect_code(1);
        let failure = cycle.failure("upstream-check", "plain");
        for reason in reasons {
            assert!(failure.contains(reason), "{reason}: {failure}");
        }
    }
    assert_eq!(plain.published(), [FIRST]);
    assert_eq!(plain.newer(), None);
    let refused = plain.refused("1.1").unwrap();
    assert_eq!(refused["source"], format!("sha256:{}", sha256_hex(&source("1.1"))));
    let events = plain.events("source.unauthentic");
    assert_eq!(events.len(), 1, "{events:#?}");
    assert!(events[0].starts_with("plain 1.1: "), "{events:#?}");
}

#[test]
fn a_signed_version_is_taken_as_proved_and_others_are_refused_until_it_is() {
    let (key, other) = (ArchiveKey::generate(), ArchiveKey::generate());
    let mut plain = released("required", &[&key.armored_public_key()], key.detach_sign(&source("1.0")).as_bytes());

    expect_refusal(&plain, &["1.1 is not authentic", "plain-1.1.tar.gz.asc does not exist"]);
    assert_eq!(plain.refused("1.1").unwrap()["verdict"]["proofs"][0]["result"], "absent");

    // By another key: both are named. The event tells of the new reason.
    plain.factory.at("2026-03-05T06:00:00Z");
    plain.beside("1.1", ".asc", other.detach_sign(&source("1.1")));
    let cycle = plain.cycle();
    cycle.expect_code(1);
    let failure = cycle.failure("upstream-check", "plain");
    for name in [other.fingerprint(), key.fingerprint(), "Test archive <archive@localhost>".to_owned()] {
        assert!(failure.contains(&name), "{name}: {failure}");
    }
    assert_eq!(plain.events("source.unauthentic").len(), 2);
    let refused = plain.refused("1.1").unwrap();
    assert_eq!(refused["verdict"]["proofs"][0]["result"], "bad");

    // A good signature of the version before.
    plain.beside("1.1", ".asc", key.detach_sign(&source("1.0")));
    let cycle = plain.cycle();
    assert!(cycle.failure("upstream-check", "plain").contains("bad signature"), "{:#}", cycle.json);
    assert_eq!(plain.published(), [FIRST]);

    plain.beside("1.1", ".asc", key.detach_sign(&source("1.1")));
    plain.cycle().expect_code(0);
    assert_eq!(plain.published(), [FIRST, SECOND]);
    let newer = plain.newer().unwrap();
    assert_eq!((&newer["version"], &newer["basis"]), (&json!("1.1"), &json!("proved")));
    assert_eq!(newer["sha256"], sha256_hex(&source("1.1")));
    let proof = &newer["authenticity"]["proofs"][0];
    assert_eq!(proof["evidence"]["signers"][0]["fingerprint"], key.fingerprint(), "{newer:#}");
    let told = plain.events("upstream.released");
    assert!(told[0].contains("proved by OpenPGP signature") && told[0].contains(&key.fingerprint()), "{told:?}");
}

#[test]
fn keys_that_no_longer_count_are_refused_by_name() {
    let good = ArchiveKey::generate();
    let expired = ArchiveKey::generate_expiring(20_000, 10_000);
    let mut cases = vec![(
        expired.armored_public_key(),
        expired.detach_sign(&source("1.1")).into_bytes(),
        ["the key has expired".to_owned(), expired.fingerprint(), "archive@localhost".to_owned()],
    )];
    if let Some(gpg) = Gpg::new("up@example.org", "ed25519") {
        let signature = gpg.sign(&source("1.1"));
        let user = "up@example.org".to_owned();
        let fingerprint = gpg.fingerprint(&user);
        gpg.run(
            &["--output", "revocation", "--command-fd", "0", "--no-batch", "--no-tty", "--gen-revoke", &user],
            b"y\n1\n\ny\n",
        );
        gpg.run(&["--import", "revocation"], b"");
        let key = String::from_utf8(gpg.public_key(&user)).unwrap();
        cases.push((key, signature, ["the key is revoked".to_owned(), fingerprint, user]));
    }
    for (key, signature, reasons) in cases {
        let first = good.detach_sign(&source("1.0"));
        let plain = released("required", &[&good.armored_public_key(), &key], first.as_bytes());
        plain.beside("1.1", ".asc", signature);
        expect_refusal(&plain, &reasons.each_ref().map(String::as_str));
    }
}

#[test]
fn what_may_be_taken_without_proof_is_recorded_as_such() {
    let key = ArchiveKey::generate();
    let preferred = released("preferred", &[&key.armored_public_key()], key.detach_sign(&source("1.0")).as_bytes());
    // A wrong signature is refused whatever the policy.
    preferred.beside("1.1", ".asc", key.detach_sign(&source("1.0")));
    expect_refusal(&preferred, &["bad signature"]);
    // None is not.
    preferred.factory.archive.remove("files/plain-1.1.tar.gz.asc");
    preferred.cycle().expect_code(0);
    assert_eq!(preferred.published(), [FIRST, SECOND]);
    let newer = preferred.newer().unwrap();
    assert_eq!(newer["basis"], "address-on-first-use");
    let verdict = &newer["authenticity"];
    assert_eq!((&verdict["policy"], &verdict["proofs"][0]["result"]), (&json!("preferred"), &json!("absent")));
    let told = preferred.events("upstream.released");
    assert!(told[0].contains("trusted on first use") && told[0].contains("does not exist"), "{told:?}");

    let none = Plain::new();
    none.cycle().expect_code(0);
    none.release(&["1.1", "1.0"]);
    none.cycle().expect_code(0);
    assert_eq!(none.published(), [FIRST, SECOND]);
    let newer = none.newer().unwrap();
    assert_eq!(
        (&newer["basis"], &newer["sha256"]),
        (&json!("address-on-first-use"), &json!(sha256_hex(&source("1.1"))))
    );
    assert_eq!(newer["evidence"]["trust"], "what the address gave, trust on first use");
    let told = none.events("upstream.released");
    assert!(told[0].contains("trusted on first use"), "{told:?}");

    // A factory that forbids stated digests alone takes no first answer either.
    let strict = Plain::new();
    std::fs::write(strict.factory.home().join("mill.toml"), "[authenticity]\ndefault = \"ecosystem\"\n").unwrap();
    strict.release(&["1.1", "1.0"]);
    let cycle = strict.cycle();
    cycle.expect_code(1);
    assert!(cycle.failure("upstream-check", "plain").contains("first answer of its address"), "{:#}", cycle.json);
    assert_eq!(strict.newer(), None::<Value>);
}

#[test]
fn an_update_by_hand_is_proved_too() {
    let key = ArchiveKey::generate();
    let plain = released("required", &[&key.armored_public_key()], key.detach_sign(&source("1.0")).as_bytes());
    let file = plain.factory.catalog().join("packages/plain.yaml");
    let before = std::fs::read_to_string(&file).unwrap();
    let refused = plain.factory.run(&["upstream", "update", "plain", "--write"]);
    refused.expect_code(1);
    assert!(refused.stderr.contains("is not proved"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    plain.beside("1.1", ".asc", key.detach_sign(&source("1.1")));
    let update = plain.factory.run(&["upstream", "update", "plain", "--write"]);
    update.expect_code(0);
    assert_eq!(update.json["basis"], "proved");
    assert!(update.json["note"].as_str().unwrap().contains(&key.fingerprint()), "{:#}", update.json);
    assert!(std::fs::read_to_string(&file).unwrap().contains(&sha256_hex(&source("1.1"))));
}
