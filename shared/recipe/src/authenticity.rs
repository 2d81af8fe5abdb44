//! Minimill's own `authenticity/NAME.yaml`: how a package's sources must be proved.

use crate::decode::{Fields, text};
use crate::error::{Error, nearest};
use crate::text::{Location, Text};
use crate::yaml::{self, Node};

/// How the sources of a package must be proved to be what their authors released: the
/// `authenticity/NAME.yaml` beside the catalog's packages.
///
/// ```yaml
/// policy: required                 # or preferred
/// all: false                       # every proof must hold, instead of one
/// sources: all                     # or first: the others by their digests alone
/// proofs:
///   - openpgp: {signature: "${uri}.asc", keys: [nginx.asc], fingerprints: ["ABCD ..."]}
///   - minisign: {signature: "${uri}.minisig", key: RWQ...}
///   - signify: {signature: "${uri}.sig", key: RWQ...}
///   - git-tag: {keys: [linus.asc], ssh-signers: [allowed_signers]}
///   - checksum-file: {url: "${folder}/SHA256SUMS", signed-by: {openpgp: {keys: [up.asc]}}}
///   - pypi-attestation: {publisher: {kind: GitHub, repository: pallets/flask, workflow: publish.yaml}}
///   - sigstore: {bundle: "${uri}.sigstore.json", publisher: {kind: Google, email: up@example.org}}
///   - debian-upstream-signature: {keys: [musl.asc]}
///   - npm-signature: {keys: npm.json}  # as the registry answers at /-/npm/v1/keys; else its own
///   - debian-archive
/// ```
///
/// Keys are files in `authenticity/keys/`, never fetched. In addresses `${uri}` stands for the
/// source's own, `${folder}` and `${file}` for its two parts, `${version}` for the package's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthenticityPolicy {
    /// The name of the file, for messages.
    pub file: String,
    /// Whether a source without proof stops the build. A wrong one always does.
    pub required: bool,
    /// Whether all proofs must hold, instead of one.
    pub all: bool,
    /// Whether only the first source must be proved.
    pub first_only: bool,
    /// The proofs; at least one.
    pub proofs: Vec<Proof>,
}

/// One way to prove a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A detached OpenPGP signature.
    OpenPgp {
        /// Address of the signature.
        signature: Text,
        /// Who may sign.
        keys: OpenPgpKeys,
    },
    /// A minisign signature.
    Minisign {
        /// Address of the signature.
        signature: Text,
        /// The key, as its base64.
        key: Text,
    },
    /// A signify signature.
    Signify {
        /// Address of the signature.
        signature: Text,
        /// The key, as its base64.
        key: Text,
    },
    /// Upstream's OpenPGP signature, which Debian's archive keeps beside the source.
    DebianUpstreamSignature {
        /// Who may sign.
        keys: OpenPgpKeys,
    },
    /// The signed tag of a git source, or its signed commit.
    GitTag {
        /// Who may sign with OpenPGP.
        keys: OpenPgpKeys,
        /// Files of SSH keys that may sign.
        ssh_signers: Vec<Text>,
    },
    /// A checksum file, signed by the proof within.
    ChecksumFile {
        /// Address of the checksum file.
        url: Text,
        /// How it is signed.
        signed_by: SignedBy,
    },
    /// An attestation (PEP 740) of the Python index.
    PypiAttestation {
        /// Who must have published.
        publisher: PublisherPin,
        /// File of the trusted authorities; the public ones when absent.
        trusted_root: Option<Text>,
    },
    /// A sigstore bundle beside the file.
    Sigstore {
        /// Address of the bundle.
        bundle: Text,
        /// Who must have signed.
        publisher: PublisherPin,
        /// File of the trusted authorities; the public ones when absent.
        trusted_root: Option<Text>,
    },
    /// The npm registry's signature.
    NpmSignature {
        /// File of the keys that may sign; those that the configured registry publishes when absent.
        keys: Option<Text>,
    },
    /// The own proof of the ecosystem that the source comes from.
    Ecosystem(Ecosystem),
}

/// OpenPGP keys that may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenPgpKeys {
    /// Key files.
    pub files: Vec<Text>,
    /// Only keys of these fingerprints, when there are any.
    pub fingerprints: Vec<Text>,
}

