//! Spillable vectors: handles to vectors that may be packed or on disk between two uses.
//!
//! ```text
//!   Spillable<T> ---- pin ----> guard: &[T], &mut [T]       the vector stays while a guard lives
//!        |
//!        +-- hint(NextUse, Uniform)    which to part with first; what not to try to pack
//!        +-- write_back()              I/O thread: if room is short, save it and let it leave
//!        +-- prefetch()                I/O thread: read it in, if there is room
//!
//!   reclaim ladder: unpinned vectors, the least wanted first -> packed in RAM, or the spill file
//! ```
//!
//! Nothing leaves memory while everything fits. When room is short, vectors without a hint leave
//! first, the least recently used one before the others. After them the vector whose next use is
//! farthest away leaves. The clock counts vectors that were made or brought in.
//!
//! ```
//! use plimsoll::Runtime;
//! use plimsoll::spill::SpillOptions;
//!
//! let folder = std::env::temp_dir();
//! # let temporary = tempfile::tempdir_in("/var/tmp")?;
//! # let folder = temporary.path();
//! let runtime = Runtime::builder().limit_bytes(1 << 30).spill(SpillOptions::new(folder)).build()?;
//! let column = runtime.pool().try_zeroed::<u64>(1 << 16)?;
//! let column = runtime.spillable(column);
//! column.write()?[7] = 42;
//! column.write_back(); // it may leave now, if room is short
//! assert_eq!(column.read()?[7], 42); // and is back when it is read
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Never: wait for a lock inside the ladder, lose a vector that the store could not save (it stays
//! in memory), hand out bytes whose checksum is wrong.

mod evict;
mod handle;
mod lanes;
mod options;
pub(crate) mod rung;
mod slot;
#[cfg(test)]
mod tests;

pub use handle::{Hint, ReadGuard, Spillable, WriteGuard};
pub use lanes::Lanes;
pub use options::SpillOptions;

// What the signatures here name of `plimsoll_swap`.
pub use plimsoll_swap::Error as StoreError;
pub use plimsoll_swap::backend::{AlignedBytes, Backend};
pub use plimsoll_swap::codec::LaneSpec;
pub use plimsoll_swap::codec::field::{Field32Spec, FieldSpec};
pub use plimsoll_swap::extent::Extent;
pub use plimsoll_swap::file::RamDisk;
pub use plimsoll_swap::store::{Encryption, SpillTier};

use crate::error::Error;
use crate::reclaim::unclimbing;
use evict::Evict;
use plimsoll_arena::Ledger;
use plimsoll_arena::sync::unpoisoned;
use plimsoll_swap::store::{Saved, Store, StoreStats};
use plimsoll_swap::workers::{Class, Workers};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};

/// What the spill tier did, in bytes of vectors and in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SpillStats {
    /// Bytes of spillable vectors in memory now.
    pub resident_bytes: u64,
    /// Bytes that packed copies take in memory now.
    pub packed_bytes: u64,
    /// Bytes of the spill file, or of the kernel's swap, in use now.
    pub file_bytes: u64,
    /// RAM that zram takes for this process, counted under the limit, at the last look.
    pub zram_bytes: u64,
    /// The most that zram took so far.
    pub zram_bytes_max: u64,
    /// Bytes of vectors that were packed, so far.
    pub packed_total: u64,
    /// Bytes of vectors that were written to the spill file or to the kernel's swap, so far.
    pub spilled_total: u64,
    /// Bytes of vectors that were brought back, so far.
    pub loaded_total: u64,
    /// Vectors that were read in before they were needed.
    pub read_ahead: u64,
    /// Those of them that were then used.
    pub read_ahead_hits: u64,
    /// Read-aheads that found no room.
    pub read_ahead_skipped: u64,
    /// Times a vector was needed and not there.
    pub stalls: u64,
    /// Nanoseconds waited for it, over all threads.
    pub stalled_nanos: u64,
    /// Vectors that were made again.
    pub recomputed: u64,
    /// Vectors that left at the ladder's demand, not by `write_back`.
    pub evicted: u64,
}

#[derive(Debug, Default)]
struct Counters {
    packed_total: AtomicU64,
    spilled_total: AtomicU64,
    loaded_bytes: AtomicU64,
    read_ahead: AtomicU64,
    read_ahead_hits: AtomicU64,
    read_ahead_skipped: AtomicU64,
    stalls: AtomicU64,
    stalled_nanos: AtomicU64,
    recomputed: AtomicU64,
    evicted: AtomicU64,
}

