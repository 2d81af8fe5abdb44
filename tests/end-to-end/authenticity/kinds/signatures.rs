//! Signatures that upstream puts beside its source.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::archive::{ArchiveKey, sha256_hex};
use tests::tools::run;

use super::table::{Case, Outcome, Table, fetch};
use crate::plain::source;

const FILE: &str = "source-1.0.tar.gz";
/// A bundle as its publisher made it, and what it is about.
pub const BUNDLE: &[u8] = include_bytes!("../../../../shared/authenticity/tests/fixtures/github.sigstore.json");
pub const BUNDLED: &[u8] =
    include_bytes!("../../../../shared/authenticity/tests/fixtures/pypi_attestation_models-0.0.4a2.tar.gz");
pub const BUNDLED_FILE: &str = "pypi_attestation_models-0.0.4a2.tar.gz";

/// The policy's publisher, a repository on GitHub.
pub fn publisher(repository: &str) -> String {
    format!("publisher: {{kind: GitHub, repository: {repository}}}")
}

/// One kind of proof: a good source with its signature, and the policy's proof by the key that made
/// it and by another.
pub struct Kind {
    kind: &'static str,
    name: &'static str,
    file: &'static str,
    bytes: Vec<u8>,
    /// Where the signature lies, after the source's address or in its folder, and its bytes.
    beside: (&'static str, Vec<u8>),
    pinned: String,
    foreign: String,
    holds: Vec<(&'static str, Value)>,
    in_debian: bool,
}

impl Kind {
    /// A good source, an altered one, one by another key, and missing signatures by both policies.
    pub fn add(self, table: &mut Table) {
        let altered = source("9.9");
        let refused = |reason: &str, kept: Vec<Vec<u8>>| Outcome::Refused {
            kind: self.kind.to_owned(),
            reason: reason.to_owned(),
            kept,
        };
        let signature = &self.beside.1;
        let absent = if self.in_debian { "keeps no signature" } else { "does not exist" };
        let unproved = Outcome::Unproved { kind: self.kind.to_owned(), reason: absent.to_owned() };
        let cases = [
            (
                "good",
                "required",
                &self.pinned,
                &self.bytes,
                true,
                Outcome::Taken { kind: self.kind.to_owned(), holds: self.holds.clone() },
            ),
            (
                "altered",
                "required",
                &self.pinned,
                &altered,
                true,
                refused("", vec![altered.clone(), signature.clone()]),
            ),
            (
                "foreign",
                "preferred",
                &self.foreign,
                &self.bytes,
                true,
                refused("", vec![self.bytes.clone(), signature.clone()]),
            ),
            ("missing", "required", &self.pinned, &self.bytes, false, refused(absent, vec![self.bytes.clone()])),
            ("preferred", "preferred", &self.pinned, &self.bytes, false, unproved),
        ];
        for (case, policy, proof, bytes, is_signed, outcome) in cases {
            let name = format!("{}-{case}", self.name);
            let uri = self.place(table, &name, bytes, is_signed);
            table.add(Case {
                source: fetch(&uri, "sha256", &sha256_hex(bytes)),
                policy: Some((policy, format!("  - {}: {{{proof}}}\n", self.kind))),
                outcome,
                name,
            });
        }
    }

    /// Puts the source and its signature where they can be fetched; the source's address.
    fn place(&self, table: &Table, name: &str, bytes: &[u8], is_signed: bool) -> String {
        let archive = &table.factory.archive;
        let (beside, signature) = &self.beside;
        if self.in_debian {
            let file = format!("{name}_1.0.orig.tar.gz");
            archive.add_source(name, "1.0-1", &file, bytes.to_vec());
            if is_signed {
                let folder = format!("pool/main/{}/{name}", &name[..1]);
                archive.put(&format!("{folder}/{file}{beside}"), signature.clone());
            }
            archive.publish();
            return format!("pkg:deb/debian/{name}@1.0?arch=source");
        }
        if is_signed {
            let file = if beside.starts_with('.') { format!("{}{beside}", self.file) } else { (*beside).to_owned() };
            archive.put(&format!("{name}/{file}"), signature.clone());
        }
        table.put(name, self.file, bytes)
    }
}

/// Every kind whose tool is installed here.
pub fn all(table: &Table, folder: &Path) -> Vec<Kind> {
    let bytes = source("1.0");
    fs::write(folder.join(FILE), &bytes).unwrap();
    let mut kinds = openpgp(table, &bytes);
    kinds.extend(minisign(folder, &bytes));
    kinds.extend(signify(folder, &bytes));
    kinds.push(Kind {
        kind: "sigstore",
        name: "sigstore",
        file: BUNDLED_FILE,
        bytes: BUNDLED.to_vec(),
        beside: (".sigstore.json", BUNDLE.to_vec()),
        pinned: format!("bundle: \"${{uri}}.sigstore.json\", {}", publisher("trailofbits/pypi-attestation-models")),
        foreign: format!("bundle: \"${{uri}}.sigstore.json\", {}", publisher("trailofbits/other")),
        holds: vec![
            ("issuer", json!("https://token.actions.githubusercontent.com")),
            ("repository", json!("https://github.com/trailofbits/pypi-attestation-models")),
            ("bundleSha256", json!(sha256_hex(BUNDLE))),
        ],
        in_debian: false,
    });
    kinds
}

/// Detached, beside the source and in Debian's archive, and a signed list of checksums.
fn openpgp(table: &Table, bytes: &[u8]) -> Vec<Kind> {
    let (key, other) = (ArchiveKey::generate(), ArchiveKey::generate());
    table.key("pinned.asc", &key.armored_public_key());
    table.key("other.asc", &other.armored_public_key());
    let sums = key.clear_sign(&format!("{}  {FILE}\n", sha256_hex(bytes)));
    let listed = |key: &str| format!("url: \"${{folder}}/SHA256SUMS\", signed-by: {{openpgp: {{keys: {key}}}}}");
    let detached = |key: &str| format!("signature: \"${{uri}}.asc\", keys: {key}");
    let in_debian = |key: &str| format!("keys: {key}");
    let signature = key.detach_sign(bytes).into_bytes();
    let one = |kind, name, beside, proof: &dyn Fn(&str) -> String, holds, in_debian| Kind {
        kind,
        name,
        file: FILE,
        bytes: bytes.to_vec(),
        beside,
        pinned: proof("pinned.asc"),
        foreign: proof("other.asc"),
        holds,
        in_debian,
    };
    let signer = ("signers/0/fingerprint", json!(key.fingerprint()));
    let list = vec![("digest", json!(sha256_hex(bytes))), ("signedBy/signers/0/fingerprint", json!(key.fingerprint()))];
    let signed = vec![signer, ("signatureSha256", json!(sha256_hex(&signature)))];
    vec![
        one("openpgp", "openpgp", (".asc", signature.clone()), &detached, signed.clone(), false),
        one("debian-upstream-signature", "upstream", (".asc", signature), &in_debian, signed, true),
        one("checksum-file", "checksums", ("SHA256SUMS", sums.into_bytes()), &listed, list, false),
    ]
}

fn minisign(folder: &Path, bytes: &[u8]) -> Option<Kind> {
    let generate = |name: &str| {
        let public = format!("{name}.pub");
        run(folder, "minisign", &["-G", "-W", "-p", &public, "-s", name], b"")?;
        let text = fs::read_to_string(folder.join(public)).unwrap();
        Some(text.lines().nth(1).unwrap().to_owned())
    };
    let (key, other) = (generate("minisign")?, generate("minisign-other")?);
    run(folder, "minisign", &["-S", "-s", "minisign", "-m", FILE, "-x", "minisig", "-t", "source 1.0"], b"")?;
    let proof = |key: &str| format!("signature: \"${{uri}}.minisig\", key: \"{key}\"");
    Some(Kind {
        kind: "minisign",
        name: "minisign",
        file: FILE,
        bytes: bytes.to_vec(),
        beside: (".minisig", fs::read(folder.join("minisig")).unwrap()),
        pinned: proof(&key),
        foreign: proof(&other),
        holds: vec![("key", json!(key)), ("trustedComment", json!("source 1.0"))],
        in_debian: false,
    })
}

fn signify(folder: &Path, bytes: &[u8]) -> Option<Kind> {
    let generate = |name: &str| {
        let (public, secret) = (format!("{name}.pub"), format!("{name}.sec"));
        run(folder, "signify-openbsd", &["-G", "-n", "-p", &public, "-s", &secret], b"")?;
        let text = fs::read_to_string(folder.join(public)).unwrap();
        Some(text.lines().nth(1).unwrap().to_owned())
    };
    let (key, other) = (generate("signify")?, generate("signify-other")?);
    run(folder, "signify-openbsd", &["-S", "-s", "signify.sec", "-m", FILE, "-x", "signify.sig"], b"")?;
    let proof = |key: &str| format!("signature: \"${{uri}}.sig\", key: \"{key}\"");
    Some(Kind {
        kind: "signify",
        name: "signify",
        file: FILE,
        bytes: bytes.to_vec(),
        beside: (".sig", fs::read(folder.join("signify.sig")).unwrap()),
        pinned: proof(&key),
        foreign: proof(&other),
        holds: vec![("key", json!(key))],
        in_debian: false,
    })
}