/// How a checksum file is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignedBy {
    /// With OpenPGP: beside it, or in the clear when there is no address.
    OpenPgp {
        /// Address of the signature.
        signature: Option<Text>,
        /// Who may sign.
        keys: OpenPgpKeys,
    },
    /// With minisign.
    Minisign {
        /// Address of the signature.
        signature: Text,
        /// The key.
        key: Text,
    },
    /// With signify: beside it, or in front of it when there is no address.
    Signify {
        /// Address of the signature.
        signature: Option<Text>,
        /// The key.
        key: Text,
    },
}

/// An identity that a sigstore certificate must be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublisherPin {
    /// A workflow on GitHub.
    GitHub {
        /// `OWNER/NAME`.
        repository: Text,
        /// File of the workflow.
        workflow: Option<Text>,
        /// Deployment environment.
        environment: Option<Text>,
    },
    /// A pipeline on GitLab.
    GitLab {
        /// `GROUP/NAME`.
        repository: Text,
        /// File of the pipeline.
        workflow: Option<Text>,
    },
    /// A Google account.
    Google {
        /// Its address.
        email: Text,
    },
    /// Any other.
    Identity {
        /// The certificate's subject.
        identity: Text,
        /// Who vouches for it.
        issuer: Text,
    },
}

/// Ecosystems with a proof of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ecosystem {
    /// cargo's index states the checksum.
    CratesIndex,
    /// The archive's signed release file leads to the digest.
    DebianArchive,
    /// The registry signed the package's integrity.
    NpmSignature,
    /// The Python index states the digest.
    PypiDigest,
}

impl Ecosystem {
    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::CratesIndex => "crates-index",
            Self::DebianArchive => "debian-archive",
            Self::NpmSignature => "npm-signature",
            Self::PypiDigest => "pypi-digest",
        }
    }
}

impl Proof {
    /// Its kind, as policies name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OpenPgp { .. } => "openpgp",
            Self::Minisign { .. } => "minisign",
            Self::Signify { .. } => "signify",
            Self::DebianUpstreamSignature { .. } => "debian-upstream-signature",
            Self::GitTag { .. } => "git-tag",
            Self::ChecksumFile { .. } => "checksum-file",
            Self::PypiAttestation { .. } => "pypi-attestation",
            Self::Sigstore { .. } => "sigstore",
            Self::NpmSignature { .. } => Ecosystem::NpmSignature.name(),
            Self::Ecosystem(ecosystem) => ecosystem.name(),
        }
    }

    /// Key files that it names.
    pub fn key_files(&self) -> Vec<&Text> {
        match self {
            Self::OpenPgp { keys, .. } | Self::DebianUpstreamSignature { keys } => keys.files.iter().collect(),
            Self::GitTag { keys, ssh_signers } => keys.files.iter().chain(ssh_signers).collect(),
            Self::ChecksumFile { signed_by: SignedBy::OpenPgp { keys, .. }, .. } => keys.files.iter().collect(),
            Self::PypiAttestation { trusted_root, .. } | Self::Sigstore { trusted_root, .. } => {
                trusted_root.iter().collect()
            }
            Self::NpmSignature { keys } => keys.iter().collect(),
            _ => Vec::new(),
        }
    }
}

const KINDS: &[&str] = &[
    "openpgp",
    "minisign",
    "signify",
    "debian-upstream-signature",
    "git-tag",
    "checksum-file",
    "pypi-attestation",
    "sigstore",
    "crates-index",
    "debian-archive",
    "npm-signature",
    "pypi-digest",
];
const SIGNED_BY: &[&str] = &["openpgp", "minisign", "signify"];
const PUBLISHERS: &[&str] = &["GitHub", "GitLab", "Google", "Identity"];
const VARIABLES: &[&str] = &["uri", "folder", "file", "version"];

impl AuthenticityPolicy {
    /// Reads a policy file. `file` is the name that errors give.
    ///
    /// # Errors
    ///
    /// Not YAML, past a bound, an unknown key, kind or variable, a missing key or a value that can't be, each
    /// with its line and column.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let node = yaml::parse(text, file)?;
        let fields = Fields::open(&node, file, "", &["policy", "all", "sources", "proofs"])?;
        let policy = fields.required_text("policy")?;
        let required = one_of(&fields, "policy", &policy, &[("required", true), ("preferred", false)])?;
        let first_only = match fields.text("sources")? {
            None => false,
            Some(sources) => one_of(&fields, "sources", &sources, &[("all", false), ("first", true)])?,
        };
        let proofs = fields.list("proofs", |node, path| proof(node, file, path))?;
        if proofs.is_empty() {
            return Err(fields.missing("proofs"));
        }
        Ok(Self { file: file.to_owned(), required, all: fields.flag("all")?, first_only, proofs })
    }
}

