//! Images that agree with themselves, and that don't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

#[path = "fixture/described.rs"]
mod described;
mod fixture;

use described::{judge, layer, run};
use fixture::{Bench, Layer, check, results};
use serde_json::{Value, json};
use verify::{Integrity, Status, integrity};

#[test]
fn a_sound_image_passes() {
    let report = judge(layer(), json!({"User": "65532", "Entrypoint": ["web"], "Env": ["PATH=/bin:/usr/bin"]}), |_| ());
    let programs = ["architecture", "libraries", "host-paths", "search-paths", "relro", "nx", "pie"];
    for check in &report.checks {
        let name = check.id.strip_prefix("integrity/").unwrap();
        let expected = if programs.contains(&name) { Status::NotApplicable } else { Status::Passed };
        assert_eq!(check.status, expected, "{}: {}", check.id, check.message);
    }
    assert_eq!(report.checks.len(), 21);
    assert_eq!(report.status(), Status::Passed);
}

#[test]
fn each_kind_of_fault_is_named() {
    let mut faulty = layer().file("opt/stranger", 0o755, "x");
    faulty.0.retain(|(path, ..)| path != "usr/share/page");
    let report = run(faulty, "0:0");
    let results = results(&report);
    assert_eq!(
        results["integrity/owners"],
        (
            Status::Failed,
            "`/opt/stranger` belongs to no package; put it into one, or take it out; \
             `/usr/share` of the package `data` is not there; compose the image again; \
             `/usr/share/page` of the package `data` is not there; compose the image again"
        )
    );
    let report = run(Layer::default().file("a", 0o644, "x"), "1");
    for id in ["owners", "sbom", "bom"] {
        let found = check(&report, &format!("integrity/{id}"));
        assert_eq!(found.status, Status::Failed);
        assert!(found.message.starts_with("the image has no apk database"), "{}", found.message);
    }
}

#[test]
fn what_is_not_known_is_not_run() {
    let bench = Bench::new();
    let image = bench.image(&[layer()], json!({}));
    let report = integrity(&image, &Integrity::default()).unwrap();
    for id in ["owners", "sbom", "sbom-schema", "bom", "bom-schema", "index", "reproducible"] {
        assert_eq!(check(&report, &format!("integrity/{id}")).status, Status::NotRun, "{id}");
    }
    assert_eq!(report.status(), Status::NotRun);
}

/// The message of the one check that fails, and no other, with this image.
fn only_failure(layer: Layer, config: Value, change: impl FnOnce(&mut described::Known), id: &str) -> String {
    let report = judge(layer, config, change);
    let failed: Vec<&str> =
        report.checks.iter().filter(|check| check.status == Status::Failed).map(|check| check.id.as_str()).collect();
    let id = format!("integrity/{id}");
    assert_eq!(failed, [id.as_str()], "{report:#?}");
    check(&report, &id).message.clone()
}

fn user() -> Value {
    json!({"User": "65532"})
}

#[test]
fn an_sbom_that_lacks_something_is_told_what() {
    fn package<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
        list.as_array_mut().unwrap().iter_mut().find(|package| package["name"] == name).unwrap()
    }
    let sbom = |change: fn(&mut Value), id: &str| only_failure(layer(), user(), |known| change(&mut known.sbom), id);
    assert_eq!(
        sbom(|sbom| package(&mut sbom["packages"], "web")["licenseDeclared"] = json!("NOASSERTION"), "sbom"),
        "the SBOM has no licence of web=1.2-r0; state `license` under `copyright` in its definition"
    );
    assert_eq!(
        sbom(|sbom| package(&mut sbom["packages"], "web")["externalRefs"] = json!([]), "sbom"),
        "the SBOM has no `pkg:apk/` purl of web=1.2-r0"
    );
    assert_eq!(
        sbom(|sbom| package(&mut sbom["packages"], "data")["checksums"] = json!([]), "sbom"),
        "the SBOM has no SHA-1 of data=2-r1"
    );
    assert_eq!(
        sbom(|sbom| package(&mut sbom["packages"], "data")["versionInfo"] = json!("2-r0"), "sbom"),
        "the SBOM lacks data=2-r1; the SBOM names data=2-r0, which is not installed"
    );
    let wrong = sbom(
        |sbom| package(&mut sbom["packages"], "data")["checksums"][0]["checksumValue"] = json!("ab".repeat(20)),
        "sbom",
    );
    assert!(wrong.starts_with("the SBOM has the SHA-1 abab") && wrong.contains("data=2-r1"), "{wrong}");
    let of_another = sbom(
        |sbom| {
            let text = sbom.to_string();
            let image = sbom["packages"][0]["checksums"][0]["checksumValue"].as_str().unwrap();
            *sbom = serde_json::from_str(&text.replace(image, &"0".repeat(64))).unwrap();
        },
        "sbom",
    );
    assert!(of_another.starts_with("the SBOM does not name the image's manifest `sha256:"), "{of_another}");
    let bom = |change: fn(&mut Value), id: &str| only_failure(layer(), user(), |known| change(&mut known.bom), id);
    assert_eq!(
        bom(|bom| package(&mut bom["components"], "web")["licenses"] = json!([]), "bom"),
        "the SBOM has no licence of web=1.2-r0; state `license` under `copyright` in its definition"
    );
}

