//! Signatures, attestations and their verification: DSSE, in-toto, sigstore bundles.
