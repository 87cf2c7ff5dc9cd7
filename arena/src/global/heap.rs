//! One heap: a part of the source's range with one page size, its lock, and its gauges.
//!
//! ```text
//!   small  units of an OS page, OS pages     64 KiB <= block < 2 MiB
//!   huge   units of 64 KiB, huge pages        2 MiB <= block
//! ```
//!
//! The lock covers the table only. Memory is given back, moved, copied and zeroed without it, by
//! the thread that owns the block or has taken the extent off the lists.
//!
//! Invariants: `live + cached + shared = held`, in bytes: `held` is every page that may be
//! resident, `cached` those wholly free, and `shared` what partly live pages have left over.

use super::extents::Extents;
use super::grant::{PageGrant, Placement, Prefer, Runs};
use super::table::{ENTRY_BYTES, Table, UNITS_MAX};
use crate::page_source::{PageSource, Pages};
use crate::size::HUGE_BYTES;
use crate::sync::Lock;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};

/// The heap makes addresses accessible in steps of 64 MiB, with one system call a step.
const COMMIT_STEP_BYTES: usize = 64 << 20;

/// The heap commits pages of its table in steps of this; no machine has larger OS pages.
const TABLE_STEP_BYTES: usize = 64 << 10;

/// A block as the allocator sees it. Its bytes are those of whole units.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapBlock {
    pub(super) start: NonNull<u8>,
    pub(super) bytes: usize,
    pub(super) fresh_bytes: usize,
    pub(super) reused_bytes: usize,
}

/// One heap of the allocator: a range with one page size, its extents and their lock.
pub(super) struct Heap {
    extents: Lock<Extents>,
    /// A second handle of the table, for flags that are read without the lock.
    records: UnsafeCell<Table>,
    base: AtomicPtr<u8>,
    bytes: AtomicUsize,
    unit_log2: AtomicU32,
    page_log2: AtomicU32,
    entry_base: AtomicPtr<u8>,
    flag_base: AtomicPtr<u8>,
    live: AtomicUsize,
    cached: AtomicUsize,
    held: AtomicUsize,
}

// SAFETY: the extents are reached under their lock only, and the records are written before any
// other use; everything else is atomic.
unsafe impl Sync for Heap {}

impl Heap {
    pub(super) const fn new() -> Self {
        Self {
            extents: Lock::new(Extents::empty()),
            records: UnsafeCell::new(Table::empty()),
            base: AtomicPtr::new(std::ptr::null_mut()),
            bytes: AtomicUsize::new(0),
            unit_log2: AtomicU32::new(0),
            page_log2: AtomicU32::new(0),
            entry_base: AtomicPtr::new(std::ptr::null_mut()),
            flag_base: AtomicPtr::new(std::ptr::null_mut()),
            live: AtomicUsize::new(0),
            cached: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
        }
    }

    /// Gives the heap its range. Returns false when there is no room for the tables.
    ///
    /// # Safety
    ///
    /// `base..base + bytes` is a part of the range of `source`, in whole huge pages, and no other
    /// heap's. Called once, before any other method.
    pub(super) unsafe fn set_up<P: PageSource>(
        &self,
        source: &P,
        base: NonNull<u8>,
        bytes: usize,
        unit_log2: u32,
        page_log2: u32,
    ) -> bool {
        let units = (bytes >> unit_log2).min(UNITS_MAX as usize);
        let step = TABLE_STEP_BYTES;
        let table_bytes = (units * ENTRY_BYTES).next_multiple_of(step);
        let flags_bytes = (bytes >> page_log2).next_multiple_of(step);
        let Ok(table) = source.reserve_table(table_bytes + flags_bytes) else { return false };
        // SAFETY: the flags follow the entries inside the one reservation.
        let flags = unsafe { table.add(table_bytes) };
        // SAFETY: both arrays have the sizes asked for, stay for good, and are committed as far as
        // units are (in `commit`).
        let records = unsafe {
            Table::new(table.as_ptr(), flags.as_ptr(), units as u32, page_log2 - unit_log2)
        };
        self.base.store(base.as_ptr(), Relaxed);
        self.bytes.store(units << unit_log2, Relaxed);
        self.unit_log2.store(unit_log2, Relaxed);
        self.page_log2.store(page_log2, Relaxed);
        self.entry_base.store(table.as_ptr(), Relaxed);
        self.flag_base.store(flags.as_ptr(), Relaxed);
        // SAFETY: nobody reads it before this method, which is called once, returns.
        unsafe { *self.records.get() = records };
        self.with(|extents| extents.set_table(records));
        true
    }

