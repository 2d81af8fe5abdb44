use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, pem};

use crate::Error;
use crate::settings::Certificate;
use crate::system::write;
use crate::tree::Tree;

/// Files that hold every trusted certificate; those that packages bring get the additional ones.
pub(crate) const BUNDLES: [&str; 2] =
    ["etc/ssl/certs/ca-certificates.crt", "var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"];
/// Where `update-ca-certificates` looks for certificates of one file each.
const DIRECTORY: &str = "usr/local/share/ca-certificates";
const LABEL: &str = "CERTIFICATE";

/// Adds certificates to the image's trust store: each as a file of its own and to every bundle.
pub(crate) fn install(
    tree: &mut Tree,
    captured: &BTreeMap<String, Vec<u8>>,
    certificates: &[Certificate],
    mtime: u64,
) -> Result<(), Error> {
    let mut added = String::new();
    for certificate in certificates {
        let (text, fingerprint) = parse(certificate)?;
        let path = format!("{DIRECTORY}/{}-{fingerprint}.crt", certificate.name);
        write(tree, &path, text.clone().into_bytes(), mtime)?;
        added.push_str(&text);
        added.push('\n');
    }
    if added.is_empty() {
        return Ok(());
    }
    for bundle in BUNDLES {
        let place = tree.follow(bundle).map_err(|problem| refused(bundle, problem))?;
        if let Some(known) = captured.get(&place) {
            let content = [known.as_slice(), added.as_bytes()].concat();
            write(tree, bundle, content, mtime)?;
        }
    }
    Ok(())
}

/// The certificate's PEM text without anything around it, and the SHA-256 of its DER form.
fn parse(certificate: &Certificate) -> Result<(String, String), Error> {
    let Certificate { name, content } = certificate;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(refused(name, "its name is letters, digits, `.`, `_` and `-`, and no `.` first"));
    }
    if content.matches("-----BEGIN ").count() != 1 {
        return Err(refused(name, "its content is one PEM block, no less and no more"));
    }
    let wrong = |error: &dyn std::fmt::Display| refused(name, format!("its content is no PEM certificate: {error}"));
    let (label, der) = pem::decode_vec(content.as_bytes()).map_err(|error| wrong(&error))?;
    if label != LABEL {
        return Err(refused(name, format!("expected a PEM block `{LABEL}`, found `{label}`")));
    }
    X509::from_der(&der).map_err(|error| wrong(&error))?;
    let text = pem::encode_string(LABEL, LineEnding::LF, &der).map_err(|error| wrong(&error))?;
    Ok((text, hex::encode(Sha256::digest(&der))))
}

fn refused(name: &str, problem: impl Into<String>) -> Error {
    Error::Setting { setting: "certificates.additional", value: name.to_owned(), problem: problem.into() }
}
