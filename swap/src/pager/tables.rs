//! The pager's own memory: tables, lists and rings that never touch a heap.
//!
//! A table is an anonymous mapping made when the pager is built. It is as long as it will ever be;
//! pages of it that are never used are never resident.
//!
//! ```text
//!   Mapping   addresses from the arena's OS layer, given back on drop
//!   Table<T>  a mapping seen as [T], all zero at first
//!   Lists     doubly linked lists over one kind of numbers; a number is on one list at most
//!   Ring<T>   a queue of fixed length
//! ```
//!
//! Invariants: a number's link says which list it is on; `len` of a list is the count of links
//! that say so.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use plimsoll_arena::os::{Linux, Os, OsError};

/// A range of addresses; drop gives it back.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is memory of the process, bound to no thread.
unsafe impl Send for Mapping {}
// SAFETY: shared, it gives out addresses only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Reserves and commits `bytes` (rounded up to pages) aligned to `align`; they read as zero
    /// and take no memory until touched.
    pub(crate) fn new(bytes: usize, align: usize) -> Result<Self, OsError> {
        let bytes = bytes.max(1).next_multiple_of(Linux.page_bytes());
        let base = Linux.reserve(bytes, align)?;
        let mapping = Self { base, bytes };
        // SAFETY: the range is the reservation just made.
        unsafe { Linux.commit(base, bytes)? };
        Ok(mapping)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn start(&self) -> usize {
        self.base.as_ptr().addr()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The address `offset` bytes in.
    pub(crate) fn at(&self, offset: usize) -> NonNull<u8> {
        assert!(offset < self.bytes, "an address outside the mapping");
        // SAFETY: inside the mapping, as the line above checks.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: one reservation, owned by this value.
        unsafe { Linux.release(self.base, self.bytes) };
    }
}

/// Types for which all zero bits are a value.
///
/// # Safety
///
/// They are, and dropping one does nothing.
pub(crate) unsafe trait ZeroValid {}

// SAFETY: an integer.
unsafe impl ZeroValid for u8 {}

// SAFETY: an integer.
unsafe impl ZeroValid for u32 {}

// SAFETY: two integers.
unsafe impl ZeroValid for crate::extent::Extent {}

/// A slice that is all zero at first and never moves.
pub(crate) struct Table<T> {
    mapping: Mapping,
    len: usize,
    items: PhantomData<T>,
}

impl<T: ZeroValid> Table<T> {
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        let bytes = len.saturating_mul(size_of::<T>());
        Ok(Self { mapping: Mapping::new(bytes, Linux.page_bytes())?, len, items: PhantomData })
    }
}

