//! Tables indexed by the ids that this crate hands out itself, never by foreign numbers.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// Position in a table.
pub(crate) trait Id: Copy {
    fn index(self) -> usize;
    fn at(index: usize) -> Self;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u32);

        impl Id for $name {
            fn index(self) -> usize {
                self.0 as usize
            }

            fn at(index: usize) -> Self {
                Self(u32::try_from(index).unwrap_or(u32::MAX))
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

impl<I: Id, T> Arena<I, T> {
    /// The ids of all rows, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = I> + use<I, T> {
        (0..self.rows.len()).map(I::at)
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

/// A table of which few rows are ever changed: the others all read as the default, and take no room.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<I, T> {
    /// Where each id's row is; 0 for one that was not changed yet.
    places: Vec<u32>,
    /// The default, and then the rows.
    rows: Vec<T>,
    id: PhantomData<I>,
}

impl<I: Id, T: Default> Sparse<I, T> {
    pub(crate) fn new(ids: usize) -> Self {
        Self { places: vec![0; ids], rows: vec![T::default()], id: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

#[expect(clippy::indexing_slicing, reason = "every id was made for a row of its table")]
impl<I: Id, T> Index<I> for Sparse<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        &self.rows[self.places[id.index()] as usize]
    }
}

#[expect(clippy::indexing_slicing, reason = "every id was made for a row of its table")]
impl<I: Id, T: Default> IndexMut<I> for Sparse<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        let place = &mut self.places[id.index()];
        if *place == 0 {
            // There are no more rows than ids, which are of 32 bits.
            *place = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
            self.rows.push(T::default());
        }
        &mut self.rows[*place as usize]
    }
}

/// A list of items per id, all in one allocation. Ids beyond the table have no items.
#[derive(Clone, Debug)]
pub(crate) struct Lists<I, T> {
    ends: Vec<u32>,
    items: Vec<T>,
    id: PhantomData<I>,
}

impl<I: Id, T: Copy + Default> Lists<I, T> {
    pub(crate) fn empty() -> Self {
        Self { ends: Vec::new(), items: Vec::new(), id: PhantomData }
    }

    /// Groups what `each` gives by id; the items of one id keep their order. `each` is run twice, once
    /// to count, so that nothing is held but the lists.
    pub(crate) fn group(ids: usize, each: impl Fn(&mut dyn FnMut(I, T))) -> Self {
        let mut ends = vec![0_u32; ids];
        each(&mut |id, _| {
            if let Some(count) = ends.get_mut(id.index()) {
                *count += 1;
            }
        });
        let mut sum = 0;
        for end in &mut ends {
            sum += std::mem::replace(end, sum);
        }
        // Each is the place of the next item now, and its list's end when all are in place.
        let mut items = vec![T::default(); sum as usize];
        each(&mut |id, item| {
            if let Some(place) = ends.get_mut(id.index()) {
                if let Some(slot) = items.get_mut(*place as usize) {
                    *slot = item;
                }
                *place += 1;
            }
        });
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
