use std::collections::BTreeSet;

/// The text with everything that an SPDX identifier can't hold replaced by `-`.
pub(crate) fn sanitised(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect()
}

/// The identifiers given out in one document.
#[derive(Default)]
pub(crate) struct Identifiers {
    taken: BTreeSet<String>,
}

impl Identifiers {
    /// An identifier `SPDXRef-KIND-TEXT` that this document doesn't hold yet. Texts that differ
    /// only in characters that SPDX can't hold get numbers, in the order in which they come.
    pub fn unique(&mut self, kind: &str, text: &str) -> String {
        self.claim(format!("SPDXRef-{kind}-{}", sanitised(text)))
    }

    /// The identifier itself if free, else the first free one of `ID-2`, `ID-3`, ...
    pub fn claim(&mut self, wanted: String) -> String {
        let mut candidate = wanted.clone();
        let mut number = 1_usize;
        while !self.taken.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{wanted}-{number}");
        }
        candidate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_collide_get_numbers() {
        let mut identifiers = Identifiers::default();
        assert_eq!(identifiers.unique("File", "a_b"), "SPDXRef-File-a-b");
        assert_eq!(identifiers.unique("File", "a+b"), "SPDXRef-File-a-b-2");
        assert_eq!(identifiers.unique("File", "a-b-2"), "SPDXRef-File-a-b-2-2");
    }
}