fn one_of<T: Copy>(fields: &Fields<'_>, field: &str, value: &Text, known: &[(&str, T)]) -> Result<T, Error> {
    let found = known.iter().find(|(name, _)| *name == value.value).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        fields.invalid(field, value, format!("expected {}", names.join(" or ")))
    })
}

/// The kind and the options of a mapping of one key, or of a kind alone.
fn kind<'a>(node: &'a Node, file: &'a str, path: &str, known: &[&str]) -> Result<(Text, Option<&'a Node>), Error> {
    if matches!(node.value, yaml::Value::Scalar { .. }) {
        let kind = text(node, file, path)?;
        return if known.contains(&kind.as_str()) { Ok((kind, None)) } else { Err(unknown(&kind, file, path, known)) };
    }
    let fields = Fields::open(node, file, path, known)?;
    match fields.entries() {
        [(kind, options)] => Ok((kind.clone(), Some(options))),
        [_, (second, _), ..] => Err(Error::Invalid {
            location: Location::new(file, second.position),
            field: path.to_owned(),
            value: second.value.clone(),
            reason: "one kind is expected; begin another entry for it".to_owned(),
        }),
        [] => Err(fields.missing("openpgp")),
    }
}

fn unknown(key: &Text, file: &str, section: &str, known: &[&str]) -> Error {
    Error::UnknownKey {
        location: Location::new(file, key.position),
        key: key.value.clone(),
        section: format!("`{section}`"),
        nearest: nearest(key, known.iter().copied()),
    }
}

fn proof(node: &Node, file: &str, path: &str) -> Result<Proof, Error> {
    let (name, options) = kind(node, file, path, KINDS)?;
    let path = format!("{path}.{name}");
    let nothing = Node { position: node.position, value: yaml::Value::Mapping(Vec::new()) };
    let options = options.unwrap_or(&nothing);
    let open = |known: &[&str]| Fields::open(options, file, &path, known);
    Ok(match name.as_str() {
        "openpgp" => {
            let fields = open(&["signature", "keys", "fingerprints"])?;
            Proof::OpenPgp { signature: address(&fields, "signature")?, keys: openpgp_keys(&fields)? }
        }
        "minisign" => {
            let fields = open(&["signature", "key"])?;
            Proof::Minisign { signature: address(&fields, "signature")?, key: fields.required_text("key")? }
        }
        "signify" => {
            let fields = open(&["signature", "key"])?;
            Proof::Signify { signature: address(&fields, "signature")?, key: fields.required_text("key")? }
        }
        "debian-upstream-signature" => {
            Proof::DebianUpstreamSignature { keys: openpgp_keys(&open(&["keys", "fingerprints"])?)? }
        }
        "git-tag" => {
            let fields = open(&["keys", "fingerprints", "ssh-signers"])?;
            let ssh_signers = key_files(&fields, "ssh-signers")?;
            let keys = match ssh_signers.is_empty() || fields.node("keys").is_some() {
                true => openpgp_keys(&fields)?,
                false => OpenPgpKeys::default(),
            };
            Proof::GitTag { keys, ssh_signers }
        }
        "checksum-file" => {
            let fields = open(&["url", "signed-by"])?;
            let signed = fields.node("signed-by").ok_or_else(|| fields.missing("signed-by"))?;
            Proof::ChecksumFile {
                url: address(&fields, "url")?,
                signed_by: signed_by(signed, file, &fields.path("signed-by"))?,
            }
        }
        "pypi-attestation" => {
            let fields = open(&["publisher", "trusted-root"])?;
            Proof::PypiAttestation {
                publisher: publisher(&fields, file)?,
                trusted_root: key_file(&fields, "trusted-root")?,
            }
        }
        "sigstore" => {
            let fields = open(&["bundle", "publisher", "trusted-root"])?;
            Proof::Sigstore {
                bundle: address(&fields, "bundle")?,
                publisher: publisher(&fields, file)?,
                trusted_root: key_file(&fields, "trusted-root")?,
            }
        }
        "npm-signature" => Proof::NpmSignature { keys: key_file(&open(&["keys"])?, "keys")? },
        other => {
            open(&[])?;
            Proof::Ecosystem(match other {
                "crates-index" => Ecosystem::CratesIndex,
                "debian-archive" => Ecosystem::DebianArchive,
                _ => Ecosystem::PypiDigest,
            })
        }
    })
}

