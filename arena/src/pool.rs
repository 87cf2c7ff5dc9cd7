//! The pool: blocks that keep their pages between uses.
//!
//! ```text
//!            acquire                          release
//!   carve ----------> live (a vector's) ---------------> cached (resident, newest first)
//!                       ^      ^                            |      |
//!                       |      +---------- acquire ---------+      | reclaim, oldest first
//!                       +----- acquire ----- empty <---------------+
//!                                       (addresses only)
//! ```
//!
//! A reused block costs no page fault and no needless zeroing. Its record says how many bytes from
//! its start may be resident (`touched`) and how many may be other than zero (`dirty`). The pool
//! charges only growth of `touched` to the ledger, so the ledger holds an exact upper bound of what
//! the kernel has provided.
//!
//! Below the limit the pool keeps all pages, because each one saves a page fault. [`Pool::reclaim`]
//! frees cached blocks, the largest class and the oldest block first, until the target is met.
//!
//! Invariants: `live + cached = held = charged`; a block is on at most one free list;
//! `dirty <= touched <= stride`. [`Pool::check`] recounts them.
//!
//! Never: take a lock to reuse a block, make a system call without need, or keep a byte of a
//! dropped secret in a pool that wipes.

mod builder;
mod fill;
mod settings;

pub use self::builder::PoolBuilder;
pub(crate) use self::fill::fill_zero;
pub use self::settings::{OverLimitRelease, Prefault, Secrecy};

use crate::error::Error;
use crate::free_list::FreeList;
use crate::ledger::{Charge, Ledger};
use crate::region::{BlockState, Region, Slot};
use crate::size::{self, BLOCK_BYTES_MAX, GRANULE_BYTES};
use crate::stats::{Gauges, PoolStats, add, count, sub};
use crate::watermark::Watermark;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A block held by its owner; gone home only through [`Inner::release`].
#[derive(Clone, Copy)]
pub(crate) struct Block {
    pub(crate) start: NonNull<u8>,
    pub(crate) index: u32,
}

pub(crate) struct Inner {
    region: Region,
    ledger: Arc<Ledger>,
    cached: Box<[FreeList]>,
    empty: Box<[FreeList]>,
    gauges: Gauges,
    secrecy: Secrecy,
    prefault: Prefault,
    over_limit_release: OverLimitRelease,
}

/// A pool of blocks for large vectors: it keeps the pages of dropped vectors for the next ones.
///
/// Clones share the pool.
#[derive(Clone)]
pub struct Pool {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Returns the ledger that this pool charges.
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// Returns whether this pool wipes the memory of its dropped vectors.
    #[must_use]
    pub fn secrecy(&self) -> Secrecy {
        self.inner.secrecy()
    }

    /// Frees cached blocks, the largest class and the oldest block first, until `target_bytes` are
    /// freed or no block is left. Returns the freed bytes. It never touches live vectors.
    pub fn reclaim(&self, target_bytes: usize) -> usize {
        self.inner.reclaim(target_bytes)
    }

    /// Returns the gauges and counters.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.inner.stats()
    }

    /// Returns the bytes that vectors of this pool asked for, with their peak.
    #[must_use]
    pub fn asked(&self) -> &Watermark {
        &self.inner.gauges.allocated
    }

    /// Counts the bytes of this pool's blocks that are in memory now, by asking the kernel. It
    /// walks the addresses: for tests and benches.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the kernel cannot say.
    pub fn resident_bytes(&self) -> Result<usize, Error> {
        self.inner.region.resident_bytes()
    }

    /// Recounts every block and compares with the gauges.
    ///
    /// Returns true when the recount agrees, and false when calls on other threads made it
    /// impossible.
    ///
    /// # Panics
    ///
    /// When the recount disagrees. The pool is then broken and could hand a block out twice.
    pub fn check(&self) -> bool {
        self.inner.check()
    }
}

