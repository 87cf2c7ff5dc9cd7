//! The thrash guard: notices when giving memory back takes as long as the work itself.
//!
//! A limit set too low does not fail, it crawls: every vector is made by giving another one's
//! pages back. A leaky bucket finds that out. Time spent climbing the reclaim ladder flows in, time
//! between climbs flows out, and the bucket is never below empty, so a long calm stretch earns no
//! credit. Full at one second, it means that more than half of the recent time went into reclaim.
//!
//! ```text
//!   level = max(0, level + climb - work between climbs);  thrashing when level >= 1 s
//! ```
//!
//! Then the guard says so once, through `tracing`, and keeps going; or, with
//! [`OnThrash::FailFast`], lets no charge climb any more, so that hard charges are refused.
//!
//! Source: the limiter of Go's soft memory limit (proposal 48409), which has the same rule for the
//! same reason.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A bucket of one second: shorter would call a single large reclaim point thrashing.
const CAPACITY: Duration = Duration::from_secs(1);

/// What to do when reclaim takes more than half of the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnThrash {
    /// Say so once and go on, slowly.
    #[default]
    Report,
    /// Say so once and refuse from then on: a program that will miss its deadline anyway had
    /// better fail at once.
    FailFast,
}

#[derive(Debug, Default)]
struct Bucket {
    level: Duration,
    last_end: Option<Instant>,
    thrashing: bool,
}

impl Bucket {
    /// Adds a climb and returns whether the bucket became full just now.
    fn add(&mut self, started: Instant, ended: Instant) -> bool {
        let work = self.last_end.map_or(Duration::ZERO, |end| started.duration_since(end));
        let climb = ended.duration_since(started);
        self.level = self.level.saturating_sub(work).saturating_add(climb);
        self.last_end = Some(ended);
        let full = self.level >= CAPACITY;
        self.level = self.level.min(CAPACITY);
        let first = full && !self.thrashing;
        self.thrashing |= full;
        first
    }
}

/// See the module's header.
#[derive(Debug)]
pub(crate) struct Thrash {
    policy: OnThrash,
    bucket: Mutex<Bucket>,
}

impl Thrash {
    pub(crate) fn new(policy: OnThrash) -> Self {
        Self { policy, bucket: Mutex::new(Bucket::default()) }
    }

    /// Notes a climb from `started` to `ended`.
    pub(crate) fn note(&self, started: Instant, ended: Instant) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        if bucket.add(started, ended) {
            tracing::warn!(
                policy = ?self.policy,
                "more than half of the time goes into reclaiming memory: raise the limit"
            );
        }
    }

    /// Says whether a climb is refused.
    pub(crate) fn refuses(&self) -> bool {
        let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        self.policy == OnThrash::FailFast && bucket.thrashing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes `count` climbs of `climb_ms`, each after `work_ms` of work.
    fn run(thrash: &Thrash, count: u32, climb_ms: u64, work_ms: u64) {
        let mut now = Instant::now();
        for _ in 0..count {
            now += Duration::from_millis(work_ms);
            let end = now + Duration::from_millis(climb_ms);
            thrash.note(now, end);
            now = end;
        }
    }

    #[test]
    fn a_third_of_the_time_is_not_thrashing_and_two_thirds_are() {
        let calm = Thrash::new(OnThrash::FailFast);
        run(&calm, 100, 100, 200);
        assert!(!calm.refuses());
        let busy = Thrash::new(OnThrash::FailFast);
        run(&busy, 8, 200, 100);
        assert!(!busy.refuses(), "200 ms and 7 x 100 ms net are below the second");
        run(&busy, 3, 200, 100);
        assert!(busy.refuses());
    }

    #[test]
    fn a_reporting_guard_never_refuses() {
        let thrash = Thrash::new(OnThrash::Report);
        run(&thrash, 100, 200, 0);
        assert!(!thrash.refuses());
        assert!(thrash.bucket.lock().expect("alone").thrashing);
    }
}