fn signed_by(node: &Node, file: &str, path: &str) -> Result<SignedBy, Error> {
    let (name, options) = kind(node, file, path, SIGNED_BY)?;
    let path = format!("{path}.{name}");
    let nothing = Node { position: node.position, value: yaml::Value::Mapping(Vec::new()) };
    let options = options.unwrap_or(&nothing);
    let optional = |fields: &Fields<'_>| match fields.node("signature") {
        Some(_) => address(fields, "signature").map(Some),
        None => Ok(None),
    };
    Ok(match name.as_str() {
        "openpgp" => {
            let fields = Fields::open(options, file, &path, &["signature", "keys", "fingerprints"])?;
            SignedBy::OpenPgp { signature: optional(&fields)?, keys: openpgp_keys(&fields)? }
        }
        "minisign" => {
            let fields = Fields::open(options, file, &path, &["signature", "key"])?;
            SignedBy::Minisign { signature: address(&fields, "signature")?, key: fields.required_text("key")? }
        }
        _ => {
            let fields = Fields::open(options, file, &path, &["signature", "key"])?;
            SignedBy::Signify { signature: optional(&fields)?, key: fields.required_text("key")? }
        }
    })
}

fn openpgp_keys(fields: &Fields<'_>) -> Result<OpenPgpKeys, Error> {
    let files = key_files(fields, "keys")?;
    if files.is_empty() {
        return Err(fields.missing("keys"));
    }
    Ok(OpenPgpKeys { files, fingerprints: fields.text_or_texts("fingerprints")? })
}

/// Names of files in the folder of keys.
fn key_files(fields: &Fields<'_>, key: &str) -> Result<Vec<Text>, Error> {
    let files = fields.text_or_texts(key)?;
    for file in &files {
        if file.is_empty() || file.starts_with('.') || file.contains(['/', '\\', '\0']) {
            let reason = "the name of a file in `authenticity/keys` is expected; keys are never fetched";
            return Err(fields.invalid(key, file, reason));
        }
    }
    Ok(files)
}

/// The name of at most one file in the folder of keys.
fn key_file(fields: &Fields<'_>, key: &str) -> Result<Option<Text>, Error> {
    let mut files = key_files(fields, key)?.into_iter();
    let first = files.next();
    match files.next() {
        None => Ok(first),
        Some(second) => Err(fields.invalid(key, &second, "one file is expected; put everything into it")),
    }
}

fn publisher(fields: &Fields<'_>, file: &str) -> Result<PublisherPin, Error> {
    let node = fields.node("publisher").ok_or_else(|| fields.missing("publisher"))?;
    let path = fields.path("publisher");
    let any = Fields::open_any(node, file, &path)?;
    let kind = any.required_text("kind")?;
    let open = |known: &[&str]| Fields::open(node, file, &path, known);
    Ok(match kind.as_str() {
        "GitHub" => {
            let fields = open(&["kind", "repository", "workflow", "environment"])?;
            PublisherPin::GitHub {
                repository: fields.required_text("repository")?,
                workflow: fields.text("workflow")?,
                environment: fields.text("environment")?,
            }
        }
        "GitLab" => {
            let fields = open(&["kind", "repository", "workflow"])?;
            PublisherPin::GitLab { repository: fields.required_text("repository")?, workflow: fields.text("workflow")? }
        }
        "Google" => {
            let fields = open(&["kind", "email"])?;
            PublisherPin::Google { email: fields.required_text("email")? }
        }
        "Identity" => {
            let fields = open(&["kind", "identity", "issuer"])?;
            PublisherPin::Identity {
                identity: fields.required_text("identity")?,
                issuer: fields.required_text("issuer")?,
            }
        }
        _ => return Err(any.invalid("kind", &kind, format!("expected one of {}", PUBLISHERS.join(", ")))),
    })
}

