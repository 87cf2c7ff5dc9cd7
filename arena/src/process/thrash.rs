//! The thrash guard: notices when the process loses its time to the limit.
//!
//! Under a limit that is too low a program does not fail, it crawls: each new vector takes the
//! pages of another one, and each page must be read back from the file. Two probes tell the guard
//! about lost time. A ladder tells how long a climb took, and a pager tells how long threads waited
//! for pages, divided by the processors.
//!
//! ```text
//!   ladder: a climb    --+--> climbs   half a second beyond half of the time  --+
//!                        |                                                      +--> thrashing
//!   pager: a look      --+--> all      more than half of the time, for 10 s   --+
//! ```
//!
//! A stretch of a meter begins when the process loses more than its share of the time, and ends
//! when that is no longer true of the whole stretch. A long calm time therefore earns no credit.
//! Each time that the guard finds the process thrashing, it starts again, so that these times can
//! be counted.
//!
//! The users decide what follows. A runtime refuses to climb ([`OnThrash::FailFast`]), whichever
//! probe saw it. A pager has a meter of its own for ending the process. The message appears once.
//!
//! Must never: allocate, wait for a lock, or log anything but the one line.
//!
//! Source: the limiter of Go's soft memory limit (proposal 48409), which has the rule of climbs for
//! the same reason: level = max(0, level + climb - work between climbs), full at one second.

use super::say::say;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

/// The share of the time that may be lost, for either meter of the guard.
const PERCENT: u32 = 50;

/// How much more than their share climbs may take. With less, a single large reclaim point would
/// count as thrashing: a climb of a second reaches this.
const CLIMBS_BEYOND: Duration = Duration::from_millis(500);

/// How long the process may lose more than the share, to either cause.
const WINDOW: Duration = Duration::from_secs(10);

/// What to do when more than half of the time goes into keeping to the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnThrash {
    /// Say so once and go on, slowly.
    #[default]
    Report,
    /// Say so once and refuse from then on: a program that will miss its deadline anyway had
    /// better fail at once.
    FailFast,
}

/// A stretch of time, and how much of it was lost. Its `Display` is a part of a sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// All of it.
    pub elapsed: Duration,
    /// Lost to climbs of reclaim ladders.
    pub climbing: Duration,
    /// Lost to waiting for pages, for each processor. As a thread that waits takes no processor,
    /// this may be more than has elapsed.
    pub waiting: Duration,
}

impl Stretch {
    const NONE: Self =
        Self { elapsed: Duration::ZERO, climbing: Duration::ZERO, waiting: Duration::ZERO };

    /// What was lost beyond a share of the time, in nanoseconds, where that is anything.
    fn beyond(&self, percent: u32) -> Option<u128> {
        let lost = (self.climbing + self.waiting).as_nanos() * 100;
        let share = self.elapsed.as_nanos() * u128::from(percent);
        Some(lost.saturating_sub(share) / 100).filter(|_| lost > share)
    }
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elapsed = self.elapsed.as_nanos().max(1);
        let percent = |lost: Duration| (lost.as_nanos() * 100 / elapsed).min(100);
        match (percent(self.waiting), percent(self.climbing)) {
            (0, climbing) => write!(f, "memory is given back {climbing} % of the time"),
            (waiting, 0) => write!(f, "threads wait for pages {waiting} % of the time"),
            (waiting, climbing) => write!(
                f,
                "threads wait for pages {waiting} % of the time, and memory is given back \
                 {climbing} % of it"
            ),
        }
    }
}

/// Finds the stretch of time up to now of which more than a share was lost.
#[derive(Debug)]
pub struct ShareMeter {
    percent: u32,
    stretch: Stretch,
    noted: Option<Instant>,
}

impl ShareMeter {
    /// Makes one that has seen nothing yet.
    #[must_use]
    pub const fn new(percent: u32) -> Self {
        Self { percent, stretch: Stretch::NONE, noted: None }
    }

    /// Notes what was lost since the last note. Returns the stretch, if there is one now.
    pub fn note(&mut self, climbing: Duration, waiting: Duration, now: Instant) -> Option<Stretch> {
        // Threads come out of order, by a little.
        let noted = self.noted.map_or(now, |noted| noted.max(now));
        let passed = self.noted.map_or(Duration::ZERO, |before| noted - before);
        self.noted = Some(noted);
        self.stretch.elapsed += passed;
        self.stretch.climbing += climbing;
        self.stretch.waiting += waiting;
        if self.stretch.beyond(self.percent).is_some() {
            return Some(self.stretch);
        }
        self.stretch = Stretch::NONE;
        None
    }
}

#[derive(Debug)]
struct Meters {
    climbs: ShareMeter,
    all: ShareMeter,
}

impl Meters {
    const NEW: Self = Self { climbs: ShareMeter::new(PERCENT), all: ShareMeter::new(PERCENT) };

    /// Returns the stretch in which the process thrashed, if it did.
    fn note(&mut self, climbing: Duration, waiting: Duration, now: Instant) -> Option<Stretch> {
        let climbs = self.climbs.note(climbing, Duration::ZERO, now);
        let all = self.all.note(climbing, waiting, now);
        let is_far = |climbs: &Stretch| climbs.beyond(PERCENT) >= Some(CLIMBS_BEYOND.as_nanos());
        climbs.filter(is_far).or(all.filter(|all| all.elapsed >= WINDOW))
    }
}

/// The guard that notices when the process loses most of its time to the limit.
#[derive(Debug)]
pub struct Thrash {
    /// Told of, and not noted yet.
    climbing_ns: AtomicU64,
    waiting_ns: AtomicU64,
    meters: Mutex<Meters>,
    times: AtomicU64,
    said: AtomicBool,
}