/// The vectors of one runtime that may be spilled, and the store they go to.
pub(crate) struct Spill {
    ledger: Arc<Ledger>,
    store: Option<Store>,
    io_threads: usize,
    workers: OnceLock<Workers>,
    slots: Mutex<HashMap<u64, Weak<dyn Evict>>>,
    resident: AtomicUsize,
    /// Bytes freed by vectors that left, so far.
    departed: AtomicU64,
    clock: AtomicU64,
    ids: AtomicU64,
    counters: Counters,
    /// Why a vector could not be saved, and its bytes.
    failure: Mutex<Option<(usize, plimsoll_swap::Error)>>,
    /// Write-backs queued or running: the ladder waits for them before it gives up.
    leaving: Mutex<usize>,
    left: Condvar,
}

impl std::fmt::Debug for Spill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spill").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Counts a write-back as over when it is dropped, done or not.
struct Leaving(Arc<Spill>);

impl Drop for Leaving {
    fn drop(&mut self) {
        *unpoisoned(self.0.leaving.lock()) -= 1;
        self.0.left.notify_all();
    }
}

impl Spill {
    pub(crate) fn new(ledger: Arc<Ledger>, store: Option<Store>, io_threads: usize) -> Arc<Self> {
        Arc::new(Self {
            ledger,
            store,
            io_threads,
            workers: OnceLock::new(),
            slots: Mutex::new(HashMap::new()),
            resident: AtomicUsize::new(0),
            departed: AtomicU64::new(0),
            clock: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            counters: Counters::default(),
            failure: Mutex::new(None),
            leaving: Mutex::new(0),
            left: Condvar::new(),
        })
    }

    /// Bytes of buffers beyond those of the usual number of I/O threads, which plans count as the
    /// program's own.
    #[cfg(feature = "groth16")]
    pub(crate) fn extra_scratch_bytes(&self) -> usize {
        let extra = self.io_threads.saturating_sub(options::IO_THREADS);
        self.store().map_or(0, |_| extra * plimsoll_swap::store::SCRATCH_BYTES)
    }

