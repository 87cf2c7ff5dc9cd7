//! The reclaim ladder: who gives memory back, in which order, and how much.
//!
//! ```text
//!   short of N bytes
//!     rung 1  cached blocks     pools give free blocks back, largest and oldest first; then the
//!                               global allocator its cached pages, if it is ours
//!     rung 2  holders           registered caches give up what they can make again
//!     rung 3  spillable         unpinned vectors are packed or spilled, the least wanted first
//!     rung 4  paged blocks      the pager under the global allocator, if there is one, evicts
//!     rung 5  heap trim         what serves small objects returns the pages of freed ones: the
//!                               allocator inside ours, otherwise the C library
//! ```
//!
//! Cheapest first, and a rung is climbed only while bytes are short. Once climbing, a little more
//! than needed is freed (`slack_bytes`), so that the next charge does not climb again. The order
//! is fixed and nothing runs in the background: the same sequence of calls gives the same actions.
//!
//! The same ladder serves four ways in, each with a counter of its own and a switch of its own
//! ([`Enforcement`]), because a path that is off looks exactly like a path that has nothing to do:
//! a charge that does not fit, a reclaim point, a limit that is lowered, and a block that is
//! dropped while over the limit (that one lives in the pool).
//!
//! Invariant: after a climb for N bytes, `freed >= N`, or the report's `short_bytes` says what is
//! missing and `blocked` who holds it.
//!
//! Never: climb inside a climb (a holder that charges while it reclaims gets no relief), reclaim
//! what is live, log on the way (but for the one warning of the thrash guard).

use crate::meter::Meter;
use crate::spill::Spill;
use crate::thrash::{OnThrash, Thrash};
use plimsoll_arena::global::{Ask, reclaim_process};
use plimsoll_arena::{Ledger, Pool, Pressure, os};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

/// A cache, or any owner of memory that can give some of it back.
pub trait Holder: Send + Sync {
    /// A short name for reports, such as `twiddles 2^20`.
    fn name(&self) -> &str;

    /// Bytes held now.
    fn held_bytes(&self) -> usize;

    /// Gives back at least `target_bytes` if it can, and returns the bytes freed.
    ///
    /// It runs inside a charge or a reclaim point of any thread. It must not charge the ledger, it
    /// must not wait for a lock that is held while something is charged (`try_lock` and give
    /// nothing instead), and it must not wait for work on rayon's pool, which may run a job that
    /// charges.
    fn reclaim(&self, target_bytes: usize) -> usize;
}

/// Which paths enforce the limit. All of them, unless a test looks at one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// A charge that does not fit climbs the ladder.
    pub at_charge: bool,
    /// A block dropped while over the limit gives its memory back.
    pub at_release: bool,
    /// A reclaim point that lacks headroom climbs the ladder.
    pub at_reclaim_point: bool,
    /// Lowering the limit climbs the ladder.
    pub when_lowered: bool,
}

impl Default for Enforcement {
    fn default() -> Self {
        Self { at_charge: true, at_release: true, at_reclaim_point: true, when_lowered: true }
    }
}

/// How often each path had to act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnforcementCounts {
    /// Charges that climbed.
    pub at_charge: u64,
    /// Reclaim points that climbed.
    pub at_reclaim_point: u64,
    /// Changes of the limit that climbed.
    pub when_lowered: u64,
    /// Charges or points that the thrash guard did not let climb.
    pub stopped_by_thrash_guard: u64,
}

/// Bytes freed by each rung.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Freed {
    /// By cached blocks of pools.
    pub cached_bytes: usize,
    /// By cached pages of the global allocator.
    pub allocator_bytes: usize,
    /// By registered holders.
    pub holder_bytes: usize,
    /// By spillable vectors, packed or spilled.
    pub spilled_bytes: usize,
    /// By the pager under the global allocator.
    pub paged_bytes: usize,
    /// By the heap of small objects.
    pub heap_bytes: usize,
}

impl Freed {
    /// Returns the bytes of all rungs.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        let ours = self.cached_bytes + self.holder_bytes + self.spilled_bytes;
        ours + self.allocator_bytes + self.paged_bytes + self.heap_bytes
    }
}

/// Who holds memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The holder's name.
    pub name: String,
    /// Its bytes.
    pub bytes: usize,
}

/// What a reclaim point did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimReport {
    /// Bytes the stage said it needs.
    pub need_bytes: usize,
    /// Bytes freed, by rung; all zero when there was headroom.
    pub freed: Freed,
    /// Bytes still missing.
    pub short_bytes: usize,
    /// Who holds memory that could not be freed, largest first; empty unless short.
    pub blocked: Vec<Held>,
}