impl<T: ZeroValid> Deref for Table<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` values, zero or written as T, aligned to a page.
        unsafe { std::slice::from_raw_parts(self.mapping.base.as_ptr().cast(), self.len) }
    }
}

impl<T: ZeroValid> DerefMut for Table<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the table is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.base.as_ptr().cast(), self.len) }
    }
}

/// A number below `u32::MAX` of one kind of things.
pub(crate) trait Id: Copy + Eq {
    /// The number of what is at `index`. An index that is too large gives the largest number, which
    /// no table has.
    fn of(index: usize) -> Self;

    /// Where it is in a table.
    fn index(self) -> usize;
}

/// Neighbours, as number + 1, and the list, as number + 1; zero is none.
#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
    list: u32,
}

// SAFETY: integers.
unsafe impl ZeroValid for Link {}

#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    first: u32,
    last: u32,
    len: u32,
}

/// What tells the lists of one set apart.
pub(crate) trait ListName: Copy {
    /// The name of a list by its number.
    fn of(number: usize) -> Self;

    /// Its number, from 0 on.
    fn number(self) -> usize;
}

impl ListName for usize {
    fn of(number: usize) -> Self {
        number
    }

    fn number(self) -> usize {
        self
    }
}

/// N lists over the first `len` of a kind, by name.
pub(crate) struct Lists<I, L, const N: usize> {
    links: Table<Link>,
    ends: [Ends; N],
    names: PhantomData<(I, L)>,
}

impl<I: Id, L: ListName, const N: usize> Lists<I, L, N> {
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        Ok(Self { links: Table::new(len)?, ends: [Ends::default(); N], names: PhantomData })
    }

    pub(crate) fn len(&self, list: L) -> u32 {
        self.ends[list.number()].len
    }

    pub(crate) fn front(&self, list: L) -> Option<I> {
        self.ends[list.number()].first.checked_sub(1).map(|first| I::of(first as usize))
    }

    /// The list that `item` is on.
    pub(crate) fn list_of(&self, item: I) -> Option<L> {
        self.links[item.index()].list.checked_sub(1).map(|list| L::of(list as usize))
    }

    /// Puts `item` at the end of `list`, off the one it was on.
    pub(crate) fn push_back(&mut self, list: L, item: I) {
        self.remove(item);
        let list = list.number();
        let item = item.index() as u32;
        let last = self.ends[list].last;
        self.links[item as usize] = Link { before: last, after: 0, list: list as u32 + 1 };
        match last.checked_sub(1) {
            Some(last) => self.links[last as usize].after = item + 1,
            None => self.ends[list].first = item + 1,
        }
        self.ends[list].last = item + 1;
        self.ends[list].len += 1;
    }

    /// Puts `item` at the front of `list`, off the one it was on.
    pub(crate) fn push_front(&mut self, list: L, item: I) {
        self.remove(item);
        let list = list.number();
        let item = item.index() as u32;
        let first = self.ends[list].first;
        self.links[item as usize] = Link { before: 0, after: first, list: list as u32 + 1 };
        match first.checked_sub(1) {
            Some(first) => self.links[first as usize].before = item + 1,
            None => self.ends[list].last = item + 1,
        }
        self.ends[list].first = item + 1;
        self.ends[list].len += 1;
    }

    /// Takes `item` off its list, if it is on one.
    pub(crate) fn remove(&mut self, item: I) {
        let Link { before, after, list } = self.links[item.index()];
        let Some(list) = list.checked_sub(1) else { return };
        let ends = &mut self.ends[list as usize];
        ends.len -= 1;
        match before.checked_sub(1) {
            Some(before) => self.links[before as usize].after = after,
            None => ends.first = after,
        }
        match after.checked_sub(1) {
            Some(after) => self.links[after as usize].before = before,
            None => ends.last = before,
        }
        self.links[item.index()] = Link { before: 0, after: 0, list: 0 };
    }
}

/// A queue of at most `len` entries.
pub(crate) struct Ring<T> {
    entries: Table<T>,
    first: usize,
    len: usize,
}

impl<T: ZeroValid + Copy> Ring<T> {
    pub(crate) fn new(len: usize) -> Result<Self, OsError> {
        Ok(Self { entries: Table::new(len)?, first: 0, len: 0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds an entry; false, and nothing changed, when the ring is full.
    pub(crate) fn push(&mut self, entry: T) -> bool {
        if self.len == self.entries.len() {
            return false;
        }
        let at = (self.first + self.len) % self.entries.len();
        self.entries[at] = entry;
        self.len += 1;
        true
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        let entry = self.entries[self.first];
        self.first = (self.first + 1) % self.entries.len();
        self.len -= 1;
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::ShelfId;
    use super::*;

    #[test]
    fn lists_keep_order_and_membership() {
        let mut lists = Lists::<ShelfId, usize, 2>::new(8).expect("a page");
        let shelf = ShelfId::of;
        for item in 0..5 {
            lists.push_back(0, shelf(item));
        }
        lists.push_front(0, shelf(7));
        lists.push_back(1, shelf(2));
        lists.remove(shelf(7));
        lists.remove(shelf(7));
        let mut found = Vec::new();
        while let Some(item) = lists.front(0) {
            lists.remove(item);
            found.push(item.index());
        }
        assert_eq!(found, [0, 1, 3, 4]);
        let names = (lists.list_of(shelf(2)), lists.list_of(shelf(3)), lists.len(1));
        assert_eq!(names, (Some(1), None, 1));
    }

    #[test]
    fn a_ring_is_first_in_first_out_and_refuses_when_full() {
        let mut ring = Ring::<u32>::new(3).expect("a page");
        for round in 0..10 {
            assert!(ring.push(round) && ring.push(round + 1) && ring.push(round + 2));
            assert!(!ring.push(99));
            assert_eq!(
                (ring.pop(), ring.pop(), ring.pop()),
                (Some(round), Some(round + 1), Some(round + 2))
            );
            assert_eq!((ring.pop(), ring.len()), (None, 0));
        }
    }
}