    pub(crate) fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// Says whether vectors of secrets may be spilled.
    #[cfg(feature = "groth16")]
    pub(crate) fn takes_secrets(&self) -> Result<(), Error> {
        Ok(self.store().map_or(Ok(()), Store::takes_secrets)?)
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Moves the clock on: once for each vector made, faulted or written back.
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    fn note_resident(&self, bytes: usize) {
        self.tick();
        self.resident.fetch_add(bytes, Ordering::Relaxed);
    }

    fn note_gone(&self, bytes: usize) {
        self.resident.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn note_departed(&self, bytes: usize) {
        self.departed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn note_saved(&self, saved: &Saved) {
        let packed = saved.packed_raw_bytes();
        let spilled = saved.raw_bytes() - packed;
        self.counters.packed_total.fetch_add(packed as u64, Ordering::Relaxed);
        self.counters.spilled_total.fetch_add(spilled as u64, Ordering::Relaxed);
        if spilled > 0 {
            self.note_written(saved.raw_bytes());
        }
    }

    /// Says whether vectors of `bytes` need not leave yet: there is room for an eighth of the limit
    /// and four more vectors of this size.
    fn roomy(&self, bytes: usize) -> bool {
        let reserve = (self.ledger.limit_bytes() / 8).saturating_add(bytes.saturating_mul(4));
        self.ledger.headroom_bytes() > reserve
    }

    /// Keeps the first failure to save `bytes`, to explain later why there is no room.
    fn note_failure(&self, bytes: usize, error: plimsoll_swap::Error) {
        unpoisoned(self.failure.lock()).get_or_insert((bytes, error));
    }

    /// Forgets a failure that is over, once the file has taken as many bytes as could not be saved.
    /// After a failed write the file takes no more, and that stays the reason.
    fn note_written(&self, bytes: usize) {
        let mut failure = unpoisoned(self.failure.lock());
        let is_over = failure.as_ref().is_some_and(|(failed, _)| *failed <= bytes);
        if is_over && !self.store().is_some_and(Store::poisoned) {
            *failure = None;
        }
    }

    /// Says why nothing can leave memory any more, if so.
    pub(crate) fn failure(&self) -> Option<String> {
        unpoisoned(self.failure.lock()).as_ref().map(|(_, error)| error.to_string())
    }

    fn explain(&self, error: plimsoll_arena::Error) -> Error {
        match (&error, self.failure()) {
            (plimsoll_arena::Error::OverLimit(over), Some(why)) => {
                Error::SpillStopped { asked_bytes: over.asked_bytes as u64, why }
            }
            _ => Error::from(error),
        }
    }

    fn enlist(&self, id: u64, slot: Weak<dyn Evict>) {
        unpoisoned(self.slots.lock()).insert(id, slot);
    }

    fn forget(&self, id: u64) {
        let removed = unpoisoned(self.slots.lock()).remove(&id);
        drop(removed);
    }

    fn workers(&self) -> &Workers {
        self.workers.get_or_init(|| Workers::new(self.io_threads))
    }

    /// Queues `job` for the I/O threads, which get no relief; says whether it was taken.
    fn submit(&self, class: Class, job: impl FnOnce() + Send + 'static) -> bool {
        self.workers().submit(class, Box::new(move || unclimbing(job)))
    }

    fn submit_leaving(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) -> bool {
        *unpoisoned(self.leaving.lock()) += 1;
        let leaving = Leaving(Arc::clone(self));
        self.submit(Class::WriteBack, move || {
            job();
            drop(leaving);
        })
    }

    /// Returns the bytes of vectors in memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.resident.load(Ordering::Relaxed)
    }

    /// Returns the bytes of packed copies in memory.
    pub(crate) fn packed_bytes(&self) -> usize {
        self.store().map_or(0, |store| store.stats().packed_bytes as usize)
    }

    /// Returns the bytes of vectors that left by write-back, so far.
    fn departed_bytes(&self) -> u64 {
        self.departed.load(Ordering::Relaxed)
    }

    /// Makes at least `target_bytes` of vectors leave memory if it can, and returns the bytes that
    /// they freed, even if other threads have taken the room since. If that is not enough, it also
    /// counts the bytes that write-backs have freed since `departed_before`.
    fn reclaim(&self, target_bytes: usize, departed_before: u64) -> usize {
        if target_bytes == 0 || self.store.is_none() && unpoisoned(self.slots.lock()).is_empty() {
            return 0;
        }
        let mut freed = 0;
        let slots = self.least_wanted_first();
        for slot in &slots {
            if freed >= target_bytes {
                break;
            }
            let bytes = slot.evict();
            self.counters.evicted.fetch_add(u64::from(bytes > 0), Ordering::Relaxed);
            freed += bytes;
        }
        for slot in &slots {
            if freed >= target_bytes {
                break;
            }
            freed += slot.demote();
        }
        if freed < target_bytes {
            freed += self.wait_for_leaving(target_bytes - freed, departed_before);
        }
        freed
    }

    /// Returns the vectors in the order in which they should leave.
    fn least_wanted_first(&self) -> Vec<Arc<dyn Evict>> {
        let mut slots: Vec<_> =
            unpoisoned(self.slots.lock()).values().filter_map(Weak::upgrade).collect();
        slots.sort_by_cached_key(|slot| {
            let signs = slot.signs();
            let next_use = signs.next_use.load(Ordering::Relaxed);
            (std::cmp::Reverse(next_use), signs.used.load(Ordering::Relaxed), signs.id)
        });
        slots
    }

    /// Waits until write-backs have freed `bytes` since `departed_before`, or until none is under
    /// way. Returns the bytes that they freed.
    fn wait_for_leaving(&self, bytes: usize, departed_before: u64) -> usize {
        let mut leaving = unpoisoned(self.leaving.lock());
        loop {
            let departed = (self.departed_bytes() - departed_before) as usize;
            if departed >= bytes || *leaving == 0 {
                return departed;
            }
            leaving = unpoisoned(self.left.wait(leaving));
        }
    }

    pub(crate) fn stats(&self) -> SpillStats {
        let store = self.store().map(Store::stats).unwrap_or_default();
        let StoreStats { packed_bytes, file_bytes, .. } = store;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
        SpillStats {
            resident_bytes: self.resident_bytes() as u64,
            packed_bytes,
            file_bytes,
            zram_bytes: self.ledger.account().zram_bytes() as u64,
            zram_bytes_max: self.ledger.account().zram_bytes_max() as u64,
            packed_total: read(&c.packed_total),
            spilled_total: read(&c.spilled_total),
            loaded_total: read(&c.loaded_bytes),
            read_ahead: read(&c.read_ahead),
            read_ahead_hits: read(&c.read_ahead_hits),
            read_ahead_skipped: read(&c.read_ahead_skipped),
            stalls: read(&c.stalls),
            stalled_nanos: read(&c.stalled_nanos),
            recomputed: read(&c.recomputed),
            evicted: read(&c.evicted),
        }
    }
}
