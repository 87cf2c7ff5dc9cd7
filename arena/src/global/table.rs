//! The records of a heap: an entry for each unit of addresses, and a flag for each page.
//!
//! ```text
//!   units     | s  .  .  .  e-1 | s ...
//!   entries   [tag]        [tag]            first and last unit of an extent carry its tag
//!   flags     [ page ][ page ][ page ]      dirty: may be resident, may be other than zero
//!                                           moved: part of a mapping that was moved here
//! ```
//!
//! A tag is `length * 4 + state`. The entries between the first and the last unit of an extent are
//! stale, and nobody reads them; those of a large free extent are given back to the kernel. The two
//! ends are enough to find both neighbours of any extent. So extents are joined without a search,
//! and a block needs no header.
//!
//! Invariants: the extents tile `0..top`. An entry of zeroes is valid: its state is `None`, and its
//! pages are clean.
//!
//! Everything is a relaxed atomic, so that it can be shared without `unsafe` at each use. The
//! heap's lock orders accesses to entries. The flag of a page that lies wholly in an extent belongs
//! to whoever holds that extent.
//!
//! Source: D. E. Knuth, The Art of Computer Programming 1, section 2.5, boundary tags.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

/// What an extent is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtentState {
    /// No extent starts or ends here.
    None = 0,
    /// On a list of free extents.
    Free = 1,
    /// A block somebody owns.
    Live = 2,
    /// Taken off the lists: while its memory is given back, or for good.
    Busy = 3,
}

/// The record of one unit of addresses: its extent's tag and list links.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    tag: AtomicU32,
    pub(super) next: AtomicU32,
    pub(super) prev: AtomicU32,
    /// Pages wholly inside a free extent whose flag is set.
    pub(super) cached: AtomicU32,
}

/// Bytes of one entry: 0.4 % of a heap with units of 4 KiB, 0.02 % with units of 64 KiB.
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();

const _: () = assert!(ENTRY_BYTES == 16);

const DIRTY: u8 = 1;
const MOVED: u8 = 2;

/// Largest length of an extent, in units.
pub(super) const UNITS_MAX: u32 = u32::MAX >> 2;

/// The two arrays of a heap: an entry for each unit, a flag for each page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    entries: *const Entry,
    flags: *const AtomicU8,
    units: u32,
    page_units_log2: u32,
}

impl Table {
    pub(super) const fn empty() -> Self {
        Self { entries: std::ptr::null(), flags: std::ptr::null(), units: 0, page_units_log2: 0 }
    }

    /// Makes a table over two zeroed arrays.
    ///
    /// # Safety
    ///
    /// `entries` holds `units` entries and `flags` a byte for each of their pages; both stay for
    /// good and are accessible as far as units are used. `units` is below [`UNITS_MAX`].
    pub(super) unsafe fn new(
        entries: *const u8,
        flags: *const u8,
        units: u32,
        page_units_log2: u32,
    ) -> Self {
        Self { entries: entries.cast(), flags: flags.cast(), units, page_units_log2 }
    }

    /// Number of units there are addresses for.
    pub(super) fn units(&self) -> u32 {
        self.units
    }

    #[inline]
    pub(super) fn entry(&self, unit: u32) -> &Entry {
        debug_assert!(unit < self.units, "a unit of this heap");
        // SAFETY: the index is below the array's length.
        let entry = unsafe { self.entries.add(unit as usize) };
        // SAFETY: the array stays for good, zeroes are valid, and an entry is atomics only.
        unsafe { &*entry }
    }

    /// Returns where the stale entries inside the extent `start..end` lie, in whole OS pages.
    pub(super) fn stale(
        &self,
        start: u32,
        end: u32,
        page_bytes: usize,
    ) -> Option<(NonNull<u8>, usize)> {
        let from = ((start as usize + 1) * ENTRY_BYTES).next_multiple_of(page_bytes);
        let to = (end as usize - 1) * ENTRY_BYTES / page_bytes * page_bytes;
        let at = self.entries.cast::<u8>().wrapping_add(from).cast_mut();
        Some((NonNull::new(at)?, to.checked_sub(from).filter(|bytes| *bytes > 0)?))
    }

