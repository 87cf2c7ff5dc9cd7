//! The global allocator. It serves large requests from ranges of its own and keeps the pages of
//! what is freed; an inner allocator serves everything else.
//!
//! ```text
//!                      < 64 KiB                           inner allocator A
//!   #[global_allocator] ------------------------------->  (System, mimalloc, ...)
//!          |   64 KiB to 2 MiB                   >= 2 MiB
//!          +------------------> small heap, huge heap <---- page source P
//!                               OS pages    huge pages      (plain mapping, pager)
//!
//!   free: by address range          realloc: in place, else pages move, else bytes
//! ```
//!
//! | file | what |
//! |---|---|
//! | `extents` over `table`, `bins`, `grant` | which addresses, which pages: arithmetic |
//! | `heap`, `purge` over `sync::Lock` | one page size: rights, gauges, giving back |
//! | `policy` over `state` | when cached pages go: the ceiling and the limit |
//! | `start` over `state` | first use, fork |
//! | `resize` | `realloc` |
//! | `sparse` | large zeroed blocks, which may be touched here and there |
//! | `ask` | reclaim points, which have no reference to the allocator |
//!
//! Invariants: a pointer belongs to a block if and only if its address is in the range. `held` is
//! an upper bound of the resident bytes of blocks. The highest `held` is the highest `live` and
//! little more (`policy` says how much).
//!
//! Must never: call the inner allocator from inside the inner allocator or while a lock is held;
//! allocate, format, log or panic; use a thread-local that has a destructor or that allocates at
//! its first use; wait for a thread that may be gone.

mod ask;
mod bins;
mod extents;
mod grant;
mod heap;
mod inner;
mod policy;
mod purge;
mod resize;
mod sparse;
mod start;
mod state;
mod stats;
mod table;

pub use ask::{Ask, reclaim_process};
pub use inner::{Hooked, InnerPurge};
pub use stats::GlobalStats;

use crate::os::Errno;
use crate::page_source::{PageSource, PlainPages, StaticSource};
use crate::process::{AccountRef, Source};
use crate::size::HUGE_BYTES;
use grant::Runs;
use heap::{Heap, HeapBlock, Place};
use state::{Policy, Start};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Smallest request that becomes a block, in bytes. An ordinary allocator serves smaller ones
/// faster, and a page fault costs such a request little.
pub const BLOCK_BYTES_MIN: usize = 64 << 10;

/// Smallest request that lives on huge pages, in bytes.
const HUGE_BLOCK_BYTES_MIN: usize = HUGE_BYTES;

/// An allocator for `#[global_allocator]` that keeps the pages of freed large blocks.
///
/// ```
/// use plimsoll_arena::global::Global;
///
/// #[global_allocator]
/// static ALLOC: Global = Global::system();
///
/// let column = vec![1u64; 1 << 20];
/// drop(column);
/// assert!(ALLOC.stats().cached_bytes > 0); // its pages wait for the next column
/// ALLOC.reclaim(usize::MAX);
/// assert_eq!(ALLOC.stats().cached_bytes, 0);
/// ```
pub struct Global<A = System, P = PlainPages> {
    inner: A,
    pages: P,
    account: AccountRef,
    start: Start,
    policy: Policy,
    small: Heap,
    huge: Heap,
    range_base: AtomicUsize,
    range_bytes: AtomicUsize,
    counters: Counters,
}

#[derive(Debug)]
struct Counters {
    blocks: AtomicU64,
    reused: AtomicU64,
    fresh: AtomicU64,
    moved: AtomicU64,
    copied: AtomicU64,
    zero_skipped: AtomicU64,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Relaxed);
}

impl<P: StaticSource> Global<System, P> {
    /// Makes an allocator over the system's allocator, under the limit of `PLIMSOLL_LIMIT`.
    #[must_use]
    pub const fn system() -> Self {
        Self::over(System)
    }
}

impl<A, P: StaticSource> Global<A, P> {
    /// Makes an allocator that takes blocks from a new source of pages and everything else from
    /// `inner`.
    #[must_use]
    pub const fn over(inner: A) -> Self {
        Self::new(inner, P::NEW)
    }
}

impl<A, P> Global<A, P> {
    /// Makes an allocator that takes blocks from `pages` and everything else from `inner`. Nothing
    /// is reserved before the first block.
    #[must_use]
    pub const fn new(inner: A, pages: P) -> Self {
        Self::with_reserve(inner, pages, 0)
    }