/// Frees this much beyond what is short: 1/64 of the limit, at most 64 MiB. Less would climb at
/// every charge; more would give warm pages away.
fn slack_bytes(limit_bytes: usize) -> usize {
    (limit_bytes / 64).min(64 << 20)
}

/// Why the ladder is climbed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Charge,
    Point,
    Lowered,
}

thread_local! {
    static CLIMBING: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as climbing until dropped.
struct Climbing;

impl Climbing {
    fn begin() -> Option<Self> {
        (!CLIMBING.replace(true)).then_some(Self)
    }
}

impl Drop for Climbing {
    fn drop(&mut self) {
        CLIMBING.set(false);
    }
}

/// Runs `job` with charges of this thread getting no relief: for I/O threads, which free memory
/// and must not wait for whoever waits for them.
pub(crate) fn unclimbing<R>(job: impl FnOnce() -> R) -> R {
    let _climbing = Climbing::begin();
    job()
}

/// The ladder and those on it.
pub(crate) struct Ladder {
    ledger: OnceLock<Weak<Ledger>>,
    pools: OnceLock<Vec<Weak<NamedPool>>>,
    holders: Mutex<Vec<Weak<dyn Holder>>>,
    spill: OnceLock<Weak<Spill>>,
    climb: Mutex<()>,
    meter: Meter,
    enforcement: Enforcement,
    thrash: Thrash,
    at_charge: AtomicU64,
    at_reclaim_point: AtomicU64,
    when_lowered: AtomicU64,
    stopped: AtomicU64,
}

/// A pool with a name for reports.
#[derive(Debug)]
pub(crate) struct NamedPool {
    pub(crate) name: &'static str,
    pub(crate) pool: Pool,
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ladder {
    pub(crate) fn new(meter: Meter, enforcement: Enforcement, on_thrash: OnThrash) -> Self {
        Self {
            ledger: OnceLock::new(),
            pools: OnceLock::new(),
            holders: Mutex::new(Vec::new()),
            spill: OnceLock::new(),
            climb: Mutex::new(()),
            meter,
            enforcement,
            thrash: Thrash::new(on_thrash),
            at_charge: AtomicU64::new(0),
            at_reclaim_point: AtomicU64::new(0),
            when_lowered: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
        }
    }

    /// Connects what is on the ladder; called once, by the runtime that owns it all.
    pub(crate) fn connect(
        &self,
        ledger: &Arc<Ledger>,
        pools: &[Arc<NamedPool>],
        spill: &Arc<Spill>,
    ) {
        let first = self.ledger.set(Arc::downgrade(ledger)).is_ok()
            && self.spill.set(Arc::downgrade(spill)).is_ok();
        let pools = pools.iter().map(Arc::downgrade).collect();
        assert!(first && self.pools.set(pools).is_ok(), "a ladder belongs to one runtime");
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Registers a holder; it leaves by being dropped.
    pub(crate) fn register(&self, holder: &Arc<dyn Holder>) {
        let mut holders = lock(&self.holders);
        holders.retain(|weak| weak.strong_count() > 0);
        holders.push(Arc::downgrade(holder));
    }

    pub(crate) fn counts(&self) -> EnforcementCounts {
        EnforcementCounts {
            at_charge: self.at_charge.load(Ordering::Relaxed),
            at_reclaim_point: self.at_reclaim_point.load(Ordering::Relaxed),
            when_lowered: self.when_lowered.load(Ordering::Relaxed),
            stopped_by_thrash_guard: self.stopped.load(Ordering::Relaxed),
        }
    }

    /// Returns who holds how much, largest first.
    pub(crate) fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = Vec::new();
        for named in self.pools.get().into_iter().flatten().filter_map(Weak::upgrade) {
            let stats = named.pool.stats();
            held.push(Held { name: format!("{} in use", named.name), bytes: stats.live_bytes });
            held.push(Held { name: format!("{} cached", named.name), bytes: stats.cached_bytes });
        }
        if let Some(spill) = self.spill.get().and_then(Weak::upgrade) {
            let name = "packed vectors".to_owned();
            held.push(Held { name, bytes: spill.packed_bytes() });
        }
        for holder in self.live_holders() {
            held.push(Held { name: holder.name().to_owned(), bytes: holder.held_bytes() });
        }
        let foreign = self.ledger().map_or(0, |ledger| ledger.stats().foreign_bytes);
        held.push(Held { name: "heap, program and mapped files".to_owned(), bytes: foreign });
        held.retain(|held| held.bytes > 0);
        held.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.name.cmp(&b.name)));
        held
    }

    fn ledger(&self) -> Option<Arc<Ledger>> {
        self.ledger.get().and_then(Weak::upgrade)
    }

    fn live_holders(&self) -> Vec<Arc<dyn Holder>> {
        lock(&self.holders).iter().filter_map(Weak::upgrade).collect()
    }

    fn enabled(&self, cause: Cause) -> bool {
        match cause {
            Cause::Charge => self.enforcement.at_charge,
            Cause::Point => self.enforcement.at_reclaim_point,
            Cause::Lowered => self.enforcement.when_lowered,
        }
    }

    fn count(&self, cause: Cause) {
        let counter = match cause {
            Cause::Charge => &self.at_charge,
            Cause::Point => &self.at_reclaim_point,
            Cause::Lowered => &self.when_lowered,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Climbs until `short_bytes` (and some slack) are freed or no rung is left.
    pub(crate) fn climb(&self, short_bytes: usize, cause: Cause) -> Freed {
        let mut freed = Freed::default();
        if short_bytes == 0 || !self.enabled(cause) {
            return freed;
        }
        let Some(_climbing) = Climbing::begin() else { return freed };
        if self.thrash.refuses() {
            self.stopped.fetch_add(1, Ordering::Relaxed);
            return freed;
        }
        // One at a time: two threads that are short together would free twice as much.
        let _one = lock(&self.climb);
        let Some(ledger) = self.ledger() else { return freed };
        let started = Instant::now();
        let foreign_before = ledger.stats().foreign_bytes;
        self.count(cause);
        let target = short_bytes.saturating_add(slack_bytes(ledger.limit_bytes()));
        freed.cached_bytes += self.reclaim_cached(target);
        if freed.total_bytes() < target {
            let left = target - freed.total_bytes();
            freed.allocator_bytes += reclaim_process(Ask::Cached(left)).unwrap_or(0);
        }
        for holder in self.live_holders() {
            let left = target.saturating_sub(freed.total_bytes());
            if left > 0 {
                freed.holder_bytes += holder.reclaim(left);
            }
        }
        if freed.total_bytes() < short_bytes {
            let left = self.spill_vectors(target - freed.total_bytes());
            // A charge may be for a block like those that came free: if not, it asks again.
            if cause != Cause::Charge {
                self.reclaim_cached(left);
            }
            freed.spilled_bytes += left;
        }
        if freed.total_bytes() < short_bytes
            && let Some(pager) = plimsoll_swap::pager::process()
        {
            freed.paged_bytes += pager.reclaim(target - freed.total_bytes());
        }
        if freed.total_bytes() < short_bytes {
            let known = freed.allocator_bytes + freed.paged_bytes;
            freed.heap_bytes += self.trim_heap(&ledger, foreign_before).saturating_sub(known);
        }
        self.thrash.note(started, Instant::now());
        freed
    }

    fn reclaim_cached(&self, target_bytes: usize) -> usize {
        let mut freed = 0;
        for named in self.pools.get().into_iter().flatten().filter_map(Weak::upgrade) {
            freed += named.pool.reclaim(target_bytes - freed.min(target_bytes));
        }
        freed
    }

    /// Makes vectors leave memory; the blocks they leave behind are cached. Returns what left:
    /// the ledger's difference would also count what other threads took meanwhile.
    fn spill_vectors(&self, target_bytes: usize) -> usize {
        let spill = self.spill.get().and_then(Weak::upgrade);
        spill.map_or(0, |spill| spill.reclaim(target_bytes))
    }

    /// Has the allocator of small objects return free pages. Returns what is foreign less than
    /// before the climb: what the climb itself left on the heap does not count as freed, or one
    /// that frees nothing else would look like one that does.
    fn trim_heap(&self, ledger: &Ledger, foreign_before: usize) -> usize {
        if reclaim_process(Ask::Everything).is_none() {
            os::trim_heap();
        }
        ledger.sample();
        foreign_before.saturating_sub(ledger.stats().foreign_bytes)
    }
}

impl Pressure for Ladder {
    fn foreign_bytes(&self, settled_bytes: usize) -> usize {
        match self.meter.rss_bytes() {
            Ok(rss) => (rss as usize).saturating_sub(settled_bytes),
            // The meter worked when the runtime was built: the last figure is better than none.
            Err(_) => self.ledger().map_or(0, |ledger| ledger.stats().foreign_bytes),
        }
    }

    fn relieve(&self, short_bytes: usize) -> usize {
        self.climb(short_bytes, Cause::Charge).total_bytes()
    }
}