    #[inline]
    fn flag(&self, page: u32) -> &AtomicU8 {
        debug_assert!(page < self.units.div_ceil(1 << self.page_units_log2));
        // SAFETY: the index is below the array's length.
        let flag = unsafe { self.flags.add(page as usize) };
        // SAFETY: the array stays for good, and zero is a valid flag.
        unsafe { &*flag }
    }

    /// State and length in units of the extent that starts or ends at `unit`.
    #[inline]
    pub(super) fn tag(&self, unit: u32) -> (ExtentState, u32) {
        let tag = self.entry(unit).tag.load(Relaxed);
        let state = match tag & 3 {
            1 => ExtentState::Free,
            2 => ExtentState::Live,
            3 => ExtentState::Busy,
            _ => ExtentState::None,
        };
        (state, tag >> 2)
    }

    /// Writes both tags of the extent of `units` at `start`.
    #[inline]
    pub(super) fn set_tag(&self, start: u32, units: u32, state: ExtentState) {
        debug_assert!(units > 0, "an extent is not empty");
        let tag = (units << 2) | state as u32;
        self.entry(start).tag.store(tag, Relaxed);
        self.entry(start + units - 1).tag.store(tag, Relaxed);
    }

    /// The extent that ends just before `unit`, if it is free: its start and length.
    #[inline]
    pub(super) fn free_before(&self, unit: u32) -> Option<(u32, u32)> {
        let (state, units) = self.tag(unit.checked_sub(1)?);
        (state == ExtentState::Free).then(|| (unit - units, units))
    }

    /// The pages that lie wholly in `start..end`; empty ranges start where they end.
    #[inline]
    pub(super) fn inner_pages(&self, start: u32, end: u32) -> Range<u32> {
        let first = start.div_ceil(1 << self.page_units_log2);
        let last = end >> self.page_units_log2;
        first..last.max(first)
    }

    /// The pages that `start..end` touches.
    #[inline]
    pub(super) fn outer_pages(&self, start: u32, end: u32) -> Range<u32> {
        (start >> self.page_units_log2)..end.div_ceil(1 << self.page_units_log2)
    }

    /// Units of a page, as a power of two.
    pub(super) fn page_units_log2(&self) -> u32 {
        self.page_units_log2
    }

    #[inline]
    pub(super) fn is_dirty(&self, page: u32) -> bool {
        self.flag(page).load(Relaxed) & DIRTY != 0
    }

    #[inline]
    pub(super) fn set_dirty(&self, page: u32) {
        let flag = self.flag(page);
        flag.store(flag.load(Relaxed) | DIRTY, Relaxed);
    }

    pub(super) fn set_clean(&self, pages: Range<u32>) {
        for page in pages {
            let flag = self.flag(page);
            flag.store(flag.load(Relaxed) & !DIRTY, Relaxed);
        }
    }

    pub(super) fn is_moved(&self, page: u32) -> bool {
        self.flag(page).load(Relaxed) & MOVED != 0
    }

    /// Notes that these pages of a block in use came with a mapping that was moved.
    pub(super) fn set_moved(&self, pages: Range<u32>) {
        for page in pages {
            self.flag(page).store(DIRTY | MOVED, Relaxed);
        }
    }

    /// Notes that these pages were mapped anew.
    pub(super) fn set_new(&self, pages: Range<u32>) {
        for page in pages {
            self.flag(page).store(0, Relaxed);
        }
    }

    /// Shortens `pages` to end before its last run of set pages, and returns that run: at most
    /// `most` pages of it.
    pub(super) fn last_dirty_run(&self, pages: &mut Range<u32>, most: usize) -> Range<u32> {
        while pages.start < pages.end && !self.is_dirty(pages.end - 1) {
            pages.end -= 1;
        }
        let end = pages.end;
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        while pages.start < pages.end && end - pages.end < most && self.is_dirty(pages.end - 1) {
            pages.end -= 1;
        }
        pages.end..end
    }

    #[inline]
    pub(super) fn count_dirty(&self, pages: Range<u32>) -> u32 {
        pages.map(|page| u32::from(self.flag(page).load(Relaxed) & DIRTY)).sum()
    }
}
