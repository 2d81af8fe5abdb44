//! Package versions: upstream version V gives `V-r0`; a rebuild of the same V raises the revision.

use ports::Digest;
use serde::{Deserialize, Serialize};

/// A version that a definition has been given. It is never given to another definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The upstream version, without a revision.
    pub upstream: String,
    /// The revision.
    pub revision: u32,
    /// Digest of the definition's text and of what it uses.
    pub definition: Digest,
}

impl Claim {
    /// The full version, `V-rN`.
    pub fn version(&self) -> String {
        format!("{}-r{}", self.upstream, self.revision)
    }
}

/// The version that a definition builds: the one it already has when no later revision of its
/// upstream version has been given, else the lowest revision that is not below its own `epoch` and
/// above every revision given before. So also a change that is taken back gets a revision, and
/// takes effect.
pub fn claim(upstream: &str, epoch: u32, definition: Digest, earlier: &[Claim]) -> Claim {
    let newest = earlier.iter().filter(|claim| claim.upstream == upstream).max_by_key(|claim| claim.revision);
    if let Some(own) = newest.filter(|claim| claim.definition == definition && claim.revision >= epoch) {
        return own.clone();
    }
    let next = newest.map_or(0, |claim| claim.revision.saturating_add(1));
    Claim { upstream: upstream.to_owned(), revision: next.max(epoch), definition }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(list: &[(&str, u32, &str)]) -> Vec<Claim> {
        list.iter()
            .map(|(upstream, revision, text)| Claim {
                upstream: (*upstream).to_owned(),
                revision: *revision,
                definition: Digest::of(text.as_bytes()),
            })
            .collect()
    }

    #[test]
    fn cases() {
        type Case<'a> = (&'a str, u32, &'a str, &'a [(&'a str, u32, &'a str)], &'a str);
        let cases: [Case<'_>; 7] = [
            ("1.2", 0, "a", &[], "1.2-r0"),
            ("1.2", 3, "a", &[], "1.2-r3"),
            ("1.2", 0, "a", &[("1.2", 0, "a")], "1.2-r0"),
            ("1.2", 0, "b", &[("1.2", 0, "a")], "1.2-r1"),
            ("1.2", 0, "a", &[("1.2", 0, "a"), ("1.2", 1, "b")], "1.2-r2"),
            ("1.3", 0, "b", &[("1.2", 7, "a")], "1.3-r0"),
            ("1.2", 4, "a", &[("1.2", 0, "a"), ("1.2", 6, "b")], "1.2-r7"),
        ];
        for (upstream, epoch, text, list, expected) in cases {
            let found = claim(upstream, epoch, Digest::of(text.as_bytes()), &earlier(list));
            assert_eq!(found.version(), expected, "{upstream} epoch {epoch} after {list:?}");
        }
    }
}
