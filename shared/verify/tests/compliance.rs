//! Images that keep to the rules, and for each rule one that doesn't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "fixture/described.rs"]
mod described;
mod fixture;

use std::ffi::OsStr;

use described::layer;
use fixture::{Bench, Item, Layer, check};
use serde_json::{Value, json};
use verify::{Check, Compliance, Policy, Status, SuiteReport, compliance};

const NOW: &str = "2026-11-25T12:00:00Z";

async fn judge_as(
    layer: Layer,
    config: Value,
    policy: &str,
    edition: &str,
    change: impl FnOnce(&mut Compliance<'_>),
) -> SuiteReport {
    let bench = Bench::new();
    let image = bench.image(&[layer], config);
    let policy = Policy::parse(policy, "compliance.yaml").unwrap();
    let mut known = Compliance {
        policy: &policy,
        image: "web",
        edition,
        primary: Some("web"),
        development: false,
        now: NOW.parse().unwrap(),
        search_path: OsStr::new("/usr/bin:/bin"),
    };
    change(&mut known);
    compliance(&image, &known).await.unwrap()
}

async fn judge(layer: Layer, config: Value, policy: &str) -> SuiteReport {
    judge_as(layer, config, policy, "1", |_| ()).await
}

/// The one check that neither passes nor has nothing to look at.
async fn only(layer: Layer, config: Value, policy: &str, rule: &str) -> Check {
    let report = judge(layer, config, policy).await;
    let complaining: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| !matches!(check.status, Status::Passed | Status::NotApplicable))
        .map(|check| check.id.as_str())
        .collect();
    let id = format!("compliance/{rule}");
    assert_eq!(complaining, [id.as_str()], "{report:#?}");
    check(&report, &id).clone()
}

fn user() -> Value {
    json!({"User": "65532"})
}

fn with(key: &str, value: Value) -> Value {
    let mut config = user();
    config[key] = value;
    config
}

#[tokio::test]
async fn a_sound_image_keeps_to_every_rule() {
    let report = judge(layer(), user(), "{}").await;
    for check in &report.checks {
        assert!(matches!(check.status, Status::Passed | Status::NotApplicable), "{check:?}");
    }
    assert_eq!(report.checks.len(), 17);
    assert_eq!(report.status(), Status::Passed);
}

#[tokio::test]
async fn each_rule_finds_what_breaks_it_and_says_what_to_do() {
    for (rule, path, item, status, expected) in [
        (
            "set-id",
            "usr/bin/su",
            Item::File(0o4755, b"x".to_vec()),
            Status::Failed,
            "`/usr/bin/su` has the mode 4755, and runs with its owner's rights; `chmod ug-s` it",
        ),
        (
            "capabilities",
            "usr/bin/ping",
            Item::Capable(0o755, b"x".to_vec()),
            Status::Failed,
            "`/usr/bin/ping` gives capabilities to who runs it; `setcap -r` it",
        ),
        (
            "world-writable",
            "usr/share/open",
            Item::File(0o666, b"x".to_vec()),
            Status::Failed,
            "everybody can write to `/usr/share/open` (0666); `chmod o-w` it",
        ),
        (
            "world-writable",
            "var/spool",
            Item::Folder(0o777),
            Status::Failed,
            "everybody can replace files in the folder `/var/spool` (0777); `chmod o-w` it, or set its sticky bit",
        ),
        (
            "shell",
            "bin/sh",
            Item::File(0o755, b"x".to_vec()),
            Status::Warned,
            "`/bin/sh` is a shell, which an attacker could use; \
             leave its package out, or move it to a variant for developing",
        ),
        (
            "package-manager",
            "sbin/apk",
            Item::File(0o755, b"x".to_vec()),
            Status::Warned,
            "`/sbin/apk` is a package manager, which an attacker could use; \
             leave its package out, or move it to a variant for developing",
        ),
        (
            "ssh-server",
            "usr/sbin/sshd",
            Item::File(0o755, b"x".to_vec()),
            Status::Warned,
            "`/usr/sbin/sshd` lets people into the container; `docker exec` does without it; \
             leave its package out, or move it to a variant for developing",
        ),
        (
            "secrets",
            "etc/aws.ini",
            // Of parts, so that no scanner takes this file for a leak.
            Item::File(0o644, format!("id = {}{}\n", "AKIA", "QYLPMN5HHHFPZAM2").into_bytes()),
            Status::Failed,
            "`/etc/aws.ini` holds an AWS access key; remove it, and revoke it, since it may have been seen",
        ),
    ] {
        let found = only(layer().add(path, item, (0, 0)), user(), "{}", rule).await;
        assert_eq!((found.status, found.message.as_str()), (status, expected));
        assert_eq!(found.complaints[0].path.as_deref(), Some(path));
        assert!(found.evidence.iter().any(|line| line.starts_with("the rule's reason: ")), "{found:?}");
    }
    for (rule, config, status, expected) in [
        ("root-user", json!({}), Status::Failed, "the image runs as root; set `accounts.run-as`"),
        ("root-user", json!({"User": "0:0"}), Status::Failed, "the image runs as user 0; set `accounts.run-as`"),
        (
            "privileged-ports",
            with("ExposedPorts", json!({"80/tcp": {}, "8080": {}})),
            Status::Warned,
            "port 80 is for root alone; let the server listen to one from 1024 on",
        ),
        (
            "configured-secrets",
            with("Env", json!(["DB_PASSWORD=hunter22", "TOKEN=", "API_KEY=/run/key", "GPG_KEYS=A"])),
            Status::Failed,
            "the environment variable `DB_PASSWORD` gives everybody a secret; give it where the container is started",
        ),
        (
            "history",
            with("#history", json!([{"created_by": "ADD https://example.org/x.tar /opt"}])),
            Status::Failed,
            "the step `ADD https://example.org/x.tar /opt` adds what nobody has checked; bring it by a package",
        ),
    ] {
        let found = only(layer(), config, "{}", rule).await;
        assert_eq!((found.status, found.message.as_str()), (status, expected));
    }
}

