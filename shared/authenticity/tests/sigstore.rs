//! Attestations that real publishers made, and what becomes of them when anything is changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use authenticity::{Error, Evidence, Publisher, Roots, attestations, verify_bundle};
use serde_json::{Value, json};

const GITHUB: &[u8] = include_bytes!("fixtures/github.provenance.json");
const GITHUB_FILE: &str = "pypi_attestations-0.0.19.tar.gz";
const GITHUB_SHA256: &str = "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3";
const GITLAB: &[u8] = include_bytes!("fixtures/gitlab.attestation.json");
const GITLAB_SHA256: &str = "c1ca9b0d85df1606451098233018534497bf584362e10e4a8c21dfaea92c02a8";
const GOOGLE: &[u8] = include_bytes!("fixtures/google.provenance.json");
const GOOGLE_SHA256: &str = "461317362419124b6012e855423a9078d6de8aed3e74fa78cc74d669b23dc6cf";
const BUNDLE: &[u8] = include_bytes!("fixtures/github.sigstore.json");
const BUNDLE_SHA256: &str = "c9709ce6fd5b67b59b4a28758cf14d3f411803c4b89b6068b1f1a8e4ee94c8ef";

fn github(repository: &str, workflow: Option<&str>) -> Publisher {
    Publisher::GitHub { repository: repository.to_owned(), workflow: workflow.map(str::to_owned), environment: None }
}

fn publisher() -> Publisher {
    github("trailofbits/pypi-attestations", Some("release.yml"))
}

fn bundle() -> Value {
    serde_json::from_slice(&attestations(GITHUB).unwrap()[0]).unwrap()
}

fn verify(bundle: &Value) -> authenticity::Result<Evidence> {
    let roots = Roots::public().unwrap();
    verify_bundle(&serde_json::to_vec(bundle).unwrap(), GITHUB_SHA256, Some(GITHUB_FILE), &publisher(), &roots)
}

#[test]
fn what_three_publishers_made_verifies() {
    let roots = Roots::public().unwrap();
    let evidence = verify(&bundle()).unwrap();
    let Evidence::Sigstore { identity, issuer, repository, commit, predicate_type, logged, .. } = evidence else {
        panic!("{evidence:?}")
    };
    assert!(identity.starts_with("https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@"));
    assert_eq!(issuer, "https://token.actions.githubusercontent.com");
    assert_eq!(repository, "https://github.com/trailofbits/pypi-attestations");
    assert_eq!(commit.len(), 40);
    assert!(predicate_type.ends_with("/attestations/publish/v1"), "{predicate_type}");
    assert!(logged.is_some());

    let gitlab = attestations(GITLAB).unwrap();
    let file = Some("gitlab_oidc_project-0.0.3.tar.gz");
    let project = |repository: &str| Publisher::GitLab {
        repository: repository.to_owned(),
        workflow: Some(".gitlab-ci.yml".to_owned()),
    };
    verify_bundle(&gitlab[0], GITLAB_SHA256, file, &project("facutuesca/gitlab-oidc-project"), &roots).unwrap();
    let other = verify_bundle(&gitlab[0], GITLAB_SHA256, file, &project("facutuesca/other"), &roots);
    assert!(matches!(other, Err(Error::Publisher { field: "repository", .. })), "{other:?}");

    let google = attestations(GOOGLE).unwrap();
    let account = |email: &str| Publisher::Google { email: email.to_owned() };
    let email = "919436158236-compute@developer.gserviceaccount.com";
    verify_bundle(&google[0], GOOGLE_SHA256, None, &account(email), &roots).unwrap();
    let other = verify_bundle(&google[0], GOOGLE_SHA256, None, &account("other@example.org"), &roots);
    assert!(matches!(other, Err(Error::Publisher { field: "identity", .. })), "{other:?}");

    let models = github("trailofbits/pypi-attestation-models", None);
    verify_bundle(BUNDLE, BUNDLE_SHA256, Some("pypi_attestation_models-0.0.4a2.tar.gz"), &models, &roots).unwrap();
}

#[test]
fn another_publisher_is_named_with_what_differs() {
    let roots = Roots::public().unwrap();
    let bytes = &attestations(GITHUB).unwrap()[0];
    let check = |publisher: Publisher| verify_bundle(bytes, GITHUB_SHA256, Some(GITHUB_FILE), &publisher, &roots);
    assert!(check(github("TrailOfBits/pypi-attestations", None)).is_ok());
    for (publisher, field) in [
        (github("trailofbits/other", None), "repository"),
        (github("trailofbits/pypi-attestation", None), "repository"),
        (github("trailofbits/pypi-attestations", Some("tests.yml")), "workflow"),
        (github("trailofbits/pypi-attestations", Some("release.ym")), "workflow"),
        (Publisher::Google { email: "a@example.org".to_owned() }, "issuer"),
        (Publisher::GitLab { repository: "trailofbits/pypi-attestations".to_owned(), workflow: None }, "issuer"),
        (
            Publisher::GitHub {
                repository: "trailofbits/pypi-attestations".to_owned(),
                workflow: None,
                environment: Some("production".to_owned()),
            },
            "environment",
        ),
    ] {
        match check(publisher.clone()) {
            Err(Error::Publisher { field: found, .. }) => assert_eq!(found, field, "{publisher:?}"),
            other => panic!("{publisher:?}: {other:?}"),
        }
    }
}