    /// Runs `act` on the extents under the lock.
    #[inline]
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Extents) -> R) -> R {
        let mut extents = self.extents.lock();
        let result = act(&mut extents);
        let (unit_log2, page_log2) = (self.unit_log2(), self.page_log2());
        self.live.store((extents.live_units as usize) << unit_log2, Relaxed);
        self.cached.store((extents.cached_pages as usize) << page_log2, Relaxed);
        self.held.store((extents.dirty_pages as usize) << page_log2, Relaxed);
        result
    }

    pub(super) fn table(&self) -> &Table {
        // SAFETY: written once, by `set_up`, before any other method is called.
        unsafe { &*self.records.get() }
    }

    pub(super) fn is_locked(&self) -> bool {
        self.extents.is_held()
    }

    pub(super) fn unit_log2(&self) -> u32 {
        self.unit_log2.load(Relaxed)
    }

    pub(super) fn page_log2(&self) -> u32 {
        self.page_log2.load(Relaxed)
    }

    /// Bytes of blocks in use.
    pub(super) fn live_bytes(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Bytes of free pages that may be resident.
    pub(super) fn cached_bytes(&self) -> usize {
        self.cached.load(Relaxed)
    }

    /// Bytes of pages that may be resident.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.load(Relaxed)
    }

    /// Returns the unit at `address`, or `None` when it is not in this heap.
    #[inline]
    pub(super) fn unit_of(&self, address: *const u8) -> Option<u32> {
        let offset = (address as usize).wrapping_sub(self.base.load(Relaxed) as usize);
        let ours = offset < self.bytes.load(Relaxed);
        ours.then(|| (offset >> self.unit_log2()) as u32)
    }

    /// The address of a unit or of a page, by its size as a power of two.
    #[inline]
    pub(super) fn address(&self, index: u32, log2: u32) -> NonNull<u8> {
        let offset = (index as usize) << log2;
        debug_assert!(offset <= self.bytes.load(Relaxed), "inside the range or at its end");
        // SAFETY: the range is one mapping, and the offset lies inside it or at its end.
        let address = unsafe { self.base.load(Relaxed).add(offset) };
        // SAFETY: the base is the start of a mapping, which is never at address zero.
        unsafe { NonNull::new_unchecked(address) }
    }

    fn units(&self, bytes: usize) -> Option<u32> {
        let units = bytes.checked_add((1 << self.unit_log2()) - 1)? >> self.unit_log2();
        u32::try_from(units).ok().filter(|units| (1..=UNITS_MAX).contains(units))
    }

    fn block(&self, grant: PageGrant, units: u32) -> HeapBlock {
        HeapBlock {
            start: self.address(grant.start, self.unit_log2()),
            bytes: (units as usize) << self.unit_log2(),
            fresh_bytes: (grant.fresh_pages as usize) << self.page_log2(),
            reused_bytes: (grant.reused_pages as usize) << self.page_log2(),
        }
    }

    /// Makes at least the units `from..to` accessible, with their records.
    fn commit<P: PageSource>(&self, source: &P, from: u32, to: u32) -> Option<u32> {
        let (unit_log2, page_log2) = (self.unit_log2(), self.page_log2());
        let end = ((to as usize) << unit_log2).next_multiple_of(COMMIT_STEP_BYTES);
        let end = end.min(self.bytes.load(Relaxed));
        let start = (from as usize) << unit_log2;
        let (table, flags) = (self.entry_base.load(Relaxed), self.flag_base.load(Relaxed));
        let entry_bytes = |bytes: usize| (bytes >> unit_log2) * ENTRY_BYTES;
        Self::commit_table(source, table, entry_bytes(start), entry_bytes(end))?;
        Self::commit_table(source, flags, start >> page_log2, end >> page_log2)?;
        let pages = if page_log2 == HUGE_BYTES.ilog2() { Pages::Huge } else { Pages::Small };
        // SAFETY: the part lies inside the range, and units are committed once, in order.
        unsafe { source.commit(self.address(from, unit_log2), end - start, pages).ok()? };
        Some((end >> unit_log2) as u32)
    }

    fn commit_table<P: PageSource>(
        source: &P,
        base: *mut u8,
        from: usize,
        to: usize,
    ) -> Option<()> {
        let from = from.next_multiple_of(TABLE_STEP_BYTES);
        let to = to.next_multiple_of(TABLE_STEP_BYTES);
        if from == to {
            return Some(());
        }
        // SAFETY: both arrays were reserved in whole steps for every unit there is.
        let start = NonNull::new(unsafe { base.add(from) })?;
        // SAFETY: as above.
        unsafe { source.commit_table(start, to - from).ok() }
    }

    /// Hands out a block of at least `bytes`, or `None` when no addresses are left or the kernel
    /// refuses access to more of them.
    ///
    /// `phase` is an address; the block gets the same offset within a huge page.
    pub(super) fn allocate<P: PageSource>(
        &self,
        source: &P,
        bytes: usize,
        place: Place,
        dirty: &mut Runs,
    ) -> Option<HeapBlock> {
        let units = self.units(bytes)?;
        let (placement, prefer) = match place {
            Place::Aligned(align) => {
                // The range starts at a multiple of a huge page, and not of more.
                let before = (self.base.load(Relaxed) as usize).wrapping_neg() & (align - 1);
                let phase = u32::try_from(before >> self.unit_log2()).ok()?;
                let align = u32::try_from((align >> self.unit_log2()).max(1)).ok()?;
                (Placement { align, phase }, Prefer::Cached)
            }
            Place::LikeForMove(origin) => {
                let align = (HUGE_BYTES >> self.unit_log2()) as u32;
                let phase = self.unit_of(origin.as_ptr())? & (align - 1);
                (Placement { align, phase }, Prefer::Clean)
            }
        };
        let commit = |from, to| self.commit(source, from, to);
        let grant = self.with(|e| e.allocate(units, placement, prefer, commit, dirty))?;
        let block = self.block(grant, units);
        // SAFETY: the block was just taken off the free list.
        unsafe { source.reused(block.start, block.bytes) };
        source.placed(block.start, block.bytes);
        Some(block)
    }

    /// Frees the block at `start`. Does nothing if no block starts there.
    pub(super) fn release<P: PageSource>(&self, source: &P, start: NonNull<u8>) {
        let Some(unit) = self.unit_of(start.as_ptr()) else { return };
        let Some(bytes) = self.block_bytes(start) else { return };
        // SAFETY: the block is still the caller's, who gave it up.
        unsafe { source.freed(start, bytes) };
        self.with(|extents| extents.release(unit));
    }

    /// Bytes of the block at `start`.
    pub(super) fn block_bytes(&self, start: NonNull<u8>) -> Option<usize> {
        let unit = self.unit_of(start.as_ptr())?;
        let units = self.with(|extents| extents.live_units_at(unit))?;
        Some((units as usize) << self.unit_log2())
    }

    /// Makes the block longer or shorter in place, so that it holds `bytes`. Returns `None` when
    /// what follows is not free; otherwise the block with its new size, and the pages that were
    /// added.
    pub(super) fn resize<P: PageSource>(
        &self,
        source: &P,
        start: NonNull<u8>,
        bytes: usize,
    ) -> Option<HeapBlock> {
        let (unit, units) = (self.unit_of(start.as_ptr())?, self.units(bytes)?);
        let unit_log2 = self.unit_log2();
        let before = self.with(|extents| extents.live_units_at(unit))?;
        let same = PageGrant { start: unit, fresh_pages: 0, reused_pages: 0 };
        if units == before {
            return Some(self.block(same, units));
        }
        let part = self.address(unit + units.min(before), unit_log2);
        let part_bytes = (units.abs_diff(before) as usize) << unit_log2;
        if units < before {
            // SAFETY: the tail is the caller's block's, who gives it up.
            unsafe { source.freed(part, part_bytes) };
            self.with(|extents| extents.shrink(unit, units));
            let block = self.block(same, units);
            source.placed(block.start, block.bytes);
            return Some(block);
        }
        let commit = |from, to| self.commit(source, from, to);
        let grant = self.with(|extents| extents.extend(unit, units, commit))?;
        // SAFETY: the part was just added to the caller's block.
        unsafe { source.reused(part, part_bytes) };
        let block = self.block(grant, units);
        source.placed(block.start, block.bytes);
        Some(block)
    }

    /// The pages wholly inside the block at `start`, by index, and the address of the first.
    pub(super) fn inner_pages(&self, start: NonNull<u8>, bytes: usize) -> (Range<u32>, usize) {
        let page_log2 = self.page_log2();
        let offset = start.as_ptr() as usize - self.base.load(Relaxed) as usize;
        let first = offset.next_multiple_of(1 << page_log2) >> page_log2;
        let last = ((offset + bytes) >> page_log2).max(first);
        (first as u32..last as u32, (first << page_log2) - offset)
    }

    /// Notes that the inner pages of `from`, a block in use, were moved to the block `to`.
    pub(super) fn note_moved(&self, from: NonNull<u8>, from_bytes: usize, to: HeapBlock) {
        let (pages, _) = self.inner_pages(from, from_bytes);
        let (to_pages, _) = self.inner_pages(to.start, to.bytes);
        self.with(|extents| {
            extents.table.set_moved(to_pages);
            extents.note_cleaned(pages.len() as u32);
            extents.table.set_new(pages);
        });
    }

    /// Says whether the block is a mapping that was moved here. Growing such a block in place would
    /// make it two mappings.
    pub(super) fn was_moved(&self, start: NonNull<u8>) -> bool {
        let bytes = self.block_bytes(start).unwrap_or(0);
        let (pages, _) = self.inner_pages(start, bytes);
        !pages.is_empty() && self.table().is_moved(pages.end - 1)
    }

    /// Gives up the addresses of a block for good.
    pub(super) fn forfeit(&self, start: NonNull<u8>) {
        if let Some(unit) = self.unit_of(start.as_ptr()) {
            self.with(|extents| extents.forfeit(unit));
        }
    }

    /// The bytes that `runs` of pages cover, counted from the start of the block.
    pub(super) fn runs_in(
        &self,
        block: HeapBlock,
        bytes: usize,
        runs: &Runs,
    ) -> impl Iterator<Item = Range<usize>> {
        let page_log2 = self.page_log2();
        let offset = block.start.as_ptr() as usize - self.base.load(Relaxed) as usize;
        runs.iter().map(move |run| {
            let from = ((run.start as usize) << page_log2).max(offset) - offset;
            let to = (((run.end as usize) << page_log2) - offset).min(bytes);
            from.min(to)..to
        })
    }

    /// Recounts the heap; `None` when it agrees.
    pub(super) fn check(&self) -> Option<&'static str> {
        self.with(|extents| extents.check())
    }

    /// Bytes of addresses that extents cover, and their start.
    pub(super) fn covered(&self) -> (*mut u8, usize) {
        let top = self.with(|extents| extents.top());
        (self.base.load(Relaxed), (top as usize) << self.unit_log2())
    }
}

/// Where a block may start.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// At a multiple of this many bytes.
    Aligned(usize),
    /// At the same offset within a huge page as this block, whose pages will move there.
    LikeForMove(NonNull<u8>),
}
