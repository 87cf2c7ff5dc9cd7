//! The public face: build a pager, tell it what you know, ask it how it fares.
//!
//! ```text
//!   builder -> Pager -> base .. base + range_bytes    use it like any memory
//!              cold, will_need, reclaim, set_budget   hints: they change no contents
//!              dead, live, discard                    contents that nobody needs
//! ```
//!
//! Threads of the program come here, and they take signals. A handler that touched what is not in
//! memory would wait for a leader that waits for the lock its own thread holds; so the lock is
//! taken with signals blocked. (A stack inside the range would do the same without a signal: stacks
//! are no blocks of the allocator's.)
//!
//! Invariant: hints are never needed for correctness.
//!
//! Must never: be dropped while somebody still uses its range.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::libc;
use plimsoll_arena::os::{InChild, Linux};

use super::core::Core;
use super::crew::WATCHER;
use super::engine::Engine;
use super::entry::Ahead;
use super::held::Where;
use super::ids::{ChunkId, Id};
use super::queues::{DataQueue, End};
use super::reversed::Reversed;
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, GRANULES, Mask, Refused, run};
use super::state::State;
use super::stats::PagerStats;
use super::sys;
use super::tables::Mapping;
use super::thrash::Thrash;
use super::trace::TraceEvent;
use super::uffd::Door;
use super::worker::Start;

/// A range of memory under a budget. Drop gives the range back: nobody may use it any more.
pub struct Pager {
    engine: Arc<Engine>,
    threads: Vec<libc::pthread_t>,
    door: Door,
    /// One byte that is 1 here and 0 in a child process.
    mark: Mapping,
}

impl std::fmt::Debug for Pager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pager")
            .field("range_bytes", &self.range_bytes())
            .field("door", &self.door)
            .finish_non_exhaustive()
    }
}

impl Pager {
    pub(crate) fn start(engine: Arc<Engine>, workers: usize, door: Door) -> Result<Self, Refused> {
        let mark = Mapping::new(1, 4096)?;
        // SAFETY: the page was committed by the line above.
        unsafe { Linux.advise_fork(mark.base(), mark.bytes(), InChild::Zero)? };
        // SAFETY: the page is committed and ours.
        unsafe { mark.base().write_volatile(1) };
        let mut pager = Self { engine, threads: Vec::with_capacity(workers + 1), door, mark };
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        for number in (0..workers).chain([WATCHER]) {
            let engine = Arc::clone(&pager.engine);
            let start = Start { engine, number, workers, processors };
            let thread = start.launch();
            let thread = thread.map_err(|errno| Refused::Call("pthread_create", errno))?;
            pager.threads.push(thread);
        }
        Ok(pager)
    }

    /// Whether this is the process that made the pager, not a child of it.
    pub(super) fn is_here(&self) -> bool {
        // SAFETY: the page is committed; it is written before the pager is handed out.
        unsafe { self.mark.base().read_volatile() == 1 }
    }

    /// The first address of the range, a multiple of 2 MiB. What was never written reads as zero.
    pub fn base(&self) -> NonNull<u8> {
        self.engine.space.data().base()
    }

    /// The length of the range.
    pub fn range_bytes(&self) -> usize {
        self.engine.space.data().bytes()
    }

    /// How faults are had.
    pub fn door(&self) -> Door {
        self.door
    }

    /// Sets the budget, rounded down to granules, evicts what is over it, and returns the old one.
    pub fn set_budget(&self, bytes: usize) -> usize {
        let granules = (bytes / GRANULE_BYTES).max(1) as u64;
        if !self.is_here() {
            return 0;
        }
        let _quiet = sys::Quiet::new();
        let (before, over) = {
            let mut core = self.engine.core.lock();
            (core.set_budget(granules), core.over())
        };
        if over > 0 {
            self.engine.keep_to_budget(None);
        }
        before as usize * GRANULE_BYTES
    }

    /// Gives at least `bytes` back to the kernel, if the pager holds as much; returns how many.
    pub fn reclaim(&self, bytes: usize) -> usize {
        if !self.is_here() {
            return 0;
        }
        let _quiet = sys::Quiet::new();
        self.engine.reclaim(bytes.div_ceil(GRANULE_BYTES) as u64) as usize * GRANULE_BYTES
    }