#[test]
fn another_file_is_not_proved() {
    let roots = Roots::public().unwrap();
    let bytes = &attestations(GITHUB).unwrap()[0];
    let digest = verify_bundle(bytes, GITLAB_SHA256, None, &publisher(), &roots);
    assert!(matches!(digest, Err(Error::Sigstore(_))), "{digest:?}");
    let name = verify_bundle(bytes, GITHUB_SHA256, Some("pypi_attestations-0.0.20.tar.gz"), &publisher(), &roots);
    assert!(matches!(name, Err(Error::Sigstore(_))), "{name:?}");
    let same = verify_bundle(bytes, GITHUB_SHA256, Some("PyPI-attestations-0.0.19.tar.gz"), &publisher(), &roots);
    assert!(same.is_ok(), "{same:?}");
}

#[test]
fn a_change_anywhere_breaks_it() {
    let other: Value = serde_json::from_slice(&attestations(GITLAB).unwrap()[0]).unwrap();
    let entry = "/verificationMaterial/tlogEntries/0";
    let changes: [(&str, Value); 9] = [
        ("/dsseEnvelope/payload", other["dsseEnvelope"]["payload"].clone()),
        ("/dsseEnvelope/signatures", other["dsseEnvelope"]["signatures"].clone()),
        ("/dsseEnvelope/payloadType", json!("text/plain")),
        ("/verificationMaterial/certificate", other["verificationMaterial"]["certificate"].clone()),
        ("/verificationMaterial/tlogEntries", other["verificationMaterial"]["tlogEntries"].clone()),
        ("/verificationMaterial/tlogEntries", json!([])),
        ("/verificationMaterial/tlogEntries/0/integratedTime", json!("1500000000")),
        ("/verificationMaterial/tlogEntries/0/inclusionProof/treeSize", json!("5")),
        (
            "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
            other.pointer(&format!("{entry}/inclusionProof/checkpoint")).unwrap().clone(),
        ),
    ];
    assert!(verify(&bundle()).is_ok());
    for (path, value) in changes {
        let mut changed = bundle();
        *changed.pointer_mut(path).unwrap() = value;
        let result = verify(&changed);
        assert!(matches!(result, Err(Error::Sigstore(_) | Error::Malformed { .. })), "{path}: {result:?}");
    }
    for path in ["inclusionProof", "inclusionPromise", "canonicalizedBody"] {
        let mut changed = bundle();
        changed.pointer_mut(entry).unwrap().as_object_mut().unwrap().remove(path);
        assert!(verify(&changed).is_err(), "without {path}");
    }
}

#[test]
fn authorities_other_than_the_pinned_ones_do_not_count() {
    let mut root: Value = serde_json::from_str(sigstore_verify::trust_root::SIGSTORE_PRODUCTION_TRUSTED_ROOT).unwrap();
    let verify = |root: &Value| {
        let roots = Roots::parse("root.json", &root.to_string()).unwrap();
        let bytes = &attestations(GITHUB).unwrap()[0];
        verify_bundle(bytes, GITHUB_SHA256, None, &publisher(), &roots)
    };
    assert!(verify(&root).is_ok());
    for authorities in ["tlogs", "ctlogs", "certificateAuthorities"] {
        let kept = root[authorities].take();
        root[authorities] = json!([]);
        let result = verify(&root);
        assert!(matches!(result, Err(Error::Sigstore(_))), "without {authorities}: {result:?}");
        root[authorities] = kept;
    }
    assert!(matches!(Roots::parse("root.json", "{}"), Err(Error::Key { .. })));
    assert!(matches!(Roots::parse("root.json", &"x".repeat(5 << 20)), Err(Error::TooLarge { .. })));
}

#[test]
fn what_is_no_attestation_says_so() {
    let roots = Roots::public().unwrap();
    for text in ["", "{", "[]", "{}", r#"{"attestation_bundles":[]}"#, r#"{"version":2}"#, "{\"version\":1}"] {
        assert!(matches!(attestations(text.as_bytes()), Err(Error::Malformed { .. })), "{text}");
        let result = verify_bundle(text.as_bytes(), GITHUB_SHA256, None, &publisher(), &roots);
        assert!(matches!(result, Err(Error::Malformed { .. })), "{text}: {result:?}");
    }
    let cut = &GITHUB[..GITHUB.len() / 2];
    assert!(matches!(attestations(cut), Err(Error::Malformed { .. })));
    assert!(matches!(attestations(&vec![b' '; 17 << 20]), Err(Error::TooLarge { .. })));
}
