//! A factory whose packages are cases, and what is asserted of each.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha512};
use tests::archive::sha256_hex;
use tests::factory::{Answer, Factory, answer, rows, text};

use crate::MILL;

/// What a case comes to.
pub enum Outcome {
    /// It is built: this proof holds, and its evidence has these members.
    Taken { kind: String, holds: Vec<(&'static str, Value)> },
    /// It is built although this proof is missing.
    Unproved { kind: String, reason: String },
    /// It is refused by this proof, for a reason that holds this text, and these bytes are kept.
    Refused { kind: String, reason: String, kept: Vec<Vec<u8>> },
}

/// A package of one source.
pub struct Case {
    pub name: String,
    /// The step that fetches the source.
    pub source: String,
    /// `required` or `preferred`, and the proofs.
    pub policy: Option<(&'static str, String)>,
    pub outcome: Outcome,
}

pub struct Table {
    pub factory: Factory,
    cases: Vec<Case>,
}

/// The step that fetches a file of which a digest is stated.
pub fn fetch(uri: &str, algorithm: &str, digest: &str) -> String {
    format!("  - uses: fetch\n    with:\n      uri: {uri}\n      expected-{algorithm}: {digest}\n")
}

/// The step that checks a tag out.
pub fn checkout(repository: &str, tag: &str, commit: &str) -> String {
    format!(
        "  - uses: git-checkout\n    with:\n      repository: {repository}\n      tag: {tag}\n      expected-commit: \
         {commit}\n"
    )
}

pub fn sha512_hex(bytes: &[u8]) -> String {
    hex::encode(Sha512::digest(bytes))
}

impl Table {
    pub fn new() -> Self {
        let factory = Factory::new(MILL);
        for unused in ["packages/hello.yaml", "packages/greeting-data.yaml"] {
            fs::remove_file(factory.catalog().join(unused)).unwrap();
        }
        fs::remove_dir_all(factory.catalog().join("images/hello")).unwrap();
        Self { factory, cases: Vec::new() }
    }

    /// Upstream serves a file in a folder of its own; its address.
    pub fn put(&self, folder: &str, file: &str, bytes: &[u8]) -> String {
        self.factory.archive.put(&format!("{folder}/{file}"), bytes);
        format!("{}/{folder}/{file}", self.factory.upstream())
    }

    /// Writes a key file of the catalog.
    pub fn key(&self, file: &str, text: &str) {
        self.factory.write(&format!("authenticity/keys/{file}"), text);
    }

    pub fn add(&mut self, case: Case) {
        let Case { name, source, policy, .. } = &case;
        self.factory.write(
            &format!("packages/{name}.yaml"),
            &format!(
                "package:\n  name: {name}\n  version: 1.0\n  epoch: 0\n  description: a case\n  copyright:\n    - \
                 license: Apache-2.0\npipeline:\n{source}  - runs: |\n      mkdir -p \
                 ${{{{targets.destdir}}}}/usr/share\n      echo built > ${{{{targets.destdir}}}}/usr/share/{name}\n"
            ),
        );
        if let Some((policy, proofs)) = policy {
            self.factory.write(&format!("authenticity/{name}.yaml"), &format!("policy: {policy}\nproofs:\n{proofs}"));
        }
        self.cases.push(case);
    }

    /// Runs one cycle, and asserts what each case comes to.
    pub fn check(&self) {
        let base = self.factory.upstream();
        let mut command = self.factory.command();
        command
            .env("MINIMILL_CARGO_INDEX", format!("sparse+{base}/index/"))
            .env("MINIMILL_PYPI_INDEX", format!("{base}/simple"))
            .env("MINIMILL_NPM_REGISTRY", format!("{base}/npm"))
            .args(["--format", "json", "cycle"]);
        let cycle = answer(command);
        assert!(cycle.json.is_object(), "{}", cycle.stderr);
        let events = self.factory.documents("event", "");
        for case in &self.cases {
            let told: Vec<&str> = events
                .iter()
                .filter(|(_, event)| event["kind"] == "source.unauthentic" && event["subject"] == case.name.as_str())
                .map(|(_, event)| text(&event["text"]))
                .collect();
            match &case.outcome {
                Outcome::Taken { kind, holds } => {
                    let proof = self.built(case, &cycle);
                    assert_eq!((text(&proof["kind"]), text(&proof["result"])), (kind.as_str(), "holds"), "{proof:#}");
                    for (member, value) in holds {
                        let found = proof["evidence"].pointer(&format!("/{member}"));
                        assert_eq!(found, Some(value), "{}: {proof:#}", case.name);
                    }
                    assert!(told.is_empty(), "{}: {told:?}", case.name);
                }
                Outcome::Unproved { kind, reason } => {
                    let proof = self.built(case, &cycle);
                    assert_eq!((text(&proof["kind"]), text(&proof["result"])), (kind.as_str(), "absent"), "{proof:#}");
                    assert!(text(&proof["reason"]).contains(reason), "{}: {proof:#}", case.name);
                    let log = cycle.texts("done", "package-build", &format!("{} ", case.name));
                    assert!(log.is_empty() || log[0].contains("not proved, which its policy allows"), "{log:?}");
                    assert!(told.is_empty(), "{}: {told:?}", case.name);
                }
                Outcome::Refused { kind, reason, kept } => self.refused(case, &cycle, &told, kind, reason, kept),
            }
        }
    }

    fn refused(&self, case: &Case, cycle: &Answer, told: &[&str], kind: &str, reason: &str, kept: &[Vec<u8>]) {
        let name = &case.name;
        assert!(!self.factory.package_index().contains_key(&format!("{name} 1.0-r0")), "{name} is published");
        let failure = cycle.failure("package-build", &format!("{name} "));
        assert!(failure.contains(reason), "{name}: {failure}");
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert!(told[0].contains(reason) && told[0].contains(kind), "{name}: {told:?}");
        let documents = self.factory.documents(&format!("package#{name}"), "refused#1.0");
        assert_eq!(documents.len(), 1, "{name}: {documents:#?}");
        let refused = &documents[0].1;
        let policy = case.policy.as_ref().map_or("default", |(policy, _)| policy);
        assert_eq!((&refused["verdict"]["policy"], &refused["verdict"]["holds"]), (&policy.into(), &false.into()));
        let tried = &refused["verdict"]["proofs"][0];
        assert_eq!(tried["kind"], kind, "{name}: {refused:#}");
        assert!(text(&tried["reason"]).contains(reason), "{name}: {refused:#}");
        for bytes in kept {
            let digest = sha256_hex(bytes);
            assert!(refused.to_string().contains(&digest), "{name}: {digest} is not named: {refused:#}");
            let (shard, rest) = digest.split_at(2);
            let blob = self.factory.home().join("blobs").join(shard).join(rest);
            assert_eq!(&fs::read(blob).unwrap(), bytes, "{name}");
        }
        let shown = self.factory.run(&["package", "show", name]);
        assert_eq!(rows(&shown.json["refused"]), std::slice::from_ref(refused), "{name}");
    }

    /// The first proof of a built package's source, from its provenance as it is published.
    fn built(&self, case: &Case, cycle: &Answer) -> Value {
        let name = &case.name;
        let failed = cycle.texts("failed", "package-build", &format!("{name} "));
        assert!(self.factory.package_index().contains_key(&format!("{name} 1.0-r0")), "{name}: {failed:?}");
        let folder = self.factory.home().join("apk/x86_64");
        let bundle = fs::read(folder.join(format!("{name}-1.0-r0.apk.sigstore.json"))).unwrap();
        let bundle: Value = serde_json::from_slice(&bundle).unwrap();
        let payload = STANDARD.decode(text(&bundle["dsseEnvelope"]["payload"])).unwrap();
        let statement: Value = serde_json::from_slice(&payload).unwrap();
        let materials = rows(&statement["predicate"]["buildDefinition"]["resolvedDependencies"]);
        let judged: Vec<&Value> =
            materials.iter().filter(|one| !one["annotations"]["authenticity"].is_null()).collect();
        assert_eq!(judged.len(), 1, "{name}: {materials:#?}");
        let material = judged[0];
        let verdict = &material["annotations"]["authenticity"];
        let policy = case.policy.as_ref().map_or("default", |(policy, _)| policy);
        assert_eq!((&verdict["policy"], &verdict["holds"]), (&policy.into(), &true.into()), "{name}: {verdict:#}");
        // The digest that the verdict is about, and the chain by which the bytes were had.
        assert_eq!(text(&material["digest"]["sha256"]).len(), 64, "{name}: {material:#}");
        assert_eq!(material["annotations"]["evidence"]["sha256"], material["digest"]["sha256"], "{name}: {material:#}");
        verdict["proofs"][0].clone()
    }
}
