//! Tables indexed by the ids that this crate hands out itself, never by foreign numbers.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// Position in a table.
pub(crate) trait Id: Copy {
    fn index(self) -> usize;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl Id for $name {
            fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A name that packages have or provide, or that something depends on.
    NameId
);
id!(
    /// A package, once, however many repositories list it.
    PackageId
);

/// A table with one row per id.
#[derive(Clone, Debug)]
pub(crate) struct Arena<I, T> {
    rows: Vec<T>,
    id: PhantomData<I>,
}

impl<I, T> Arena<I, T> {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new(), id: PhantomData }
    }

    pub(crate) fn with_rows(rows: Vec<T>) -> Self {
        Self { rows, id: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
    }

    pub(crate) fn push(&mut self, row: T) {
        self.rows.push(row);
    }

    pub(crate) fn rows(&self) -> &[T] {
        &self.rows
    }
}

#[expect(clippy::indexing_slicing, reason = "every id was made for a row of its table")]
impl<I: Id, T> Index<I> for Arena<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        &self.rows[id.index()]
    }
}

#[expect(clippy::indexing_slicing, reason = "every id was made for a row of its table")]
impl<I: Id, T> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        &mut self.rows[id.index()]
    }
}

/// A list of items per id, all in one allocation. Ids beyond the table have no items.
#[derive(Clone, Debug)]
pub(crate) struct Lists<I, T> {
    ends: Vec<u32>,
    items: Vec<T>,
    id: PhantomData<I>,
}

impl<I: Id, T: Copy> Lists<I, T> {
    /// Groups `pairs` by id; the items of one id keep their order.
    pub(crate) fn group(ids: usize, pairs: &[(I, T)]) -> Self {
        let mut ends = vec![0_u32; ids];
        for (id, _) in pairs {
            if let Some(count) = ends.get_mut(id.index()) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut next: Vec<u32> = std::iter::once(0).chain(ends.iter().copied()).collect();
        let mut order = vec![0_u32; pairs.len()];
        for (position, (id, _)) in pairs.iter().enumerate() {
            if let Some(place) = next.get_mut(id.index()) {
                if let Some(slot) = order.get_mut(*place as usize) {
                    *slot = u32::try_from(position).unwrap_or(u32::MAX);
                }
                *place += 1;
            }
        }
        let items = order.iter().filter_map(|&position| pairs.get(position as usize).map(|(_, item)| *item)).collect();
        Self { ends, items, id: PhantomData }
    }

    pub(crate) fn of(&self, id: I) -> &[T] {
        let Some(&end) = self.ends.get(id.index()) else {
            return &[];
        };
        let start = match id.index().checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(end),
            None => 0,
        };
        self.items.get(start as usize..end as usize).unwrap_or_default()
    }
}
