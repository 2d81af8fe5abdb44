//! Trusting an identity instead of a key.

use std::{fmt, fs, path::Path};

use sign::{Digest, MAX_BUNDLE_BYTES, Statement, Trust, chain};
use sigstore_verify::{
    VerificationPolicy, Verifier,
    trust_root::TrustedRoot,
    types::{Bundle, Sha256Hash, SignatureContent},
};

use crate::{Error, Result, crypto};

/// The largest trusted root accepted, in bytes.
const MAX_ROOT_BYTES: u64 = 8 << 20;

/// Somebody whose signatures are trusted: who they are, who vouches for it, and which authorities
/// and logs count. Everything is checked offline: the certificate's chain at the time that the log
/// signed for, its identity and issuer, the entry's inclusion (RFC 6962) under a signed checkpoint,
/// the signed promise where there is one, and that the entry is about this very signature.
pub struct Identity {
    verifier: Verifier,
    policy: VerificationPolicy,
    require_sct: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Identity {
    /// Trusts certificates for `identity` (an e-mail address or URI, exactly as in the certificate)
    /// by `issuer` (the OIDC provider), under the authorities and logs of the sigstore
    /// `trusted_root.json` at `root`. Certificates must be in a certificate transparency log if
    /// the root names any.
    ///
    /// # Errors
    /// [`Error::TrustedRoot`].
    pub fn read(root: &Path, identity: &str, issuer: &str) -> Result<Self> {
        let wrong = |reason: String| Error::TrustedRoot { path: root.into(), reason };
        let size = fs::metadata(root).map_err(|error| wrong(error.to_string()))?.len();
        if size > MAX_ROOT_BYTES {
            return Err(wrong(format!("{size} bytes are more than {MAX_ROOT_BYTES}")));
        }
        let text = fs::read_to_string(root).map_err(|error| wrong(error.to_string()))?;
        crypto::install();
        let root = TrustedRoot::from_json(&text).map_err(|error| wrong(chain(&error)))?;
        if root.certificate_authorities.is_empty() || root.tlogs.is_empty() {
            return Err(wrong("it names no certificate authority or no transparency log".into()));
        }
        let verifier = Verifier::new(&root).map_err(|error| wrong(chain(&error)))?;
        let require_sct = !root.ctlogs.is_empty();
        let policy = VerificationPolicy::new(identity, issuer);
        let policy = if require_sct { policy } else { policy.skip_sct() };
        Ok(Self { verifier, policy, require_sct })
    }
}

impl Trust for Identity {
    fn statement(&self, bundle: &[u8], subject: Digest, predicate_type: &str) -> sign::Result<Statement> {
        let untrusted = |reason: String| sign::Error::Identity { reason };
        if bundle.len() > MAX_BUNDLE_BYTES {
            return Err(sign::Error::TooLarge { what: "the bundle", limit: MAX_BUNDLE_BYTES, found: bundle.len() });
        }
        let malformed = |reason: String| sign::Error::Malformed { what: "bundle", reason };
        let text = std::str::from_utf8(bundle).map_err(|error| malformed(error.to_string()))?;
        let parsed = Bundle::from_json(text).map_err(|error| malformed(chain(&error)))?;
        let SignatureContent::DsseEnvelope(envelope) = &parsed.content else {
            return Err(malformed("it signs a file, not a statement".into()));
        };
        // Read first, so that a statement about something else is named as that.
        let statement = Statement::parse(envelope.payload.as_bytes())?;
        statement.expect(subject, predicate_type)?;
        let digest = Sha256Hash::from_hex(&subject.hex()).map_err(|error| malformed(error.to_string()))?;
        let result = self.verifier.verify(digest, &parsed, &self.policy).map_err(|error| untrusted(chain(&error)))?;
        let complete = result.certificate_verified()
            && result.tlog_verified()
            && result.identity_policy_checked()
            && (result.sct_verified() || !self.require_sct);
        if !complete {
            return Err(untrusted("its certificate, identity and log entry are not all proved".into()));
        }
        Ok(statement)
    }
}