impl Inner {
    /// Hands out a block of at least `bytes`, charged; `prefault` says when fresh pages come.
    pub(crate) fn acquire(
        &self,
        bytes: usize,
        charge: Charge,
        prefault: Prefault,
    ) -> Result<Block, Error> {
        let class = size::class_of(bytes).ok_or(Error::TooLarge {
            len: bytes,
            element_bytes: 1,
            max_bytes: BLOCK_BYTES_MAX,
        })?;
        let _mark = self.gauges.begin();
        let at = class.0 as usize;
        let (mut index, mut origin) = if let Some(index) = self.cached[at].pop(&self.region) {
            (index, BlockState::Cached)
        } else if let Some(index) = self.empty[at].pop(&self.region) {
            (index, BlockState::Empty)
        } else {
            (self.region.carve(class)?, BlockState::Empty)
        };
        let mut slot = self.region.slot(index);
        let mut before = slot.touched_bytes();
        let needed = size::committed_bytes(class, bytes, self.region.page_bytes());
        if needed > before {
            match self.grow_or_find(index, (before, needed), charge, prefault) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    self.shelve(index, slot);
                    (index, origin, slot) = (found, BlockState::Cached, self.region.slot(found));
                    before = slot.touched_bytes();
                }
                Err(error) => {
                    add(&self.gauges.cached, slot.touched_bytes() - before);
                    self.shelve(index, slot);
                    return Err(error);
                }
            }
        }
        if origin == BlockState::Cached {
            sub(&self.gauges.cached, before);
        }
        slot.set_state(BlockState::Live);
        add(&self.gauges.live, slot.touched_bytes());
        count(&self.gauges.acquired, 1);
        count(&self.gauges.reused, usize::from(needed <= before));
        Ok(Block { start: self.region.block(index), index })
    }

    /// Grows a block. If making room for it has freed a block of its class with `to` bytes, uses
    /// that one instead: a vector that leaves hands its pages to the one that comes.
    #[cold]
    fn grow_or_find(
        &self,
        index: u32,
        (from, to): (usize, usize),
        charge: Charge,
        prefault: Prefault,
    ) -> Result<Option<u32>, Error> {
        let cached = &self.cached[self.region.slot(index).class().0 as usize];
        let mut found = None;
        let mut find = || {
            found = cached.pop(&self.region);
            if let Some(short) = found
                && self.region.slot(short).touched_bytes() < to
            {
                cached.push(&self.region, short);
                found = None;
            }
            found.is_some()
        };
        if self.ledger.charge_unless(to - from, charge, &mut find)? {
            self.populate(index, (from, to), prefault)?;
        }
        Ok(found)
    }

    /// Charges and populates bytes `from..to` of a block that the caller holds.
    fn grow(
        &self,
        index: u32,
        (from, to): (usize, usize),
        charge: Charge,
        prefault: Prefault,
    ) -> Result<(), Error> {
        self.ledger.charge(to - from, charge)?;
        self.populate(index, (from, to), prefault)
    }

    /// Populates bytes `from..to` of a block that the caller holds, which are charged, and moves
    /// its touched bytes to match what stays charged, error or not; the caller moves the gauges.
    fn populate(
        &self,
        index: u32,
        (from, to): (usize, usize),
        prefault: Prefault,
    ) -> Result<(), Error> {
        if prefault == Prefault::AtAcquire {
            // SAFETY: the caller holds the block, and from..to are whole pages inside it.
            if let Err(error) = unsafe { self.region.populate(index, from, to) } {
                // Part of it may have come; it is not wanted any more.
                // SAFETY: as above; the bytes past `from` were never handed out.
                match unsafe { self.region.decommit(index, from, to) } {
                    Ok(()) => self.ledger.uncharge(to - from),
                    // What came is still there: it stays charged.
                    Err(_) => self.note_touched(index, from, to),
                }
                return Err(error);
            }
        }
        self.note_touched(index, from, to);
        Ok(())
    }

    fn note_touched(&self, index: u32, from: usize, to: usize) {
        self.region.slot(index).set_touched_bytes(to);
        self.ledger.settle(to - from);
        count(&self.gauges.committed_total, to - from);
    }

    /// Puts a held block on the free list that fits its state.
    fn shelve(&self, index: u32, slot: &Slot) {
        let at = slot.class().0 as usize;
        let (state, list) = if slot.touched_bytes() > 0 {
            (BlockState::Cached, &self.cached[at])
        } else {
            (BlockState::Empty, &self.empty[at])
        };
        slot.set_state(state);
        list.push(&self.region, index);
    }

    /// Grows a live block to `bytes` without moving it, if its class allows.
    pub(crate) fn grow_in_place(
        &self,
        block: Block,
        bytes: usize,
        charge: Charge,
    ) -> Result<bool, Error> {
        let slot = self.region.slot(block.index);
        if bytes > size::class_bytes(slot.class()) {
            return Ok(false);
        }
        let _mark = self.gauges.begin();
        let before = slot.touched_bytes();
        let needed = size::committed_bytes(slot.class(), bytes, self.region.page_bytes());
        if needed > before {
            let grown = self.grow(block.index, (before, needed), charge, self.prefault);
            add(&self.gauges.live, slot.touched_bytes() - before);
            grown?;
        }
        Ok(true)
    }

    /// Takes a block home. Its first `dirty_bytes` may have been written.
    pub(crate) fn release(&self, block: Block, dirty_bytes: usize) {
        let _mark = self.gauges.begin();
        let slot = self.region.slot(block.index);
        debug_assert_eq!(slot.state(), BlockState::Live, "released a block that is not live");
        debug_assert!(dirty_bytes <= slot.touched_bytes(), "written past the committed bytes");
        slot.set_dirty_bytes(dirty_bytes.max(slot.dirty_bytes()).min(slot.touched_bytes()));
        if self.wipes() {
            self.wipe(block, slot);
        }
        let touched = slot.touched_bytes();
        sub(&self.gauges.live, touched);
        add(&self.gauges.cached, touched);
        slot.set_state(BlockState::Cached);
        let over =
            self.over_limit_release == OverLimitRelease::GiveBack && self.ledger.excess_bytes() > 0;
        if over {
            let freed = self.decommit(block.index, slot);
            count(&self.gauges.released_over_limit, freed);
        }
        self.shelve(block.index, slot);
    }

    fn wipe(&self, block: Block, slot: &Slot) {
        use zeroize::Zeroize;
        let dirty = slot.dirty_bytes();
        // SAFETY: the block is held by the caller and its first `dirty` bytes are committed; they
        // need not be initialised (a `Copy` type may have padding).
        let bytes = unsafe { std::slice::from_raw_parts_mut(block.start.cast().as_ptr(), dirty) };
        <[MaybeUninit<u8>]>::zeroize(bytes);
        slot.set_dirty_bytes(0);
    }

    /// Frees the memory of a cached block and returns how much. The caller holds the block.
    fn decommit(&self, index: u32, slot: &Slot) -> usize {
        let touched = slot.touched_bytes();
        if touched == 0 {
            return 0;
        }
        self.ledger.unsettle(touched);
        // SAFETY: the caller holds the block; a cached block's contents are nobody's.
        if unsafe { self.region.decommit(index, 0, touched) }.is_err() {
            // Refused (locked pages): it stays cached, resident and charged.
            self.ledger.settle(touched);
            return 0;
        }
        slot.set_touched_bytes(0);
        slot.set_dirty_bytes(0);
        sub(&self.gauges.cached, touched);
        self.ledger.uncharge(touched);
        count(&self.gauges.reclaimed_total, touched);
        touched
    }

    fn reclaim(&self, target_bytes: usize) -> usize {
        let mut freed = 0;
        for list in self.cached.iter().rev() {
            if freed >= target_bytes {
                break;
            }
            let _mark = self.gauges.begin();
            let mut chain = list.take_all(&self.region);
            while let Some(index) = chain.pop(&self.region) {
                let slot = self.region.slot(index);
                if freed < target_bytes {
                    freed += self.decommit(index, slot);
                }
                self.shelve(index, slot);
            }
        }
        freed
    }

    /// Makes the first `bytes` of a live block zero, and skips what is zero already.
    pub(crate) fn zero(&self, block: Block, bytes: usize) {
        let slot = self.region.slot(block.index);
        let dirty = slot.dirty_bytes().min(bytes);
        count(&self.gauges.zero_fill_skipped, bytes - dirty);
        // SAFETY: the caller holds the block, whose first `bytes` are committed; the bytes below
        // `dirty` need not be initialised.
        let prefix = unsafe { std::slice::from_raw_parts_mut(block.start.cast().as_ptr(), dirty) };
        fill_zero(prefix);
    }

    pub(crate) fn note_allocated(&self, bytes: usize) {
        self.gauges.allocated.add(bytes);
        self.ledger.asked().add(bytes);
    }

    pub(crate) fn note_freed(&self, bytes: usize) {
        self.gauges.allocated.sub(bytes);
        self.ledger.asked().sub(bytes);
    }

    pub(crate) fn secrecy(&self) -> Secrecy {
        self.secrecy
    }

    pub(crate) fn prefault(&self) -> Prefault {
        self.prefault
    }

    pub(crate) fn wipes(&self) -> bool {
        self.secrecy == Secrecy::Secret
    }

    /// Returns how many bytes of a live block its owner may use.
    pub(crate) fn usable_bytes(&self, block: Block) -> usize {
        let slot = self.region.slot(block.index);
        slot.touched_bytes().min(size::class_bytes(slot.class()))
    }

    #[cfg_attr(not(feature = "allocator-api2-02"), allow(dead_code, reason = "one caller"))]
    pub(crate) fn block_at(&self, start: NonNull<u8>) -> Option<Block> {
        self.region.index_of(start).map(|index| Block { start, index })
    }

    fn stats(&self) -> PoolStats {
        let g = &self.gauges;
        let live = g.live.load(Ordering::Relaxed);
        let cached = g.cached.load(Ordering::Relaxed);
        PoolStats {
            allocated_bytes: g.allocated.now_bytes(),
            live_bytes: live,
            cached_bytes: cached,
            held_bytes: live + cached,
            mapped_bytes: self.region.carved_bytes(),
            reserved_bytes: self.region.reserved_bytes(),
            metadata_bytes: self.region.metadata_bytes(),
            acquired: g.acquired.load(Ordering::Relaxed),
            reused: g.reused.load(Ordering::Relaxed),
            committed_total_bytes: g.committed_total.load(Ordering::Relaxed),
            reclaimed_total_bytes: g.reclaimed_total.load(Ordering::Relaxed),
            released_over_limit_bytes: g.released_over_limit.load(Ordering::Relaxed),
            zero_fill_skipped_bytes: g.zero_fill_skipped.load(Ordering::Relaxed),
        }
    }

    fn check(&self) -> bool {
        let Some(mark) = self.gauges.quiet() else { return false };
        let (mut live, mut cached) = (0, 0);
        let mut index = 0u32;
        let mut sound = true;
        while (index as usize) < self.region.carved_bytes() / GRANULE_BYTES {
            let slot = self.region.slot(index);
            let (touched, stride) = match slot.state() {
                BlockState::None => (0, GRANULE_BYTES),
                _ => (slot.touched_bytes(), size::stride_bytes(slot.class())),
            };
            match slot.state() {
                BlockState::Live => live += touched,
                BlockState::Cached => cached += touched,
                BlockState::Empty => sound &= touched == 0,
                BlockState::None => {}
            }
            sound &= slot.dirty_bytes() <= touched.max(slot.touched_bytes()) && touched <= stride;
            index += (stride / GRANULE_BYTES) as u32;
        }
        let stats = self.stats();
        if !self.gauges.quiet_since(mark) {
            return false;
        }
        assert!(sound, "a block's record is out of bounds");
        assert_eq!(live, stats.live_bytes, "live blocks recounted");
        assert_eq!(cached, stats.cached_bytes, "cached blocks recounted");
        assert!(stats.held_bytes <= stats.mapped_bytes, "held more than was mapped");
        true
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if cfg!(debug_assertions) && !std::thread::panicking() {
            assert!(self.check(), "nobody else can hold a pool that is dropped");
            assert_eq!(self.stats().live_bytes, 0, "a vector outlived its pool");
        }
        let held = self.stats().held_bytes;
        self.ledger.unsettle(held);
        self.ledger.uncharge(held);
    }
}