#[tokio::test]
async fn an_image_for_a_tool_or_for_developing_has_it() {
    let shell = || layer().symlink("bin/sh", "../usr/bin/web");
    let report = judge(shell(), user(), "{}").await;
    let found = check(&report, "compliance/shell");
    assert_eq!(
        (found.status, found.message.as_str()),
        (Status::Passed, "nothing of that kind beside what `web` brings")
    );

    let report = judge_as(shell(), user(), "{}", "1", |known| known.primary = Some("data")).await;
    let found = check(&report, "compliance/shell");
    assert_eq!(found.status, Status::Warned);
    assert_eq!(found.complaints[0].package.as_deref(), Some("web"));

    let report =
        judge_as(layer().file("bin/sh", 0o755, "x"), user(), "{}", "1-dev", |known| known.development = true).await;
    assert_eq!(check(&report, "compliance/shell").status, Status::NotApplicable);
}

#[tokio::test]
async fn the_policy_says_which_rules_block_and_which_licences_pass() {
    let shell = layer().file("bin/sh", 0o755, "x");
    let found = only(shell.clone(), user(), "rules: {shell: block}", "shell").await;
    assert_eq!(found.status, Status::Failed);
    let report = judge(shell, user(), "rules: {shell: off}").await;
    let found = check(&report, "compliance/shell");
    assert_eq!((found.status, found.message.as_str()), (Status::NotApplicable, "the policy turns it off"));

    let licensed = |license: &'static str| {
        let mut layer = layer();
        for (_, item, _) in &mut layer.0 {
            if let Item::File(_, content) = item {
                let text = String::from_utf8_lossy(content).replacen("L:MIT", &format!("L:{license}"), 1);
                *content = text.into_bytes();
            }
        }
        layer
    };
    let refused = "the policy does not let the licence `SSPL-1.0` of `web` in; \
                   leave the package out, or allow the licence in `compliance.yaml`";
    let found = only(licensed("SSPL-1.0"), user(), "{}", "licenses").await;
    assert_eq!((found.status, found.message.as_str()), (Status::Failed, refused));
    assert_eq!(found.complaints[0].package.as_deref(), Some("web"));
    for (license, policy) in [
        ("SSPL-1.0", "licenses: {allow: [MIT, SSPL-1.0]}"),
        ("SSPL-1.0 OR MIT", "{}"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "licenses: {deny: [GPL-3.0-only]}"),
        ("LicenseRef-web", "{}"),
    ] {
        let report = judge(licensed(license), user(), policy).await;
        assert_eq!(check(&report, "compliance/licenses").status, Status::Passed, "{license} under {policy}");
    }
    for (license, policy) in [
        ("MIT AND SSPL-1.0", "{}"),
        ("Apache-2.0", "licenses: {allow: [MIT]}"),
        ("LicenseRef-web", "licenses: {allow: [MIT]}"),
        ("MIT OR Apache-2.0", "licenses: {deny: [MIT, Apache-2.0]}"),
    ] {
        let report = judge(licensed(license), user(), policy).await;
        assert_eq!(check(&report, "compliance/licenses").status, Status::Failed, "{license} under {policy}");
    }
    let found = only(licensed("as is"), user(), "{}", "license-names").await;
    assert_eq!(found.status, Status::Warned);
    assert!(found.message.starts_with("the licence `as is` of `web` is no SPDX expression"), "{}", found.message);

    for (text, expected) in [
        ("rules: {shel: warn}", "there is no rule `shel`"),
        ("licenses: {allow: [Foo-1]}", "`Foo-1` is no SPDX licence"),
        ("rules: {shell: maybe}", "maybe"),
        ("license: {}", "license"),
        ("malware: {database: signatures}", "`malware.database` is `signatures`; write its whole path"),
    ] {
        let error = Policy::parse(text, "compliance.yaml").unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("compliance.yaml:"), "{error}");
    }
}