    /// Says that the granules wholly inside a range will not be used for long: they go first.
    pub fn cold(&self, start: NonNull<u8>, bytes: usize) {
        self.each_chunk(start, bytes, Edge::Inside, |core, chunk, mask| {
            if core.chunk(chunk).mask(&[State::Resident]) & mask != 0 {
                core.enlist(DataQueue::Resident, chunk, End::First);
                self.engine.evict(core, chunk, ALL);
            }
        });
        self.engine.work.raise();
    }

    /// Says that a range will be used soon: what is in the file is read ahead.
    ///
    /// No more than an eighth of the budget: what nobody has come for yet must not push out what
    /// is in use, or itself.
    pub fn will_need(&self, start: NonNull<u8>, bytes: usize) {
        let mut queued = 0;
        self.each_chunk(start, bytes, Edge::Around, |core, chunk, mask| {
            let wanted = core.chunk(chunk).mask(&[State::Disk]) & mask;
            let granules = u64::from(wanted.count_ones());
            if wanted != 0
                && core.held.at(Where::Ahead) + queued + granules <= Engine::limbo_target(core)
            {
                queued += granules;
                core.expect(Ahead { chunk: Some(chunk), mask, enters: 0 });
            }
        });
        self.engine.work.raise();
    }

    /// Says that the contents of the granules wholly inside a range are not needed: they are
    /// dropped first, and may read as zero or as before until [`Pager::live`].
    ///
    /// # Safety
    ///
    /// Nobody relies on the contents, or holds a reference to them, until `live`.
    pub unsafe fn dead(&self, start: NonNull<u8>, bytes: usize) {
        if bytes >= CHUNK_BYTES {
            self.arrays(start, bytes, Reversed::gone);
            self.block(start, |core, granule| {
                core.record.note(TraceEvent::Freed { granule, bytes: bytes as u64 });
                core.replay.freed(granule);
            });
        }
        self.each_chunk(start, bytes, Edge::Inside, |core, chunk, mask| {
            core.chunk(chunk).set_dead(mask);
            let entry = core.chunk(chunk);
            let resident = entry.mask(&[State::Resident]);
            if resident != 0 && resident & !entry.dead() == 0 {
                // The next to go: it costs nothing.
                core.enlist(DataQueue::Resident, chunk, End::First);
            }
            use State::{Ahead, Disk, Limbo, Packed};
            let cheap = core.chunk(chunk).mask(&[Disk, Limbo, Ahead, Packed]);
            core.discard(&self.engine.space, chunk, mask & cheap);
        });
    }

    /// Says that a range is in use again; what of it was dropped reads as zero.
    pub fn live(&self, start: NonNull<u8>, bytes: usize) {
        self.each_chunk(start, bytes, Edge::Around, |core, chunk, mask| {
            let was_dead = core.chunk(chunk).set_live(mask) != 0;
            if was_dead && core.chunk(chunk).mask(&[State::Resident]) != 0 {
                core.enlist(DataQueue::Resident, chunk, End::Last);
            }
        });
    }

    /// Drops the granules wholly inside a range at once: they read as zero and hold no memory.
    /// Waits for those that are being read or written.
    ///
    /// # Safety
    ///
    /// Nobody relies on the contents, or holds a reference to them.
    pub unsafe fn discard(&self, start: NonNull<u8>, bytes: usize) {
        loop {
            let mut busy = 0;
            let seen = self.engine.progress.count();
            self.each_chunk(start, bytes, Edge::Inside, |core, chunk, mask| {
                busy |= core.discard(&self.engine.space, chunk, mask);
            });
            if busy == 0 || !self.is_here() {
                self.engine.progress.raise();
                return;
            }
            self.engine.progress.wait(seen, std::time::Duration::from_millis(2));
        }
    }

    /// Says that one array spans a range: what reads its rows in bit-reversed order is then known,
    /// and read ahead of. A later one that overlaps takes its place.
    pub fn array(&self, start: NonNull<u8>, bytes: usize) {
        self.arrays(start, bytes, Reversed::placed);
    }

    /// Notes that a block spans a range from now on.
    pub(crate) fn placed(&self, start: NonNull<u8>, bytes: usize) {
        if bytes >= CHUNK_BYTES {
            self.block(start, |core, granule| {
                core.record.note(TraceEvent::Placed { granule, bytes: bytes as u64 });
                core.replay.placed(granule, bytes as u64);
            });
        }
    }

