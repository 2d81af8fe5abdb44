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
    rows: Arena<NameId, Row<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Row<'a> {
    text: &'a str,
    hash: u32,
    /// The next name of the bucket, or [`NONE`].
    next: u32,
}

impl<'a> Names<'a> {
    pub(crate) fn new() -> Self {
        Self { heads: vec![NONE; BUCKETS], rows: Arena::new() }
    }

    /// Makes room for at most so many names more.
    pub(crate) fn reserve(&mut self, names: usize) {
        self.rows.reserve(names);
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn text(&self, id: NameId) -> Option<&'a str> {
        self.rows.rows().get(id.index()).map(|row| row.text)
    }

    pub(crate) fn find(&self, text: &str) -> Option<NameId> {
        self.find_hashed(text, hash(text))
    }

    fn find_hashed(&self, text: &str, hash: u32) -> Option<NameId> {
        let mut at = self.heads.get(bucket(hash)).copied()?;
        while at != NONE {
            let row = self.rows[NameId(at)];
            if row.hash == hash && row.text == text {
                return Some(NameId(at));
            }
            at = row.next;
        }
        None
    }

    pub(crate) fn intern(&mut self, text: &'a str) -> NameId {
        let hash = hash(text);
        if let Some(id) = self.find_hashed(text, hash) {
            return id;
        }
        let id = u32::try_from(self.rows.len()).unwrap_or(NONE);
        if let Some(head) = self.heads.get_mut(bucket(hash)) {
            self.rows.push(Row { text, hash, next: *head });
            *head = id;
        }
        NameId(id)
    }

    /// Every name in the order of apk-tools' table.
    pub(crate) fn in_table_order(&self) -> impl Iterator<Item = NameId> + '_ {
        let id = |at: u32| (at != NONE).then_some(NameId(at));
        self.heads.iter().flat_map(move |&head| std::iter::successors(id(head), move |&at| id(self.rows[at].next)))
    }
}

fn hash(text: &str) -> u32 {
    murmur3(text.as_bytes(), 5381)
}

fn bucket(hash: u32) -> usize {
    hash as usize % BUCKETS
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
