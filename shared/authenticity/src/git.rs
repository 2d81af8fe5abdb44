//! Signed git tags and commits. The object's id is made anew from its bytes, so that what a server
//! says of them does not matter.

use jiff::Timestamp;
use sha1_checked::Sha1;
use sha2::{Digest, Sha256};
use ssh_key::{HashAlg, PublicKey, SshSig, public::KeyData};

use crate::error::{Error, Result};
use crate::evidence::Evidence;
use crate::keyring::{Judged, Keyring};
use crate::openpgp::verify_detached;

const OBJECT: &str = "git object";
const LONGEST_OBJECT: usize = 1024 * 1024;
const LONGEST_SIGNERS: usize = 1024 * 1024;
const SSH_NAMESPACE: &str = "git";
const SSH_SIGNATURE: &str = "SSH signature";
const SHORTEST_RSA_BYTES: usize = 256;
const BEGINNINGS: [&[u8]; 3] =
    [b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN SSH SIGNATURE-----"];

/// The kinds of git objects that are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectKind {
    /// An annotated tag.
    Tag,
    /// A commit.
    Commit,
}

impl ObjectKind {
    fn name(self) -> &'static str {
        match self {
            Self::Tag => "tag",
            Self::Commit => "commit",
        }
    }
}

/// Keys that may sign tags and commits.
#[derive(Debug, Default)]
pub struct GitKeys {
    /// OpenPGP keys.
    pub openpgp: Option<Keyring>,
    /// SSH keys.
    pub ssh: Option<SshSigners>,
}

/// The id of a git object: SHA-1, with collisions refused, or SHA-256 where `digits` is 64.
///
/// # Errors
/// [`Error::Collision`].
pub fn object_id(kind: ObjectKind, object: &[u8], digits: usize) -> Result<String> {
    let header = format!("{} {}\0", kind.name(), object.len());
    if digits == 64 {
        return Ok(hex::encode(Sha256::new().chain_update(header).chain_update(object).finalize()));
    }
    let mut hash = Sha1::new();
    sha1_checked::Digest::update(&mut hash, header.as_bytes());
    sha1_checked::Digest::update(&mut hash, object);
    let result = hash.try_finalize();
    let id = hex::encode(result.hash());
    if result.has_collision() { Err(Error::Collision { id }) } else { Ok(id) }
}

/// Proves `commit`, a full id, by the raw bytes of the tag that names it, or by its own: they must
/// be signed by a pinned key, lead to that commit, and, for a tag, be called `tag`.
///
/// # Errors
/// [`Error::Malformed`], [`Error::TooLarge`], [`Error::Collision`], [`Error::GitTarget`],
/// [`Error::NotSigned`], [`Error::Signature`].
pub fn verify_git(
    kind: ObjectKind,
    object: &[u8],
    commit: &str,
    tag: Option<&str>,
    keys: &GitKeys,
    now: Timestamp,
) -> Result<Evidence> {
    if object.len() > LONGEST_OBJECT {
        return Err(Error::TooLarge { what: OBJECT, limit: LONGEST_OBJECT as u64 });
    }
    let id = object_id(kind, object, commit.len())?;
    let fields = header(object)?;
    let field = |name: &str| {
        let mut values = fields.iter().filter(|(key, _)| *key == name.as_bytes());
        let (_, value) = values.next()?;
        // A second one is for readers that take another than git does.
        values.next().is_none().then(|| String::from_utf8_lossy(value).into_owned())
    };
    let expect = |what: &'static str, expected: &str, found: Option<String>| match found {
        Some(found) if found == expected => Ok(()),
        found => Err(Error::GitTarget {
            kind: kind.name(),
            field: what,
            expected: expected.to_owned(),
            found: found.unwrap_or_default(),
        }),
    };
    let (time, (payload, signature)) = match kind {
        ObjectKind::Tag => {
            expect("object", commit, field("object"))?;
            expect("type", "commit", field("type"))?;
            if let Some(tag) = tag {
                expect("tag", tag, field("tag"))?;
            }
            (field("tagger"), split_tag(object))
        }
        ObjectKind::Commit => {
            expect("id", commit, Some(id.clone()))?;
            (field("committer"), split_commit(object, commit.len()))
        }
    };
    if signature.is_empty() {
        return Err(Error::NotSigned { kind: kind.name(), id });
    }
    let made = time.as_deref().and_then(time_of);
    let signers = if signature.starts_with(b"-----BEGIN SSH") {
        let signers = keys.ssh.as_ref();
        let signers = signers.ok_or_else(|| Error::signature(SSH_SIGNATURE, "no SSH key is pinned"))?;
        vec![signers.verify(&payload, &signature, made)?]
    } else {
        let keyring = keys.openpgp.as_ref();
        let keyring = keyring.ok_or_else(|| Error::signature("OpenPGP signature", "no OpenPGP key is pinned"))?;
        match verify_detached(keyring, &signature, payload.as_slice(), Judged::AtSigning, now)? {
            Evidence::Openpgp { signers, .. } => signers.into_iter().map(|signer| signer.fingerprint).collect(),
            _ => Vec::new(),
        }
    };
    Ok(Evidence::Git {
        object: kind.name().to_owned(),
        id,
        commit: commit.to_owned(),
        tag: tag.map(str::to_owned).or_else(|| field("tag")).unwrap_or_default(),
        signers,
    })
}

