use recipe::rules;
use sha2::{Digest, Sha256};
use x509_cert::Certificate as X509;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode, pem};

use crate::Error;
use crate::install::Installation;
use crate::java_store::JavaStore;
use crate::settings::{Certificate, Settings};
use crate::system::write;
use crate::tree::{Content, Kind};

/// Files that hold every trusted certificate; those that packages bring get the additional ones.
pub(crate) const BUNDLES: [&str; 2] =
    ["etc/ssl/certs/ca-certificates.crt", "var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem"];
/// Java's trust store, which gets them too where a package brings it.
pub(crate) const JAVA_STORE: &str = "etc/ssl/certs/java/cacerts";
/// Where `update-ca-certificates` looks for certificates of one file each.
const DIRECTORY: &str = "usr/local/share/ca-certificates";
/// Where packages have certificates that `update-ca-certificates` takes only if [`LIST`] names them.
const LISTED: &str = "usr/share/ca-certificates/";
pub(crate) const LIST: &str = "etc/ca-certificates.conf";
const LABEL: &str = "CERTIFICATE";

/// Adds certificates to the image's trust store: the additional ones each as a file of its own, and
/// these and those of packages that provide one of the stated names to every bundle and to Java's
/// store. What is changed has the time `mtime`.
pub(crate) fn install(installation: &mut Installation, settings: &Settings, mtime: u64) -> Result<(), Error> {
    let mut added = Vec::new();
    for certificate in &settings.certificates {
        let parsed = parse(certificate)?;
        let name = format!("{}-{}", certificate.name, parsed.fingerprint());
        let path = format!("{DIRECTORY}/{name}.crt");
        write(&mut installation.tree, &path, parsed.text.clone().into_bytes(), mtime)?;
        added.push((name, parsed));
    }
    let mut listed = String::new();
    for path in provided(installation, &settings.certificate_providers) {
        let content = installation.content(&path)?.unwrap_or_default();
        // As in apko, what is not one certificate is passed over: bundles and keys have these endings too.
        let Ok(parsed) = parse_content(&path, &String::from_utf8_lossy(&content)) else { continue };
        added.push((format!("pkg-{}", parsed.fingerprint()), parsed));
        if let Some(name) = path.strip_prefix(LISTED) {
            listed.push_str(name);
            listed.push('\n');
        }
    }
    if !listed.is_empty() {
        let known = installation.content(LIST)?.unwrap_or_default();
        change(installation, LIST, [known.as_slice(), listed.as_bytes()].concat(), mtime)?;
    }
    if added.is_empty() {
        return Ok(());
    }
    for bundle in BUNDLES {
        if let Some(mut content) = installation.content(bundle)? {
            for (_, certificate) in &added {
                content.extend_from_slice(certificate.text.as_bytes());
                content.push(b'\n');
            }
            change(installation, bundle, content, mtime)?;
        }
    }
    if let Some(content) = installation.content(JAVA_STORE)? {
        let failed = |problem| Error::Path {
            setting: "certificates: the Java trust store".to_owned(),
            path: format!("/{JAVA_STORE}"),
            problem,
        };
        let mut store = JavaStore::parse(&content).map_err(failed)?;
        for (name, certificate) in &added {
            store.trust(name, &certificate.der, mtime);
        }
        change(installation, JAVA_STORE, store.to_bytes(), mtime)?;
    }
    Ok(())
}

/// Writes a file and gives it the time.
fn change(installation: &mut Installation, path: &str, bytes: Vec<u8>, mtime: u64) -> Result<(), Error> {
    let tree = &mut installation.tree;
    write(tree, path, bytes, mtime)?;
    if let Some(node) = tree.file(path).ok().and_then(|place| tree.get_mut(&place)) {
        node.mtime = mtime;
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

/// A certificate's PEM text without anything around it, and its DER form.
struct Parsed {
    text: String,
    der: Vec<u8>,
}

impl Parsed {
    /// SHA-256 of the DER form.
    fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(&self.der))
    }
}

fn parse(certificate: &Certificate) -> Result<Parsed, Error> {
    let Certificate { name, content } = certificate;
    rules::file_name(name).map_err(|problem| refused(name, problem))?;
    parse_content(name, content)
}

fn parse_content(name: &str, content: &str) -> Result<Parsed, Error> {
    rules::one_pem(content, LABEL).map_err(|problem| refused(name, problem))?;
    let wrong = |error: &dyn std::fmt::Display| refused(name, format!("its content is no PEM certificate: {error}"));
    let (_, der) = pem::decode_vec(content.as_bytes()).map_err(|error| wrong(&error))?;
    X509::from_der(&der).map_err(|error| wrong(&error))?;
    let text = pem::encode_string(LABEL, LineEnding::LF, &der).map_err(|error| wrong(&error))?;
    Ok(Parsed { text, der })
}

fn refused(name: &str, problem: impl Into<String>) -> Error {
    Error::Setting { setting: "certificates.additional", value: name.to_owned(), problem: problem.into() }
}
