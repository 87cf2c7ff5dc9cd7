//! The reclaim ladder: what frees memory when the limit asks for it, in which order, and how much.
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
//! ```
//! use plimsoll::{Runtime, reclaim::Holder};
//! use std::sync::{Arc, Mutex};
//!
//! struct Roots(Mutex<Vec<u64>>);
//!
//! impl Holder for Roots {
//!     fn name(&self) -> &str {
//!         "roots"
//!     }
//!     fn held_bytes(&self) -> usize {
//!         self.0.try_lock().map_or(0, |roots| roots.capacity() * 8)
//!     }
//!     fn reclaim(&self, _target_bytes: usize) -> usize {
//!         self.0.try_lock().map_or(0, |mut roots| std::mem::take(&mut *roots).capacity() * 8)
//!     }
//! }
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let roots: Arc<dyn Holder> = Arc::new(Roots(Mutex::new(vec![7; 1 << 16])));
//! runtime.register(&roots);
//! runtime.reclaim_all();
//! assert_eq!(roots.held_bytes(), 0);
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! The cheapest rung comes first, and the ladder climbs only while bytes are short. A climb frees a
//! little more than needed (`slack_bytes`), so that the next charge does not climb again. The order
//! is fixed and nothing runs in the background: the same sequence of calls gives the same actions.
//!
//! Four paths lead here: a charge that does not fit, a reclaim point, a lowered limit, and a block
//! that is dropped while the process is over the limit (the pool has that one). Each path has a
//! counter and a switch ([`Enforcement`]), because a broken path is indistinguishable from an idle
//! one.
//!
//! The runtime makes the list of rungs in the order above. This module knows none of them by name.
//! Reports of freed bytes and of holders have the same order.
//!
//! Invariant: after a climb for N bytes, `freed >= N`, or the report has the missing bytes in
//! `short_bytes` and the holders of memory in `blocked`.
//!
//! Never: climb inside a climb (a holder that charges while it reclaims gets no relief), reclaim
//! live vectors, or log during a climb (except for the one line of the account's thrash guard).

mod held;
pub(crate) mod rungs;

pub use held::Held;
pub(crate) use held::largest_first;
pub use plimsoll_arena::process::OnThrash;

use plimsoll_arena::Pressure;
use plimsoll_arena::process::{AccountRef, Owner};
use plimsoll_arena::sync::unpoisoned;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Instant;

/// A cache, or another owner of memory that can free some of it on demand.
pub trait Holder: Send + Sync {
    /// Returns a short name for reports, such as `twiddles 2^20`.
    fn name(&self) -> &str;

    /// Returns the bytes that it holds now.
    fn held_bytes(&self) -> usize;

    /// Gives back at least `target_bytes` if it can, and returns the bytes freed.
    ///
    /// Any thread may call it, inside a charge or a reclaim point. It must not charge the ledger.
    /// It must not wait for a lock that somebody may hold while charging: use `try_lock`, and free
    /// nothing if that fails. It must not wait for work on rayon's pool, which may run a job that
    /// charges.
    fn reclaim(&self, target_bytes: usize) -> usize;
}

/// One step of the ladder. The prohibitions of [`Holder::reclaim`] hold for it, too.
pub(crate) trait Rung: Send + Sync {
    /// Its name in reports, in the plural.
    fn name(&self) -> &'static str;

    /// Returns whether a climb uses it only for the missing bytes themselves, and not for the
    /// slack.
    fn is_costly(&self) -> bool {
        false
    }

    /// Whose bytes it frees.
    fn frees(&self) -> Frees {
        Frees::Rest
    }

    /// A climb begins. From here on, bytes that other threads free for this rung count as its own.
    fn begin(&self) {}

    /// Returns the holders of the memory that it could free, and of the part that is in use.
    /// Allocates.
    fn held(&self, moment: Moment) -> Vec<Held>;

    /// Gives back at least `target_bytes` if it can, and returns the bytes freed.
    fn reclaim(&self, target_bytes: usize, climb: &Climb) -> usize;
}

