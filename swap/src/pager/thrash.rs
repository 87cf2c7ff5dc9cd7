//! What the pager counts, and what it says when a limit is too small.
//!
//! A page that was sent to the file and is wanted again is a *refault*. Its distance is how much
//! was evicted in between: had the budget been larger by that much, it would still be there.
//!
//! ```text
//!   distance of each refault -> histogram by powers of two -> the budget that would have kept half
//! ```
//!
//! The estimate is for a queue in order of arrival, which is what the pager has; see Denning, "The
//! working set model for program behavior", CACM 1968, for distances in general.
//!
//! What is said names the process's limit where there is one: the budget is a part of it, and who
//! set the limit has never heard of the other number.
//!
//! Invariant: the histogram's sum is the refaulted granules. All numbers only grow.
//!
//! Must never: divide by zero on a pager that did nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::space::GRANULE_BYTES;

/// Powers of two of a distance in granules: up to 2^39, 32 PiB.
const BUCKETS: usize = 40;

/// What is counted. The unit is granules, but for `Faults`, `Loads`, `Overdrafts`, `Pinned` and
/// `BusyRetries`, which count events, and `StalledNs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Faults,
    Rescued,
    Loaded,
    Loads,
    ReadAhead,
    ReadAheadUsed,
    RowsAhead,
    PlanWaste,
    ZeroFilled,
    Written,
    Clean,
    FoundZero,
    Repeating,
    Sealed,
    Packed,
    Unpacked,
    Cleared,
    Dead,
    Refaulted,
    Overdrafts,
    Pinned,
    BusyRetries,
    StalledNs,
}

/// How many things are counted.
const COUNTS: usize = Count::StalledNs as usize + 1;

/// Counts since the start. They only grow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    counts: [u64; COUNTS],
    distances: Distances,
}

/// What the program's threads have spent their time on, up to some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// Waiting for pages.
    pub(crate) stalled_ns: u64,
    /// Running, the pager's own threads left out.
    pub(crate) worked_ns: u64,
    /// When that was.
    pub(crate) at_ns: u64,
}

impl Spent {
    /// The time lost since `before`: what was waited for each processor, or the share of waiting in
    /// all that threads did, if that is more. A program of one thread that only waits leaves all
    /// processors but one alone, and has lost all of its time.
    pub(crate) fn lost(self, before: Self, processors: u64) -> Duration {
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let stalled = since(self.stalled_ns, before.stalled_ns);
        let worked = since(self.worked_ns, before.worked_ns);
        let passed = u128::from(since(self.at_ns, before.at_ns));
        let share = passed * u128::from(stalled) / u128::from((stalled + worked).max(1));
        Duration::from_nanos((stalled / processors.max(1)).max(share as u64))
    }
}

/// A [`Spent`] that several threads replace.
#[derive(Debug, Default)]
pub(crate) struct Told {
    stalled_ns: AtomicU64,
    worked_ns: AtomicU64,
    at_ns: AtomicU64,
}

impl Told {
    /// Replaces it, and returns what it was; `None` where another thread was first.
    pub(crate) fn replace(&self, spent: Spent) -> Option<Spent> {
        // Relaxed: numbers. Of two threads that replace it at once the second finds a time that is
        // not before its own, or loses the exchange; what it then says of the rest is a look late.
        let at_ns = self.at_ns.load(Relaxed);
        if at_ns >= spent.at_ns
            || self.at_ns.compare_exchange(at_ns, spent.at_ns, Relaxed, Relaxed).is_err()
        {
            return None;
        }
        let stalled_ns = self.stalled_ns.fetch_max(spent.stalled_ns, Relaxed);
        let worked_ns = self.worked_ns.fetch_max(spent.worked_ns, Relaxed);
        Some(Spent { stalled_ns, worked_ns, at_ns })
    }
}

#[derive(Clone, Copy, Debug)]
struct Distances([u64; BUCKETS]);

impl Default for Distances {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Counters {
    /// Adds to a count. `Refaulted` grows by [`Counters::refault`] alone.
    pub(crate) fn add(&mut self, count: Count, more: u64) {
        self.counts[count as usize] += more;
    }

    /// How many were counted.
    pub(crate) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// Notes that `granules` came back that were sent away when `distance` fewer had been.
    pub(crate) fn refault(&mut self, granules: u64, distance: u64) {
        self.add(Count::Refaulted, granules);
        let bucket = (u64::BITS - distance.leading_zeros()) as usize;
        self.distances.0[bucket.min(BUCKETS - 1)] += granules;
    }

    /// The smallest growth of the budget, in granules and rounded up to a power of two, that would
    /// have kept half of the refaults away.
    fn growth_for_half(&self) -> Option<u64> {
        let mut covered = 0;
        for (bucket, granules) in self.distances.0.iter().enumerate() {
            covered += granules;
            if covered > 0 && covered * 2 >= self.of(Count::Refaulted) {
                return Some(1 << bucket);
            }
        }
        None
    }