/// The fields before the empty line; continued lines belong to their field and are left out.
fn header(object: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let mut fields = Vec::new();
    for line in object.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            return Ok(fields);
        }
        if line.starts_with(b" ") {
            continue;
        }
        let space = line.iter().position(|byte| *byte == b' ');
        let parts = space.and_then(|at| Some((line.get(..at)?, line.get(at + 1..)?)));
        fields.push(parts.ok_or_else(|| Error::malformed(OBJECT, "a line of its header has no value"))?);
    }
    Err(Error::malformed(OBJECT, "its header has no end"))
}

/// A tag's signed bytes and its signature, which begins at the last line that can begin one.
fn split_tag(object: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut start = None;
    let mut at = 0;
    for line in object.split_inclusive(|byte| *byte == b'\n') {
        if BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)) {
            start = Some(at);
        }
        at += line.len();
    }
    let (payload, signature) = start.and_then(|start| object.split_at_checked(start)).unwrap_or((object, &[]));
    (payload.to_vec(), signature.to_vec())
}

/// A commit's bytes without its signature fields, and the one that signs this form of ids.
fn split_commit(object: &[u8], digits: usize) -> (Vec<u8>, Vec<u8>) {
    let wanted: &[u8] = if digits == 64 { b"gpgsig-sha256 " } else { b"gpgsig " };
    let (mut payload, mut signature) = (Vec::new(), Vec::new());
    let (mut in_header, mut skipping, mut taking) = (true, false, false);
    for line in object.split_inclusive(|byte| *byte == b'\n') {
        if in_header {
            if line == b"\n" {
                in_header = false;
            } else if line.starts_with(b" ") && skipping {
                if taking {
                    signature.extend_from_slice(line.get(1..).unwrap_or_default());
                }
                continue;
            } else if line.starts_with(b"gpgsig ") || line.starts_with(b"gpgsig-sha256 ") {
                skipping = true;
                taking = line.starts_with(wanted);
                if taking {
                    signature.extend_from_slice(line.strip_prefix(wanted).unwrap_or_default());
                }
                continue;
            } else {
                skipping = false;
            }
        }
        payload.extend_from_slice(line);
    }
    (payload, signature)
}

/// Seconds since 1970 in `NAME <MAIL> SECONDS ZONE`.
fn time_of(person: &str) -> Option<i64> {
    person.rsplit_once("> ")?.1.split(' ').next()?.parse().ok()
}

/// SSH keys that may sign, as `ssh-keygen` reads them (ssh-keygen(1), "ALLOWED SIGNERS").
#[derive(Debug, Clone)]
pub struct SshSigners {
    signers: Vec<SshSigner>,
}

#[derive(Debug, Clone)]
struct SshSigner {
    key: PublicKey,
    after: Option<i64>,
    before: Option<i64>,
}