#[tokio::test]
async fn age_and_fips_are_judged_where_they_are_promised() {
    let report = judge(layer(), user(), "maximum-age-days: 30").await;
    let found = check(&report, "compliance/age");
    assert_eq!(found.status, Status::Failed);
    assert!(found.message.contains("days ago, the policy lets 30 pass; build it again"), "{}", found.message);
    let report = judge(layer(), user(), "maximum-age-days: 100000").await;
    assert_eq!(check(&report, "compliance/age").status, Status::Passed);

    let fips = |layer: Layer, config: Value| async {
        let report = judge_as(layer, config, "{}", "1-fips", |_| ()).await;
        check(&report, "compliance/fips").clone()
    };
    let found = fips(layer(), user()).await;
    assert_eq!(found.status, Status::Failed);
    assert!(found.message.contains("lacks OpenSSL's FIPS provider (`ossl-modules/fips.so`)"), "{}", found.message);
    let provided = layer().file("usr/lib/ossl-modules/fips.so", 0o755, "x").file("etc/ssl/fipsmodule.cnf", 0o644, "x");
    assert_eq!(fips(provided, user()).await.status, Status::Passed);
    assert_eq!(fips(layer(), with("Env", json!(["GODEBUG=fips140=on"]))).await.status, Status::Passed);
}

#[tokio::test]
async fn clamav_looks_for_signatures_where_the_policy_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    // The EICAR test file, as a signature of its own text: `NAME:TYPE:OFFSET:HEX`.
    let eicar = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-", "STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"].concat();
    let database = folder.path().join("test.ndb");
    std::fs::write(&database, format!("Minimill.Test:0:*:{}\n", hex::encode(&eicar))).unwrap();
    let policy = |database: &std::path::Path| format!("malware: {{database: {}, images: [web]}}", database.display());

    let bare =
        judge_as(layer(), user(), &policy(&database), "1", |known| known.search_path = OsStr::new("/nowhere")).await;
    let found = check(&bare, "compliance/malware");
    assert_eq!(
        (found.status, found.message.as_str()),
        (Status::NotRun, "clamscan is not installed; install the Debian package `clamav`")
    );
    let other = judge_as(layer(), user(), &policy(&database), "1", |known| known.image = "other").await;
    assert_eq!(check(&other, "compliance/malware").status, Status::NotApplicable);
    if !std::path::Path::new("/usr/bin/clamscan").exists() {
        println!("not run: the Debian package `clamav` is not installed");
        return;
    }
    let report = judge(layer(), user(), &policy(&database)).await;
    let found = check(&report, "compliance/malware");
    assert_eq!(found.status, Status::Passed, "{}", found.message);
    let report = judge(layer().file("opt/x.com", 0o644, eicar), user(), &policy(&database)).await;
    let found = check(&report, "compliance/malware");
    assert_eq!(
        (found.status, found.message.as_str()),
        (
            Status::Failed,
            "`/opt/x.com` has the signature `Minimill.Test.UNOFFICIAL`; find out how it came into its package"
        )
    );
    let report = judge(layer(), user(), &policy(&folder.path().join("absent"))).await;
    assert_eq!(check(&report, "compliance/malware").status, Status::NotRun);
}