    /// As [`Global::new`], and reserves `reserve_bytes` of addresses, which are not memory. Zero
    /// means the default, eight times the machine's memory. Where the machine allows less, the
    /// allocator tries less.
    #[must_use]
    pub const fn with_reserve(inner: A, pages: P, reserve_bytes: usize) -> Self {
        Self {
            inner,
            pages,
            account: AccountRef::PROCESS,
            start: Start::new(reserve_bytes),
            policy: Policy::new(),
            small: Heap::new(),
            huge: Heap::new(),
            range_base: AtomicUsize::new(0),
            range_bytes: AtomicUsize::new(0),
            counters: Counters {
                blocks: AtomicU64::new(0),
                reused: AtomicU64::new(0),
                fresh: AtomicU64::new(0),
                moved: AtomicU64::new(0),
                copied: AtomicU64::new(0),
                zero_skipped: AtomicU64::new(0),
            },
        }
    }

    /// Makes this allocator count in `account` instead of the process's. It is for several
    /// allocators in one program, each under a limit of its own. Call it before the first block.
    #[must_use]
    pub fn on(mut self, account: AccountRef) -> Self {
        self.account = account;
        self
    }

    /// Returns the page source.
    pub const fn pages(&self) -> &P {
        &self.pages
    }

    /// Says whether `address` lies in the range that blocks come from.
    #[inline]
    #[must_use]
    pub fn owns(&self, address: *const u8) -> bool {
        let offset = (address as usize).wrapping_sub(self.range_base.load(Relaxed));
        offset < self.range_bytes.load(Relaxed)
    }
}

impl<A, P> std::fmt::Debug for Global<A, P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Global").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    /// Sets the limit of the process in bytes and returns the old one; `usize::MAX` means no limit.
    /// The limit counts everything that the process has resident. A `Runtime` and `PLIMSOLL_LIMIT`
    /// set the same limit, and the last writer wins. A lower limit gives cached memory back at
    /// once, and the page source and every runtime keep to it.
    pub fn set_limit(&self, bytes: usize) -> usize {
        let errno = Errno::save();
        let account = &self.account;
        // This comes before the first block, because what the source reserves depends on the limit.
        account.read_environment();
        let old = account.set_limit(bytes, Source::Allocator);
        let ready = self.is_ready();
        if ready {
            self.purge_to_limit();
        }
        // Runtimes give back what they can before any block in use leaves memory.
        account.tell_changed();
        if ready {
            self.enforce_limit();
        }
        errno.restore();
        old
    }

    /// Returns the limit of the process in bytes, `usize::MAX` for none.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.account.limit_bytes()
    }

    /// Gives cached pages back to the kernel until `target_bytes` are freed or none is left, and
    /// returns the bytes freed.
    ///
    /// If the target is more than there is, it does three more things. It gives back the free parts
    /// of huge pages that are partly in use, if those come to more than 3 % of the bytes in use. It
    /// gives back the parts of its table that nobody reads, and has the inner allocator purge what
    /// that keeps; the result does not count these two.
    pub fn reclaim(&self, target_bytes: usize) -> usize {
        if !self.is_started() {
            return 0;
        }
        let errno = Errno::save();
        let mut freed = self.purge(target_bytes);
        if freed < target_bytes && self.held() - self.held().min(self.live()) > self.live() / 32 {
            freed += self.huge.trim_shared(&self.pages);
        }
        if freed < target_bytes {
            self.small.trim_table(&self.pages);
            self.huge.trim_table(&self.pages);
            self.inner.purge();
        }
        errno.restore();
        freed
    }

    /// Returns the gauges and counters.
    #[must_use]
    pub fn stats(&self) -> GlobalStats {
        let (live, cached, held) = (self.live(), self.cached(), self.held());
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        GlobalStats {
            live_bytes: live,
            live_peak_bytes: self.policy.live_peak.load(Relaxed),
            cached_bytes: cached,
            shared_bytes: held.saturating_sub(live + cached),
            held_bytes: held,
            limit_bytes: self.limit_bytes(),
            blocks: read(&self.counters.blocks),
            reused_bytes: read(&self.counters.reused),
            fresh_bytes: read(&self.counters.fresh),
            purged_bytes: read(&self.policy.purged_bytes),
            moved_bytes: read(&self.counters.moved),
            copied_bytes: read(&self.counters.copied),
            zero_skipped_bytes: read(&self.counters.zero_skipped),
            limit_hits: read(&self.policy.limit_hits),
        }
    }

    /// Recounts every block and page, and compares the sums with the gauges. A call from another
    /// thread meanwhile can make them differ.
    ///
    /// # Errors
    ///
    /// The first gauge that differs.
    pub fn check(&self) -> Result<(), &'static str> {
        if !self.is_started() {
            return Ok(());
        }
        self.small.check().or_else(|| self.huge.check()).map_or(Ok(()), Err)
    }

    /// Returns the ranges of addresses that blocks have been cut from, each with its start and its
    /// bytes. Tests and reports ask the kernel what of them is resident.
    #[must_use]
    pub fn covered(&self) -> [(*const u8, usize); 2] {
        [&self.small, &self.huge].map(|heap| {
            let (start, bytes) = heap.covered();
            (start.cast_const(), bytes)
        })
    }

    /// Returns the heap that serves a request, or `None` when the inner allocator does.
    #[inline]
    fn heap_for(&self, layout: Layout) -> Option<&Heap> {
        if layout.size() < BLOCK_BYTES_MIN {
            return None;
        }
        let huge = layout.size() >= HUGE_BLOCK_BYTES_MIN || layout.align() > HUGE_BYTES;
        Some(if huge { &self.huge } else { &self.small })
    }

    /// Hands out a block; `None` sends the caller to the inner allocator.
    fn block(&self, layout: Layout, place: Place, dirty: &mut Runs) -> Option<(&Heap, HeapBlock)> {
        // Any large request starts the allocator, even one that no heap serves, so that its limit
        // is kept.
        if !self.is_ready() {
            return None;
        }
        let heap = self.heap_for(layout)?;
        let block = heap.allocate(&self.pages, layout.size(), place, dirty)?;
        count(&self.counters.blocks, 1);
        count(&self.counters.reused, block.reused_bytes);
        count(&self.counters.fresh, block.fresh_bytes);
        Some((heap, block))
    }

    #[inline]
    fn heap_of(&self, start: NonNull<u8>) -> &Heap {
        let small = self.small.unit_of(start.as_ptr()).is_some();
        if small { &self.small } else { &self.huge }
    }

    fn release(&self, start: NonNull<u8>) {
        if self.is_ready() {
            let errno = Errno::save();
            self.heap_of(start).release(&self.pages, start);
            self.settle_freed();
            self.answer();
            errno.restore();
        }
    }

    /// Zeroes those bytes of a block that may be other than zero.
    fn zero(&self, heap: &Heap, block: HeapBlock, bytes: usize, dirty: &Runs) {
        let mut skipped = bytes;
        for part in heap.runs_in(block, bytes, dirty) {
            skipped -= part.len();
            // SAFETY: the part lies inside the block, which is as long as `bytes` and the caller's.
            let start = unsafe { block.start.add(part.start) };
            // SAFETY: as above.
            unsafe { start.as_ptr().write_bytes(0, part.len()) };
        }
        count(&self.counters.zero_skipped, skipped);
    }
}