/// Whose bytes a rung frees.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frees {
    /// Bytes that the runtime's ledger counts.
    Vectors,
    /// Bytes of the rest of the process.
    Rest,
}

/// When somebody held it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Now.
    Now,
    /// At its own highest in a stage, where that is known: the vectors of each pool, in the pools'
    /// order. Others now.
    Lap([usize; 2]),
}

/// What a rung knows about the climb.
pub(crate) struct Climb {
    pub(crate) cause: Cause,
    /// The bytes that the rest of the process held before it.
    rest_before: usize,
    /// How much of that the rungs below have freed.
    rest_freed: usize,
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

/// How often each path climbed the ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnforcementCounts {
    /// Climbs for charges.
    pub at_charge: u64,
    /// Climbs at reclaim points. One that is still short climbs again.
    pub at_reclaim_point: u64,
    /// Climbs for a changed limit.
    pub when_lowered: u64,
    /// Charges or reclaim points that the thrash guard kept from climbing.
    pub stopped_by_thrash_guard: u64,
    /// Times the process was over its limit with nothing more to give back.
    pub over_limit: u64,
}

/// Bytes freed by each rung that freed any, in the order in which they began to: of one climb, the
/// ladder's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed(Vec<(&'static str, u64)>);

impl Freed {
    /// Returns the bytes of all rungs.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.0.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Returns the bytes of a rung by its name: `cached blocks`, `allocator cache`, `holders`,
    /// `spillable vectors`, `paged blocks`, `heap trim`. Zero for one that freed nothing.
    #[must_use]
    pub fn by(&self, rung: &str) -> u64 {
        self.0.iter().find(|(name, _)| *name == rung).map_or(0, |(_, bytes)| *bytes)
    }

    /// Returns the rungs that freed anything, with their bytes, in the same order.
    pub fn rungs(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().copied()
    }

    fn add(&mut self, rung: &'static str, bytes: u64) {
        match self.0.iter_mut().find(|(name, _)| *name == rung) {
            Some((_, sum)) => *sum = sum.saturating_add(bytes),
            None if bytes > 0 => self.0.push((rung, bytes)),
            None => {}
        }
    }

    /// Adds what another climb freed.
    pub(crate) fn append(&mut self, more: &Self) {
        more.rungs().for_each(|(rung, bytes)| self.add(rung, bytes));
    }
}

/// What a reclaim point did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReclaimReport {
    /// Bytes the stage said it needs.
    pub need_bytes: u64,
    /// Bytes freed, by rung; nothing when there was headroom.
    pub freed: Freed,
    /// Bytes that are still missing.
    pub short_bytes: u64,
    /// The holders of memory that the climb could not free, the largest first. Empty unless bytes
    /// are missing.
    pub blocked: Vec<Held>,
}

/// How much a climb frees beyond the missing bytes: 1/64 of the limit, at most 64 MiB. With less,
/// every charge would climb; with more, warm pages would be lost.
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

/// Runs `job` while charges of this thread get no relief. I/O threads need this: they free memory,
/// and must not wait for the threads that wait for them.
pub(crate) fn unclimbing<R>(job: impl FnOnce() -> R) -> R {
    let _climbing = Climbing::begin();
    job()
}

/// The ladder: its rungs, and who may climb it.
pub(crate) struct Ladder {
    account: AccountRef,
    /// The permit whose bytes are the limit; `usize::MAX` for none.
    permit_bytes: usize,
    rungs: OnceLock<Vec<Box<dyn Rung>>>,
    climb: Mutex<()>,
    enforcement: Enforcement,
    on_thrash: OnThrash,
    /// Times that the process had been found thrashing before this ladder was made.
    thrashed_before: u64,
    at_charge: AtomicU64,
    at_reclaim_point: AtomicU64,
    when_lowered: AtomicU64,
    stopped: AtomicU64,
}

impl Ladder {
    pub(crate) fn new(account: AccountRef, enforcement: Enforcement, on_thrash: OnThrash) -> Self {
        Self {
            permit_bytes: usize::MAX,
            thrashed_before: account.thrash().times(),
            on_thrash,
            account,
            rungs: OnceLock::new(),
            climb: Mutex::new(()),
            enforcement,
            at_charge: AtomicU64::new(0),
            at_reclaim_point: AtomicU64::new(0),
            when_lowered: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
        }
    }