#[test]
fn an_sbom_that_breaks_its_format_is_told_where() {
    let sbom = |change: fn(&mut Value)| only_failure(layer(), user(), |known| change(&mut known.sbom), "sbom-schema");
    let missing = sbom(|sbom| drop(sbom.as_object_mut().unwrap().remove("dataLicense")));
    assert_eq!(missing, "`/`: \"dataLicense\" is a required property");
    let unknown = sbom(|sbom| sbom["relationships"][0]["relationshipType"] = json!("HOLDS"));
    assert!(unknown.starts_with("`/relationships/0/relationshipType`: \"HOLDS\" is not one of "), "{unknown}");
    assert_eq!(
        sbom(|sbom| sbom["relationships"][0]["relatedSpdxElement"] = json!("SPDXRef-nobody")),
        "a relationship is with `SPDXRef-nobody`, which is not there"
    );
    let twice = sbom(|sbom| {
        let again = sbom["packages"][1].clone();
        sbom["packages"].as_array_mut().unwrap().push(again);
    });
    assert!(twice.starts_with("the identifier `SPDXRef-") && twice.ends_with("` is there twice"), "{twice}");
    let bom = only_failure(layer(), user(), |known| known.bom["components"][0]["type"] = json!("thing"), "bom-schema");
    assert!(bom.starts_with("`/components/0/type`: \"thing\" is not one of "), "{bom}");
    let report = judge(layer(), user(), |known| known.sbom = json!("text"));
    assert_eq!(check(&report, "integrity/sbom-schema").status, Status::Failed);
}

#[test]
fn a_configuration_that_engines_would_refuse_is_told_why() {
    let configuration = |config: Value| only_failure(layer(), config, |_| (), "configuration");
    for (key, value, expected) in [
        (
            "Env",
            json!(["A=1", "A=2", "B"]),
            "`Env` sets `A` twice; the configuration: `Env` has `B`, which is not `NAME=VALUE`",
        ),
        ("ExposedPorts", json!({"http": {}}), "`ExposedPorts` has `http`, which is no port"),
        ("Volumes", json!({"data": {}}), "`Volumes` has `data`, which is no absolute path"),
        (
            "WorkingDir",
            json!("/nowhere"),
            "`WorkingDir` is `/nowhere`, which is no folder of the image; make it under `paths`",
        ),
        ("StopSignal", json!("stop"), "`StopSignal` is `stop`, which is no signal such as `SIGTERM`"),
    ] {
        let mut config = user();
        config[key] = value;
        assert_eq!(configuration(config), format!("the configuration: {expected}"));
    }
}

#[test]
fn what_an_image_says_of_itself_is_held_together() {
    let labels = json!({"org.opencontainers.image.title": "Other"});
    let message = only_failure(layer(), json!({"User": "1", "Labels": labels}), |_| (), "annotations");
    assert!(
        message.contains("`org.opencontainers.image.title` is `Web` as an annotation and `Other` as a label"),
        "{message}"
    );
    assert!(message.contains("the annotation `org.opencontainers.image.version` is not among the labels"), "{message}");
    let entrypoint = |program: &str| {
        let config = json!({"User": "65532", "Entrypoint": [program]});
        only_failure(layer(), config, |_| (), "entrypoint")
    };
    assert_eq!(entrypoint("/bin/absent"), "the image starts `/bin/absent`, which is not in the image; add its package");
    assert_eq!(entrypoint("absent"), "the image starts `absent`, which is in no folder of `PATH`; add its package");
}