impl Thrash {
    pub(super) const fn new() -> Self {
        Self {
            climbing_ns: AtomicU64::new(0),
            waiting_ns: AtomicU64::new(0),
            meters: Mutex::new(Meters::NEW),
            times: AtomicU64::new(0),
            said: AtomicBool::new(false),
        }
    }

    /// Notes a climb of a ladder. Returns how time was lost, if the process thrashes by now.
    pub fn climbed(&self, started: Instant, ended: Instant) -> Option<Stretch> {
        let earlier = self.note(started);
        self.climbing_ns.fetch_add((ended - started).as_nanos() as u64, Relaxed);
        self.note(ended).or(earlier)
    }

    /// Notes what threads waited for pages since a pager last told, for each processor. Returns how
    /// time was lost, if the process thrashes by now.
    pub fn waited(&self, waited: Duration, now: Instant) -> Option<Stretch> {
        self.waiting_ns.fetch_add(waited.as_nanos() as u64, Relaxed);
        self.note(now)
    }

    fn note(&self, now: Instant) -> Option<Stretch> {
        let mut meters = match self.meters.try_lock() {
            Ok(meters) => meters,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Whoever notes next takes along what this thread has told.
            Err(TryLockError::WouldBlock) => return None,
        };
        // Relaxed, everywhere: numbers that stand for nothing but themselves.
        let told = |ns: &AtomicU64| Duration::from_nanos(ns.swap(0, Relaxed));
        let found = meters.note(told(&self.climbing_ns), told(&self.waiting_ns), now)?;
        *meters = Meters::NEW;
        self.times.fetch_add(1, Relaxed);
        Some(found)
    }

    /// Returns how often the process was found thrashing.
    #[must_use]
    pub fn times(&self) -> u64 {
        self.times.load(Relaxed)
    }

    /// Returns whether a user that began after `before` such times refuses now.
    #[must_use]
    pub fn refuses(&self, policy: OnThrash, before: u64) -> bool {
        policy == OnThrash::FailFast && self.times() > before
    }

    /// Says how time was lost, and what helps, unless it has been said already.
    pub fn tell(&self, lost: &Stretch, help: fmt::Arguments<'_>) {
        if !self.said.swap(true, Relaxed) {
            say(format_args!("{lost}: the limit is small; {help}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Notes `count` climbs, each after some work, from `now` on; returns when the last ended.
    fn run(thrash: &Thrash, count: u32, climb: Duration, work: Duration, now: Instant) -> Instant {
        (0..count).fold(now, |now, _| {
            thrash.climbed(now + work, now + work + climb);
            now + work + climb
        })
    }

    fn refuses(thrash: &Thrash) -> bool {
        thrash.refuses(OnThrash::FailFast, 0)
    }

    #[test]
    fn a_third_of_the_time_is_not_thrashing_and_two_thirds_are() {
        let now = Instant::now();
        let calm = Thrash::new();
        run(&calm, 100, ms(100), ms(200), now);
        assert!(!refuses(&calm));
        let busy = Thrash::new();
        let now = run(&busy, 8, ms(200), ms(100), now);
        assert!(!refuses(&busy), "200 ms and 7 x 100 ms net are below the second");
        run(&busy, 1, ms(200), ms(100), now);
        assert!(refuses(&busy));
    }

    #[test]
    fn a_reporting_guard_never_refuses_nor_one_who_came_later() {
        let thrash = Thrash::new();
        run(&thrash, 100, ms(200), ms(0), Instant::now());
        assert_eq!(thrash.times(), 20, "each second");
        assert!(!thrash.refuses(OnThrash::Report, 0));
        assert!(thrash.refuses(OnThrash::FailFast, 19) && !thrash.refuses(OnThrash::FailFast, 20));
    }

    /// Looks of a pager ten times a second for `seconds`, at each of which threads have waited for
    /// `waited`, and each second a climb. Returns what the guard found first, and after how long.
    fn both(seconds: u64, climb: Duration, waited: Duration) -> Option<(Stretch, Duration)> {
        let (thrash, start) = (Thrash::new(), Instant::now());
        for look in 0..seconds * 10 {
            let now = start + ms(100) * look as u32;
            let mut found = thrash.waited(waited, now);
            if look % 10 == 9 && !climb.is_zero() {
                found = found.or(thrash.climbed(now, now + climb));
            }
            if let Some(found) = found {
                assert!(refuses(&thrash));
                return Some((found, now - start));
            }
        }
        assert!(!refuses(&thrash));
        None
    }

    #[test]
    fn both_probes_add_up_in_one_guard() {
        assert_eq!(both(100, ms(300), ms(0)), None);
        assert_eq!(both(100, ms(0), ms(30)), None);
        let (found, after) = both(100, ms(300), ms(30)).expect("six tenths are lost");
        assert!(found.elapsed >= WINDOW && after < ms(12_000), "{found:?} after {after:?}");
        let text = found.to_string();
        let (waiting, climbing) = ("wait for pages 30 % of", "given back 30 % of");
        assert!(text.contains(waiting) && text.contains(climbing), "{text}");
    }

    #[test]
    fn waiting_alone_is_thrashing_after_ten_seconds() {
        let (found, after) = both(100, ms(0), ms(60)).expect("six tenths are lost");
        assert!(after >= WINDOW && after < ms(10_500), "after {after:?}");
        assert_eq!(found.to_string(), "threads wait for pages 60 % of the time");
    }
}