    /// Makes the ladder of a runtime under a permit.
    pub(crate) fn within(mut self, permit_bytes: usize) -> Self {
        self.permit_bytes = permit_bytes;
        self
    }

    /// Sets the rungs, the first to be climbed in front. The runtime calls it once.
    pub(crate) fn put_up(&self, rungs: Vec<Box<dyn Rung>>) {
        assert!(self.rungs.set(rungs).is_ok(), "a ladder belongs to one runtime");
    }

    fn rungs(&self) -> impl Iterator<Item = &dyn Rung> {
        self.rungs.get().into_iter().flatten().map(|rung| &**rung)
    }

    pub(crate) fn counts(&self) -> EnforcementCounts {
        EnforcementCounts {
            at_charge: self.at_charge.load(Ordering::Relaxed),
            at_reclaim_point: self.at_reclaim_point.load(Ordering::Relaxed),
            when_lowered: self.when_lowered.load(Ordering::Relaxed),
            stopped_by_thrash_guard: self.stopped.load(Ordering::Relaxed),
            over_limit: self.account.over_limit().0,
        }
    }

    /// Returns the holders and their bytes, the largest first.
    pub(crate) fn held(&self, moment: Moment) -> Vec<Held> {
        let mut held = self.rungs().flat_map(|rung| rung.held(moment)).collect();
        largest_first(&mut held);
        held
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
        let guard = self.account.thrash();
        if guard.refuses(self.on_thrash, self.thrashed_before) {
            self.stopped.fetch_add(1, Ordering::Relaxed);
            return freed;
        }
        // One at a time: two threads that are short together would free twice as much.
        let _one = unpoisoned(self.climb.lock());
        let started = Instant::now();
        self.count(cause);
        let rest_before = self.account.rest_bytes(Owner::Pools);
        let mut climb = Climb { cause, rest_before, rest_freed: 0 };
        let limit = self.account.limit_bytes().min(self.permit_bytes);
        let target = short_bytes.saturating_add(slack_bytes(limit));
        let mut total = 0;
        self.rungs().for_each(Rung::begin);
        for rung in self.rungs() {
            let enough = if rung.is_costly() { short_bytes } else { target };
            if total >= enough {
                continue;
            }
            let bytes = rung.reclaim(target - total, &climb);
            total = total.saturating_add(bytes).min(usize::MAX / 2);
            climb.rest_freed += if rung.frees() == Frees::Rest { bytes } else { 0 };
            freed.add(rung.name(), bytes as u64);
        }
        if let Some(lost) = guard.climbed(started, Instant::now()) {
            guard.tell(&lost, format_args!("raise it; `OnThrash::FailFast` refuses instead"));
        }
        freed
    }
}

impl Pressure for Ladder {
    fn relieve(&self, short_bytes: usize) -> usize {
        self.climb(short_bytes, Cause::Charge).total_bytes() as usize
    }

    fn limit_changed(&self, excess_bytes: usize) {
        self.climb(excess_bytes, Cause::Lowered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_ladder_refuses_to_climb_when_a_pager_saw_the_thrashing() {
        let account = AccountRef::told();
        let ladder = |policy| Ladder::new(account.clone(), Enforcement::default(), policy);
        let (strict, lenient) = (ladder(OnThrash::FailFast), ladder(OnThrash::Report));
        let stopped = |ladder: &Ladder| {
            ladder.climb(1, Cause::Charge);
            ladder.counts().stopped_by_thrash_guard
        };
        assert_eq!((stopped(&strict), stopped(&lenient)), (0, 0));
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let found = (0..12).find_map(|i| account.thrash().waited(second, start + second * i));
        assert!(found.is_some());
        assert_eq!((stopped(&strict), stopped(&lenient)), (1, 0));
        assert_eq!(stopped(&ladder(OnThrash::FailFast)), 0, "what was before it does not count");
    }
}