/// An address with the variables that addresses may have.
fn address(fields: &Fields<'_>, key: &str) -> Result<Text, Error> {
    let value = fields.required_text(key)?;
    let mut rest = value.as_str();
    while let Some((_, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        if !VARIABLES.contains(&name) {
            let known: Vec<String> = VARIABLES.iter().map(|name| format!("`${{{name}}}`")).collect();
            return Err(fields.invalid(key, &value, format!("`${{{name}}}` is not one of {}", known.join(", "))));
        }
        rest = after;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_proof_is_read() {
        let text = r#"
policy: required
all: true
sources: first
proofs:
  - openpgp: {signature: "${uri}.asc", keys: [a.asc, b.asc], fingerprints: ["AAAA BBBB"]}
  - minisign: {signature: "${uri}.minisig", key: RWQ1}
  - signify: {signature: "${folder}/${file}.sig", key: RWQ2}
  - git-tag: {ssh-signers: allowed_signers}
  - debian-upstream-signature: {keys: a.asc}
  - git-tag: {keys: a.asc, fingerprints: AA}
  - checksum-file: {url: "${folder}/SHA256SUMS", signed-by: {openpgp: {keys: [a.asc]}}}
  - checksum-file:
      url: https://example.org/${version}/SHA256
      signed-by: {signify: {key: RWQ3}}
  - pypi-attestation:
      publisher: {kind: GitHub, repository: a/b, workflow: publish.yaml, environment: pypi}
  - sigstore: {bundle: "${uri}.sigstore.json", publisher: {kind: Google, email: a@example.org}, trusted-root: r.json}
  - crates-index
  - debian-archive:
  - npm-signature: {}
  - npm-signature: {keys: npm.json}
  - pypi-digest
"#;
        let policy = AuthenticityPolicy::parse(text, "a.yaml").unwrap();
        assert!(policy.required && policy.all && policy.first_only);
        let kinds: Vec<&str> = policy.proofs.iter().map(Proof::kind).collect();
        assert_eq!(kinds.len(), 15);
        assert_eq!(kinds[3], "git-tag");
        let files: Vec<String> =
            policy.proofs.iter().flat_map(Proof::key_files).map(|file| file.value.clone()).collect();
        assert_eq!(files, ["a.asc", "b.asc", "allowed_signers", "a.asc", "a.asc", "a.asc", "r.json", "npm.json"]);
        let preferred = AuthenticityPolicy::parse("policy: preferred\nproofs: [pypi-digest]\n", "a.yaml").unwrap();
        assert!(!preferred.required && !preferred.all && !preferred.first_only);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("proofs: [pypi-digest]\n", "a.yaml:1:1: the definition needs `policy`"),
            ("policy: required\n", "needs `proofs`"),
            ("policy: must\nproofs: [pypi-digest]\n", "a.yaml:1:9: `policy` is `must`: expected `required`"),
            (
                "policy: required\nprofs: []\n",
                "a.yaml:2:1: unknown key `profs` in the definition; did you mean `proofs`?",
            ),
            (
                "policy: required\nproofs: [opengpg]\n",
                "a.yaml:2:10: unknown key `opengpg` in `proofs[0]`; did you mean `openpgp`",
            ),
            (
                "policy: required\nproofs:\n  - openpgp: {signatur: x, keys: [a]}\n",
                "a.yaml:3:15: unknown key `signatur` in `proofs[0].openpgp`; did you mean `signature`?",
            ),
            ("policy: required\nproofs:\n  - openpgp: {signature: x}\n", "needs `keys`"),
            ("policy: required\nproofs:\n  - openpgp: {signature: x, keys: [../a]}\n", "never fetched"),
            ("policy: required\nproofs:\n  - openpgp: {signature: x, keys: ['https://a']}\n", "never fetched"),
            ("policy: required\nproofs:\n  - openpgp: {signature: \"${url}\", keys: [a]}\n", "`${url}` is not one of"),
            ("policy: required\nproofs:\n  - openpgp\n", "needs `signature`"),
            ("policy: required\nproofs:\n  - crates-index: {keys: []}\n", "unknown key `keys`"),
            ("policy: required\nproofs:\n  - crates-index:\n    pypi-digest:\n", "one kind is expected"),
            ("policy: required\nproofs:\n  - npm-signature: {keys: [a, b]}\n", "one file is expected"),
            (
                "policy: required\nproofs:\n  - pypi-attestation: {publisher: {kind: Git, repository: a/b}}\n",
                "expected one of GitHub",
            ),
            ("policy: required\nproofs:\n  - checksum-file: {url: x}\n", "needs `signed-by`"),
        ] {
            let error = AuthenticityPolicy::parse(text, "a.yaml").unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
