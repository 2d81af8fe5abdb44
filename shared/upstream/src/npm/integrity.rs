//! Subresource integrity (W3C SRI), in which npm states what a tarball must be.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The SHA-512 of an integrity text, as lower-case hexadecimal and as it is written there. Other
/// algorithms prove nothing here: SHA-1 is broken, and the registry states SHA-512 for everything.
pub(super) fn sha512(integrity: &str) -> Option<(String, &str)> {
    integrity.split_ascii_whitespace().find_map(|part| {
        let text = part.strip_prefix("sha512-")?;
        // Options may follow a question mark.
        let encoded = text.split('?').next().unwrap_or_default();
        let digest = STANDARD.decode(encoded).ok().filter(|digest| digest.len() == 64)?;
        Some((hex::encode(digest), part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha_512_counts() {
        let digest = STANDARD.encode([7; 64]);
        let part = format!("sha512-{digest}");
        let both = format!("sha1-{} {part}", STANDARD.encode([1; 20]));
        assert_eq!(sha512(&both), Some(("07".repeat(64), part.as_str())));
        for text in ["", "sha1-AAAA", "sha512-", "sha512-AAAA", &format!("sha256-{digest}"), &digest] {
            assert_eq!(sha512(text), None, "{text}");
        }
    }
}
