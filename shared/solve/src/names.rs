use crate::arena::{Arena, Id as _, NameId};

/// apk-tools' name table has this many buckets.
const BUCKETS: usize = 20_000;
const NONE: u32 = u32::MAX;

/// Interned names.
///
/// apk-tools walks its hash table of names when it works out who depends on whom, so the order of
/// that table shows in its results. This table has the same hash, buckets and order.
#[derive(Clone, Debug)]
pub(crate) struct Names<'a> {
    heads: Vec<u32>,
    rows: Arena<NameId, (&'a str, u32)>,
}

impl<'a> Names<'a> {
    pub(crate) fn new() -> Self {
        Self { heads: vec![NONE; BUCKETS], rows: Arena::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn text(&self, id: NameId) -> Option<&'a str> {
        self.rows.rows().get(id.index()).map(|row| row.0)
    }

    pub(crate) fn find(&self, text: &str) -> Option<NameId> {
        let mut at = self.heads.get(bucket(text)).copied()?;
        while at != NONE {
            let (found, next) = self.rows[NameId(at)];
            if found == text {
                return Some(NameId(at));
            }
            at = next;
        }
        None
    }

    pub(crate) fn intern(&mut self, text: &'a str) -> NameId {
        if let Some(id) = self.find(text) {
            return id;
        }
        let id = u32::try_from(self.rows.len()).unwrap_or(NONE);
        if let Some(head) = self.heads.get_mut(bucket(text)) {
            self.rows.push((text, *head));
            *head = id;
        }
        NameId(id)
    }

    /// Every name in the order of apk-tools' table.
    pub(crate) fn in_table_order(&self) -> impl Iterator<Item = NameId> + '_ {
        self.heads.iter().flat_map(move |&head| {
            std::iter::successors((head != NONE).then_some(NameId(head)), move |&id| {
                let next = self.rows[id].1;
                (next != NONE).then_some(NameId(next))
            })
        })
    }
}

fn bucket(text: &str) -> usize {
    murmur3(text.as_bytes(), 5381) as usize % BUCKETS
}

/// MurmurHash3, the 32-bit x86 variant.
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let scramble = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut hash = seed;
    let (blocks, rest) = bytes.as_chunks::<4>();
    for block in blocks {
        hash = (hash ^ scramble(u32::from_le_bytes(*block))).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, &byte| tail << 8 | u32::from(byte));
        hash ^= scramble(tail);
    }
    // The length counts modulo 2^32, as in the reference.
    hash ^= bytes.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_the_reference_does() {
        assert_eq!(murmur3(b"", 0), 0);
        assert_eq!(murmur3(b"", 1), 0x514e_28b7);
        assert_eq!(murmur3(b"test", 0), 0xba6b_d213);
        assert_eq!(murmur3(b"Hello, world!", 0), 0xc036_3e43);
    }

    #[test]
    fn a_name_has_one_id() {
        let mut names = Names::new();
        let (a, b) = (names.intern("a"), names.intern("b"));
        assert_eq!(names.intern("a"), a);
        assert_eq!(names.find("b"), Some(b));
        assert_eq!(names.find("c"), None);
        assert_eq!(names.text(b), Some("b"));
        assert_eq!(names.in_table_order().count(), 2);
    }
}