// SAFETY: blocks are disjoint, aligned, at least as long as asked, and stay until they are freed;
// what is not a block's address is the inner allocator's, which got the same layout.
unsafe impl<A: GlobalAlloc + InnerPurge, P: PageSource> GlobalAlloc for Global<A, P> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= BLOCK_BYTES_MIN {
            let errno = Errno::save();
            let place = Place::Aligned(layout.align());
            if let Some((_, block)) = self.block(layout, place, &mut Runs::default()) {
                self.settle(block.fresh_bytes);
                errno.restore();
                return block.start.as_ptr();
            }
        }
        self.small_grows(layout.size());
        // SAFETY: as the caller promised.
        unsafe { self.inner.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= BLOCK_BYTES_MIN {
            let errno = Errno::save();
            let (place, mut dirty) = (Place::Aligned(layout.align()), Runs::default());
            if let Some((heap, block)) = self.block(layout, place, &mut dirty) {
                self.settle(block.fresh_bytes);
                self.zero(heap, block, layout.size(), &dirty);
                self.expect_sparse(block);
                errno.restore();
                return block.start.as_ptr();
            }
        }
        self.small_grows(layout.size());
        // SAFETY: as the caller promised.
        let start = unsafe { self.inner.alloc_zeroed(layout) };
        // The inner allocator may have written it all.
        self.zeroed_elsewhere(layout.size());
        start
    }

    #[inline]
    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if !self.owns(start) {
            self.small_shrinks(layout.size());
            // SAFETY: not a block, so the inner allocator handed it out, with this layout.
            return unsafe { self.inner.dealloc(start, layout) };
        }
        if let Some(start) = NonNull::new(start) {
            self.expect_dense(start, layout.size());
            self.release(start);
        }
    }

    #[inline]
    unsafe fn realloc(&self, start: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if !self.owns(start) && bytes < BLOCK_BYTES_MIN {
            self.small_shrinks(layout.size());
            self.small_grows(bytes);
            // SAFETY: not a block, so the inner allocator handed it out, with this layout.
            return unsafe { self.inner.realloc(start, layout, bytes) };
        }
        match NonNull::new(start) {
            // SAFETY: as the caller promised.
            Some(start) => unsafe { self.resize(start, layout, bytes) },
            None => ptr::null_mut(),
        }
    }
}