impl SshSigners {
    /// Reads an `allowed_signers` file; lines of a public key alone do too. Of the options,
    /// `namespaces`, `valid-after` and `valid-before` are known; times are UTC.
    ///
    /// # Errors
    /// [`Error::Key`] names file and line.
    pub fn parse(origin: &str, text: &str) -> Result<Self> {
        if text.len() > LONGEST_SIGNERS {
            return Err(Error::TooLarge { what: "file of SSH keys", limit: LONGEST_SIGNERS as u64 });
        }
        let mut signers = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |reason: String| Error::key(&format!("{origin}:{}", number + 1), reason);
            signers.extend(SshSigner::parse(line).map_err(refuse)?);
        }
        if signers.is_empty() {
            return Err(Error::key(origin, "it names no SSH key that may sign for git"));
        }
        Ok(Self { signers })
    }

    /// These signers and others.
    pub fn and(mut self, others: Self) -> Self {
        self.signers.extend(others.signers);
        self
    }

    /// Verifies a signature over a git object's bytes, made at `made`, and answers the key's
    /// fingerprint.
    fn verify(&self, payload: &[u8], signature: &[u8], made: Option<i64>) -> Result<String> {
        let parsed = SshSig::from_pem(signature).map_err(|error| Error::malformed(SSH_SIGNATURE, error))?;
        let fingerprint = PublicKey::from(parsed.public_key().clone()).fingerprint(HashAlg::Sha256).to_string();
        let bad = |reason: &str| Error::signature(SSH_SIGNATURE, format!("{fingerprint}: {reason}"));
        let mut reason = bad("not a pinned key");
        for signer in self.signers.iter().filter(|signer| signer.key.key_data() == parsed.public_key()) {
            if let Err(error) = signer.key.verify(SSH_NAMESPACE, payload, &parsed) {
                return Err(bad(&format!("bad signature: {error}")));
            }
            let in_time = match (signer.after, signer.before, made) {
                (None, None, _) => true,
                (after, before, Some(made)) => {
                    after.is_none_or(|after| made >= after) && before.is_none_or(|before| made < before)
                }
                _ => false,
            };
            if in_time {
                return Ok(fingerprint);
            }
            reason = bad("the key was not valid when it signed");
        }
        Err(reason)
    }
}

impl SshSigner {
    /// One line; nothing when it is for another namespace.
    fn parse(line: &str) -> Result<Option<Self>, String> {
        let mut words = words(line)?.into_iter();
        let mut first = words.next().unwrap_or_default();
        let mut options = String::new();
        if !is_key_type(&first) {
            // The principals don't matter here: whoever is listed may sign.
            first = words.next().unwrap_or_default();
            if !is_key_type(&first) {
                options = first;
                first = words.next().unwrap_or_default();
            }
        }
        let data = words.next().unwrap_or_default();
        let key = PublicKey::from_openssh(&format!("{first} {data}")).map_err(|error| error.to_string())?;
        if let KeyData::Rsa(rsa) = key.key_data()
            && rsa.n.as_positive_bytes().is_none_or(|bytes| bytes.len() < SHORTEST_RSA_BYTES)
        {
            return Err("an RSA key of fewer than 2048 bits is too weak".to_owned());
        }
        let mut signer = Self { key, after: None, before: None };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("namespaces", list)) => {
                    if !list.split(';').any(|namespace| namespace == SSH_NAMESPACE || namespace == "*") {
                        return Ok(None);
                    }
                }
                Some(("valid-after", time)) => signer.after = Some(time_of_option(time)?),
                Some(("valid-before", time)) => signer.before = Some(time_of_option(time)?),
                _ => {
                    return Err(format!(
                        "option `{option}` is not known; there are `namespaces`, `valid-after` and `valid-before`"
                    ));
                }
            }
        }
        Ok(Some(signer))
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|start| word.starts_with(start)) && !word.contains('@')
        || word.ends_with("@openssh.com") && word.starts_with("sk-")
}

/// The words of a line. Quotes hold blanks together, and make commas in them `;`, so that options
/// can be split.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if quoted => word.push(';'),
            ' ' | '\t' if !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => word.push(other),
        }
    }
    if quoted {
        return Err("a quote is not closed".to_owned());
    }
    words.push(word);
    Ok(words)
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, with or without `Z`.
fn time_of_option(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is not a time like `20260131` or `202601312359`");
    let digits = text.trim_end_matches('Z');
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let part = |range: std::ops::Range<usize>| digits.get(range).and_then(|part| part.parse::<i16>().ok()).unwrap_or(0);
    let small = |range: std::ops::Range<usize>| i8::try_from(part(range)).unwrap_or(0);
    let time =
        jiff::civil::DateTime::new(part(0..4), small(4..6), small(6..8), small(8..10), small(10..12), small(12..14), 0);
    let time = time.and_then(|time| jiff::tz::Offset::UTC.to_timestamp(time)).map_err(|_| wrong())?;
    Ok(time.as_second())
}
