//! A factory with one package, whose source is a file at a plain address.

use serde_json::Value;
use tests::archive::{sha256_hex, tarball};
use tests::factory::{Answer, Factory};

use crate::MILL;

const NAME: &str = "plain";

/// A factory that watches a web page for versions of `plain`.
pub struct Plain {
    pub factory: Factory,
}

/// The source of a version.
pub fn source(version: &str) -> Vec<u8> {
    tarball(&format!("plain-{version}"), 1_700_000_000, &[("text", format!("this is {version}\n").as_bytes())])
}

impl Plain {
    /// Version 1.0 is in the catalog, and upstream has it.
    pub fn new() -> Self {
        let plain = Self { factory: Factory::new(MILL) };
        let catalog = plain.factory.catalog();
        for unused in ["packages/hello.yaml", "packages/greeting-data.yaml"] {
            std::fs::remove_file(catalog.join(unused)).unwrap();
        }
        std::fs::remove_dir_all(catalog.join("images/hello")).unwrap();
        plain.factory.write(
            "packages/plain.yaml",
            &format!(
                "package:\n  name: plain\n  version: 1.0\n  epoch: 0\n  description: a file\n  copyright:\n    - license: \
                 Apache-2.0\npipeline:\n  - uses: fetch\n    with:\n      uri: \
                 {}/files/plain-${{{{package.version}}}}.tar.gz\n      expected-sha256: {}\n  - runs: install -D -m 0644 \
                 text ${{{{targets.destdir}}}}/usr/share/plain/text\nupdate:\n  enabled: true\n",
                plain.factory.upstream(),
                sha256_hex(&source("1.0"))
            ),
        );
        let page = format!("page: {}/download/\npattern: 'plain-([0-9.]+)\\.tar\\.gz'\n", plain.factory.upstream());
        plain.factory.write("watch/plain.yaml", &page);
        plain.release(&["1.0"]);
        plain
    }

    /// The page lists these versions, the newest first, and upstream has their files.
    pub fn release(&self, versions: &[&str]) {
        let names: Vec<String> = versions.iter().map(|version| format!("plain-{version}.tar.gz")).collect();
        for (name, version) in names.iter().zip(versions) {
            self.factory.archive.put(&format!("files/{name}"), source(version));
        }
        self.factory.archive.put("download/", names.join(" "));
    }

    /// Upstream offers a signature, or another file beside the source of a version.
    pub fn beside(&self, version: &str, suffix: &str, bytes: impl Into<Vec<u8>>) {
        self.factory.archive.put(&format!("files/plain-{version}.tar.gz{suffix}"), bytes);
    }

    pub fn policy(&self, policy: &str, proofs: &str) {
        self.factory.write("authenticity/plain.yaml", &format!("policy: {policy}\nproofs:\n{proofs}"));
    }

    /// The policy: a detached OpenPGP signature by one of these keys.
    pub fn openpgp(&self, policy: &str, keys: &[&str]) {
        let names: Vec<String> = (0..keys.len()).map(|number| format!("up{number}.asc")).collect();
        for (name, key) in names.iter().zip(keys) {
            self.factory.write(&format!("authenticity/keys/{name}"), key);
        }
        self.policy(policy, &format!("  - openpgp: {{signature: \"${{uri}}.asc\", keys: [{}]}}\n", names.join(", ")));
    }

    pub fn cycle(&self) -> Answer {
        self.factory.cycle()
    }

    /// Versions in the repository's index.
    pub fn published(&self) -> Vec<String> {
        self.factory.package_index().into_keys().collect()
    }

    /// What the state says of a newer version.
    pub fn newer(&self) -> Option<Value> {
        self.document("upstream")
    }

    /// What the state keeps of a refused version.
    pub fn refused(&self, version: &str) -> Option<Value> {
        self.document(&format!("refused#{version}"))
    }

    fn document(&self, sort: &str) -> Option<Value> {
        let documents = self.factory.documents(&format!("package#{NAME}"), sort);
        documents.into_iter().find(|(found, _)| found == sort).map(|(_, document)| document)
    }

    /// Texts of the events of a kind, in their order.
    pub fn events(&self, kind: &str) -> Vec<String> {
        let events = self.factory.documents("event", "");
        let events = events.into_iter().filter(|(_, event)| event["kind"] == kind && event["subject"] == NAME);
        events.map(|(_, event)| event["text"].as_str().unwrap().to_owned()).collect()
    }
}