    /// Tells of a block, where somebody wants to know.
    fn block(&self, start: NonNull<u8>, tell: impl FnOnce(&mut Core, u64)) {
        let offset = start.as_ptr().addr().wrapping_sub(self.engine.space.data().start());
        if self.engine.planning.is_some() && offset < self.range_bytes() && self.is_here() {
            let _quiet = sys::Quiet::new();
            tell(&mut self.engine.core.lock(), (offset / GRANULE_BYTES) as u64);
        }
    }

    fn arrays(&self, start: NonNull<u8>, bytes: usize, tell: fn(&mut Reversed, u64, u64)) {
        let first = start.as_ptr().addr().wrapping_sub(self.engine.space.data().start());
        if self.is_here() && first < self.range_bytes() {
            let bytes = bytes.min(self.range_bytes() - first);
            let _quiet = sys::Quiet::new();
            tell(&mut self.engine.core.lock().reversed, first as u64, bytes as u64);
        }
    }

    /// Keeps pages small where blocks below 2 MiB live, so that a touch makes no more than a
    /// granule resident.
    pub fn small_pages(&self, start: NonNull<u8>, bytes: usize) {
        self.each_chunk(start, bytes, Edge::Around, |core, chunk, _| {
            core.chunk(chunk).set_small();
        });
    }

    fn each_chunk(
        &self,
        start: NonNull<u8>,
        bytes: usize,
        edge: Edge,
        mut each: impl FnMut(&mut Core, ChunkId, Mask),
    ) {
        if !self.is_here() {
            return;
        }
        let first = start.as_ptr().addr().wrapping_sub(self.engine.space.data().start());
        let Some(granules) = granules(first, bytes, self.range_bytes(), edge) else { return };
        let _quiet = sys::Quiet::new();
        let mut at = granules.start;
        while at < granules.end {
            let chunk = at / GRANULES;
            let past = ((chunk + 1) * GRANULES).min(granules.end);
            let mut core = self.engine.core.lock();
            each(&mut core, ChunkId::of(chunk), run(at % GRANULES, past - at));
            at = past;
        }
    }

    /// What is held and was done; nothing in a child process.
    pub fn stats(&self) -> PagerStats {
        if !self.is_here() {
            return PagerStats::default();
        }
        let _quiet = sys::Quiet::new();
        self.engine.core.lock().stats()
    }

    /// Sets the budget to what the account's limit leaves, where
    /// [`following`](super::PagerBuilder::following) named one, and evicts what is over it. The
    /// pager does this by itself a hundred times a second, and more often while pages come and go.
    /// Returns the bytes given back.
    pub fn follow_limit(&self) -> usize {
        if !self.is_here() {
            return 0;
        }
        let _quiet = sys::Quiet::new();
        if self.engine.follow_limit() == 0 {
            return 0;
        }
        self.engine.keep_to_budget(None) as usize * GRANULE_BYTES
    }

    /// How hard the budget hurts; not at all in a child process.
    pub fn thrash(&self) -> Thrash {
        if !self.is_here() {
            return Thrash::default();
        }
        let _quiet = sys::Quiet::new();
        let core = self.engine.core.lock();
        core.counters.report(core.evictions(), core.budget())
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Pager {
    fn drop(&mut self) {
        if !self.is_here() {
            // A child has none of the threads, and none of the ranges.
            return;
        }
        // Release: pairs with the acquire in `stopping`.
        self.engine.stop.store(true, Ordering::Release);
        sys::ring(&self.engine.bell);
        self.engine.work.raise();
        for thread in self.threads.drain(..) {
            // SAFETY: of `start_thread`, by `launch`; drained, so joined once.
            unsafe { sys::join_thread(thread) };
        }
        self.engine.tend_plan();
    }
}

/// What of a range's first and last granule belongs to it.
#[derive(Clone, Copy)]
enum Edge {
    /// Only granules wholly inside.
    Inside,
    /// Every granule touched.
    Around,
}

/// The granules of a range that begins `first` bytes in; `None` if there are none.
fn granules(first: usize, bytes: usize, range_bytes: usize, edge: Edge) -> Option<Range<usize>> {
    let past = first.checked_add(bytes)?.min(range_bytes);
    let granules = match edge {
        Edge::Inside => first.div_ceil(GRANULE_BYTES)..past / GRANULE_BYTES,
        Edge::Around => first / GRANULE_BYTES..past.div_ceil(GRANULE_BYTES),
    };
    (first < range_bytes && granules.start < granules.end).then_some(granules)
}