#[test]
fn an_index_lists_the_image_as_what_it_is() {
    let index = |change: fn(&mut Value)| only_failure(layer(), user(), |known| change(&mut known.index), "index");
    assert_eq!(
        index(|index| index["manifests"][0]["platform"]["architecture"] = json!("arm64")),
        "the index: it lists the image for linux/arm64, it is for linux/amd64"
    );
    let size = index(|index| index["manifests"][0]["size"] = json!(1));
    assert!(size.contains(" has 1 bytes, it has "), "{size}");
    let other = index(|index| index["manifests"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64))));
    assert!(other.starts_with("the index: it does not list `sha256:"), "{other}");
}

#[test]
fn an_image_that_is_not_made_alike_again_fails() {
    let reproducible = |compositions: &[&str]| {
        let compositions = compositions.iter().map(|&digest| digest.to_owned()).collect();
        let report = judge(layer(), user(), |known| known.compositions = compositions);
        let found = check(&report, "integrity/reproducible");
        (found.status, found.message.clone())
    };
    assert_eq!(reproducible(&["sha256:01", "sha256:01"]).0, Status::Passed);
    assert_eq!(
        reproducible(&["sha256:01", "sha256:02"]),
        (Status::Failed, "composing twice gave sha256:01 and then sha256:02; compare the two layers".to_owned())
    );
    assert_eq!(reproducible(&["sha256:01"]).0, Status::NotRun);
    assert_eq!(reproducible(&[]).0, Status::NotRun);
}

const KEY: &str =
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIDEwMjMyMzQyMzQyMzQyMzQyMzQyMzQy\n-----END EC PRIVATE KEY-----\n";

#[test]
fn what_a_build_leaves_behind_is_found() {
    for (path, mode, content, id, expected) in [
        (
            "var/cache/apk/x.apk",
            0o644,
            "x",
            "leftovers",
            "`/var/cache/apk/x.apk` lies in `/var/cache/`, which is filled where the image runs; remove it",
        ),
        (
            "usr/share/.git/HEAD",
            0o644,
            "x",
            "leftovers",
            "`/usr/share/.git/HEAD` lies in a `.git`, which only working with it needs; remove it",
        ),
        ("root/.ash_history", 0o600, "x", "leftovers", "`/root/.ash_history` is a trace of a session; remove it"),
        (
            "usr/share/server.pem",
            0o600,
            KEY,
            "keys",
            "`/usr/share/server.pem` holds a private key; remove it from its package",
        ),
        ("home/web/.netrc", 0o600, "x", "keys", "`/home/web/.netrc` is where secrets are kept; remove it"),
        (
            "etc/apk/keys/mill.rsa",
            0o600,
            "x",
            "keys",
            "`/etc/apk/keys/mill.rsa` is no public key; only `.pub` files belong there",
        ),
        (
            "usr/share/notes",
            0o644,
            "in /home/build/src/x.c",
            "build-paths",
            "`/usr/share/notes` names `/home/build`, which only its build had; build it with `-ffile-prefix-map`, or remove the path in its pipeline",
        ),
    ] {
        let report = run(layer().file(path, mode, content), "65532");
        assert_eq!(check(&report, &format!("integrity/{id}")).message, expected);
    }
    // What only looks like it.
    let innocent = layer()
        .file("usr/bin/keygen", 0o755, "-----BEGIN OPENSSH PRIVATE KEY-----\n\0-----END OPENSSH PRIVATE KEY-----\n")
        .file("usr/share/doc", 0o644, "see /home/builders and /sysroots");
    let report = run(innocent, "65532");
    for id in ["keys", "build-paths", "leftovers"] {
        assert_eq!(check(&report, &format!("integrity/{id}")).status, Status::Passed, "{id}");
    }
}