    pub(crate) fn report(&self, evicted: u64, budget: u64) -> Thrash {
        let bytes = |granules: u64| granules.saturating_mul(GRANULE_BYTES as u64);
        let growth = self.growth_for_half();
        Thrash {
            evicted_bytes: bytes(evicted),
            refaulted_bytes: bytes(self.of(Count::Refaulted)),
            stalled: Duration::from_nanos(self.of(Count::StalledNs)),
            helpful_budget_bytes: growth.map(|growth| bytes(budget.saturating_add(growth))),
        }
    }
}

/// How hard the limit hurts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thrash {
    /// Bytes that left memory.
    pub evicted_bytes: u64,
    /// Bytes that left and were wanted again.
    pub refaulted_bytes: u64,
    /// Time that threads waited for pages, added up over threads.
    pub stalled: Duration,
    /// The smallest budget, to a power of two of the difference, that would have kept half of the
    /// refaults away. `None` when there were none.
    pub helpful_budget_bytes: Option<u64>,
}

impl Thrash {
    /// Refaulted per evicted byte, 0 to 1: near 1, what is evicted is what is needed.
    pub fn refault_share(&self) -> f64 {
        let evicted = self.evicted_bytes.max(1) as f64;
        (self.refaulted_bytes as f64 / evicted).min(1.0)
    }
}

/// What may be said of a limit that is too small. Shown, it is a part of a sentence.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advice {
    pub(crate) thrash: Thrash,
    pub(crate) budget_bytes: u64,
    /// What the whole process may hold, if that was said.
    pub(crate) limit_bytes: Option<u64>,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(helpful) = self.thrash.helpful_budget_bytes else {
            return f.write_str("nothing that left memory was wanted again");
        };
        let percent = (self.thrash.refault_share() * 100.0) as u32;
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let growth = helpful.saturating_sub(self.budget_bytes);
        let (what, now) = match self.limit_bytes {
            Some(limit) => ("limit", limit),
            None => ("budget", self.budget_bytes),
        };
        write!(
            f,
            "{percent} % of what left memory was wanted again; half of that would have stayed with \
             a {what} of {} MiB instead of {}",
            mib(now.saturating_add(growth)),
            mib(now),
        )
    }
}

/// When to give up on a limit that is too small: threads have waited for pages for
/// `stalled_percent` of the processors' time, over `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailFast {
    /// How long it must have been so.
    pub window: Duration,
    /// Waiting time over elapsed time times processors, in percent.
    pub stalled_percent: u32,
}

impl Default for FailFast {
    /// Nine tenths, for half a minute.
    fn default() -> Self {
        Self { window: Duration::from_secs(30), stalled_percent: 90 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_only_waits_has_lost_its_time_on_any_machine() {
        let at = |stalled_ns, worked_ns, at_ns| Spent { stalled_ns, worked_ns, at_ns };
        let lost = |spent: Spent, processors| spent.lost(Spent::default(), processors).as_nanos();
        assert_eq!(lost(at(90, 10, 100), 64), 90, "one thread of 64 that could be");
        assert_eq!(lost(at(0, 100, 100), 2), 0);
        assert_eq!(lost(at(800, 100, 100), 2), 400, "eight threads on two processors");
        assert_eq!(lost(at(0, 0, 100), 2), 0);
        let told = Told::default();
        assert!(told.replace(at(5, 5, 10)).is_some_and(|before| before.at_ns == 0));
        assert!(told.replace(at(6, 6, 10)).is_none(), "another thread was first");
        assert!(told.replace(at(7, 7, 20)).is_some_and(|before| before.stalled_ns == 5));
    }

    #[test]
    fn the_helpful_budget_covers_half_of_the_refaults() {
        let mut counters = Counters::default();
        assert_eq!(counters.report(0, 10).helpful_budget_bytes, None);
        counters.refault(10, 3);
        counters.refault(30, 1000);
        let thrash = counters.report(80, 100);
        assert_eq!(thrash.helpful_budget_bytes, Some((100 + 1024) * GRANULE_BYTES as u64));
        assert!((thrash.refault_share() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn advice_names_the_limit_of_the_process_where_there_is_one() {
        let mut counters = Counters::default();
        let told = |counters: &Counters, limit_bytes| {
            let thrash = counters.report(1200, 100);
            let budget_bytes = 100 * GRANULE_BYTES as u64;
            Advice { thrash, budget_bytes, limit_bytes }.to_string()
        };
        assert_eq!(told(&counters, None), "nothing that left memory was wanted again");
        // 1024 granules more, 64 MiB.
        counters.refault(900, 1000);
        let with_limit = told(&counters, Some(80 << 20));
        assert!(with_limit.starts_with("75 % of "), "{with_limit}");
        assert!(with_limit.ends_with("a limit of 144 MiB instead of 80"), "{with_limit}");
        // 100 granules are 6.25 MiB.
        let without = told(&counters, None);
        assert!(without.ends_with("a budget of 71 MiB instead of 7"), "{without}");
    }
}
