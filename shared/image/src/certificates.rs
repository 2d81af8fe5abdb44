use sha2::{Digest, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, pem};

use crate::Error;
use crate::install::Installation;
use crate::settings::{Certificate, Settings};
use crate::system::write;
use crate::tree::{Content, Kind};

/// Files that hold every trusted certificate; those that packages bring get the additional ones.
pub(crate) const BUNDLES: [&str; 2] =
    ["etc/ssl/certs/ca-certificates.crt", "var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"];
/// Where `update-ca-certificates` looks for certificates of one file each.
const DIRECTORY: &str = "usr/local/share/ca-certificates";
/// Where packages have certificates that `update-ca-certificates` takes only if [`LIST`] names them.
const LISTED: &str = "usr/share/ca-certificates/";
const LIST: &str = "etc/ca-certificates.conf";
const LABEL: &str = "CERTIFICATE";

/// Adds certificates to the image's trust store: the additional ones each as a file of its own, and
/// these and those of packages that provide one of the stated names to every bundle.
pub(crate) fn install(installation: &mut Installation, settings: &Settings, mtime: u64) -> Result<(), Error> {
    let mut added = String::new();
    for certificate in &settings.certificates {
        let (text, fingerprint) = parse(certificate)?;
        let path = format!("{DIRECTORY}/{}-{fingerprint}.crt", certificate.name);
        write(&mut installation.tree, &path, text.clone().into_bytes(), mtime)?;
        added.push_str(&text);
        added.push('\n');
    }
    let mut listed = String::new();
    for path in provided(installation, &settings.certificate_providers) {
        let content = installation.content(&path)?.unwrap_or_default();
        // As in apko, what is not one certificate is passed over: bundles and keys have these endings too.
        let Ok((text, _)) = parse_content(&path, &String::from_utf8_lossy(&content)) else { continue };
        added.push_str(&text);
        added.push('\n');
        if let Some(name) = path.strip_prefix(LISTED) {
            listed.push_str(name);
            listed.push('\n');
        }
    }
    if !listed.is_empty() {
        let known = installation.content(LIST)?.unwrap_or_default();
        write(&mut installation.tree, LIST, [known.as_slice(), listed.as_bytes()].concat(), mtime)?;
    }
    if added.is_empty() {
        return Ok(());
    }
    for bundle in BUNDLES {
        if let Some(known) = installation.content(bundle)? {
            write(&mut installation.tree, bundle, [known.as_slice(), added.as_bytes()].concat(), mtime)?;
        }
    }
    Ok(())
}

/// The paths, sorted, of the `.crt` and `.pem` files of packages that provide one of the names.
fn provided(installation: &Installation, names: &[String]) -> Vec<String> {
    let provides = |number: usize| {
        let package = installation.packages.get(number);
        package.is_some_and(|package| package.information.provides.iter().any(|provided| names.contains(provided)))
    };
    let files = installation.tree.iter().filter(|(path, node)| match node.kind {
        Kind::File(Content::Package { package, .. }) => {
            [".crt", ".pem"].iter().any(|ending| path.ends_with(ending)) && provides(package)
        }
        _ => false,
    });
    files.map(|(path, _)| path.to_owned()).collect()
}

/// The certificate's PEM text without anything around it, and the SHA-256 of its DER form.
fn parse(certificate: &Certificate) -> Result<(String, String), Error> {
    let Certificate { name, content } = certificate;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(refused(name, "its name is letters, digits, `.`, `_` and `-`, and no `.` first"));
    }
    parse_content(name, content)
}

fn parse_content(name: &str, content: &str) -> Result<(String, String), Error> {
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
