//! The ledger: every byte that our blocks hold, exactly, against the limit.
//!
//! ```text
//!            limit_bytes
//!   |<----------------------------------------------->|
//!   |  held_bytes (ours, exact)  |  foreign (sampled) |  headroom
//! ```
//!
//! A charge is one compare-and-exchange: it either fits under the limit or it does not, so two
//! threads can never both take the last byte. A charge that does not fit asks the [`Pressure`]
//! hook to make room, until nothing more comes, and then is refused ([`Charge::Hard`]) or let
//! through and counted as a miss ([`Charge::Soft`]).
//!
//! Invariants:
//!
//! * `held_bytes` = the sum of charges let through less the sum of `uncharge`s;
//! * with hard charges only, `held + foreign <= limit` after every charge, for the foreign bytes
//!   known at that moment;
//! * `peak_bytes >= held + foreign` at every charge.
//!
//! The kernel's RSS corrects the foreign part; it never defines the held part: since Linux 6.2 its
//! counters may lag by megabytes a CPU. The ledger never allocates, locks or logs.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::watermark::Watermark;
use std::sync::{Arc, OnceLock};

/// Rounds of relief a charge waits through when others take what was freed for it: seconds, and
/// never for ever.
const ROUNDS_MAX: u32 = 10_000;

/// What a charge does when the limit leaves no room after reclaiming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Goes through and is counted as a miss.
    Soft,
    /// Is refused with [`OverLimit`].
    Hard,
}

/// A charge that was refused, with the numbers to say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked_bytes} bytes asked for, {short_bytes} too many: {held_bytes} held and \
     {foreign_bytes} used by other parts of the process under a limit of {limit_bytes}"
)]
pub struct OverLimit {
    /// Bytes the refused charge asked for.
    pub asked_bytes: usize,
    /// Bytes by which it would have crossed the limit.
    pub short_bytes: usize,
    /// Bytes held by our blocks.
    pub held_bytes: usize,
    /// Bytes of the process that are not ours (heap, libraries, stacks, mapped files).
    pub foreign_bytes: usize,
    /// The limit.
    pub limit_bytes: usize,
}

/// The policy above the ledger, reached when a charge does not fit.
pub trait Pressure: Send + Sync {
    /// Returns the resident bytes of this process beyond `settled_bytes` (ours, with their pages),
    /// as the kernel sees them now.
    fn foreign_bytes(&self, settled_bytes: usize) -> usize;

    /// Gives back at least `short_bytes` if it can, cheapest first, and returns what it freed, be
    /// it that others have taken it meanwhile: less than was asked for says that there is no more.
    /// Blocks that it made free may stay cached: who is still short asks again, and then they go.
    fn relieve(&self, short_bytes: usize) -> usize;
}

/// What the ledger counted. All numbers only grow, but for the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LedgerStats {
    /// Bytes held by our blocks now.
    pub held_bytes: usize,
    /// Bytes of the process that are not ours, as last sampled.
    pub foreign_bytes: usize,
    /// Largest `held + foreign` seen at a charge since the peak was last restarted.
    pub peak_bytes: usize,
    /// Times a charge did not fit at once and asked for relief.
    pub relief_calls: u64,
    /// Hard charges refused.
    pub refused: u64,
    /// Soft charges that went over the limit.
    pub missed: u64,
}

/// See the module's header.
pub struct Ledger {
    held: AtomicUsize,
    settled: AtomicUsize,
    foreign: AtomicUsize,
    /// Foreign bytes are taken to be at least this many, because they will be.
    expected_foreign: AtomicUsize,
    foreign_margin: AtomicUsize,
    limit: AtomicUsize,
    peak: AtomicUsize,
    held_lap: AtomicUsize,
    asked: Arc<Watermark>,
    relief_calls: AtomicU64,
    refused: AtomicU64,
    missed: AtomicU64,
    pressure: OnceLock<Arc<dyn Pressure>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger")
            .field("limit", &self.limit_bytes())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// Makes a ledger without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self {
            held: AtomicUsize::new(0),
            settled: AtomicUsize::new(0),
            foreign: AtomicUsize::new(0),
            expected_foreign: AtomicUsize::new(0),
            foreign_margin: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            peak: AtomicUsize::new(0),
            held_lap: AtomicUsize::new(0),
            asked: Arc::default(),
            relief_calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            pressure: OnceLock::new(),
        }
    }

    /// Makes a ledger with a limit in bytes over held and foreign bytes together.
    #[must_use]
    pub fn with_limit(limit_bytes: usize) -> Self {
        let ledger = Self::new();
        ledger.set_limit(limit_bytes);
        ledger
    }

    /// Counts what vectors ask for in `asked`, which other ledgers may share.
    #[must_use]
    pub fn counting_in(mut self, asked: Arc<Watermark>) -> Self {
        self.asked = asked;
        self
    }

    /// Returns the bytes that vectors of all pools asked for, with their peak. What a pool rounds
    /// up, caches or gives back does not change it.
    #[inline]
    pub fn asked(&self) -> &Watermark {
        &self.asked
    }

    /// Returns the most bytes held at once since [`Ledger::restart_held_lap`].
    pub fn held_lap_bytes(&self) -> usize {
        self.held_lap.load(Ordering::Relaxed)
    }

    /// Begins a lap of the held bytes, and returns the old one for
    /// [`Ledger::resume_held_lap`]; laps nest, as those of a [`Watermark`] do.
    pub fn restart_held_lap(&self) -> usize {
        self.held_lap.swap(self.held_bytes(), Ordering::Relaxed)
    }

    /// Goes on with the lap that [`Ledger::restart_held_lap`] ended.
    pub fn resume_held_lap(&self, lap_bytes: usize) {
        self.held_lap.fetch_max(lap_bytes, Ordering::Relaxed);
    }

    /// Connects the policy that makes room. Returns false, and changes nothing, when one is
    /// connected already.
    pub fn connect(&self, pressure: Arc<dyn Pressure>) -> bool {
        self.pressure.set(pressure).is_ok()
    }

    /// Sets the limit in bytes (`usize::MAX` for none) and returns the old one. It gives nothing
    /// back by itself.
    pub fn set_limit(&self, limit_bytes: usize) -> usize {
        self.limit.swap(limit_bytes, Ordering::Relaxed)
    }

    /// Returns the limit in bytes, `usize::MAX` for none.
    #[inline]
    pub fn limit_bytes(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Returns the bytes our blocks hold.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Returns the held bytes whose pages have come: what the kernel counts for us already.
    #[inline]
    pub fn settled_bytes(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }

    /// Notes that `bytes` that were charged have their pages now. Until then a sample counts them
    /// as held and not as resident, so foreign bytes are never thought smaller than they are.
    pub fn settle(&self, bytes: usize) {
        self.settled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes, before they are given back, that `bytes` will lose their pages.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is unsettled than was settled.
    pub fn unsettle(&self, bytes: usize) {
        let before = self.settled.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes unsettled, only {before} were settled");
    }

    /// Returns how many more bytes fit under the limit, by the last sample of foreign bytes.
    #[inline]
    pub fn headroom_bytes(&self) -> usize {
        self.limit_bytes().saturating_sub(self.counted_bytes())
    }

    /// Returns by how many bytes the limit is exceeded, by the last sample of foreign bytes.
    #[inline]
    pub fn excess_bytes(&self) -> usize {
        self.counted_bytes().saturating_sub(self.limit_bytes())
    }

    /// Returns held and foreign bytes together, these with their margin, or as expected if that is
    /// more.
    #[inline]
    pub fn counted_bytes(&self) -> usize {
        self.held_bytes().saturating_add(self.counted_foreign())
    }

    #[inline]
    fn counted_foreign(&self) -> usize {
        let expected = self.expected_foreign.load(Ordering::Relaxed);
        let margin = self.foreign_margin.load(Ordering::Relaxed);
        self.foreign.load(Ordering::Relaxed).saturating_add(margin).max(expected)
    }

    /// Counts `bytes` more than the last sample of foreign bytes said, and returns what was counted
    /// more before: the room for what grows after the last charge, when nobody samples.
    pub fn set_foreign_margin(&self, bytes: usize) -> usize {
        self.foreign_margin.swap(bytes, Ordering::Relaxed)
    }

    /// Says how many foreign bytes there will be, and returns what was said before: from now on no
    /// fewer are counted. Between two samples the foreign part can grow unseen; with the growth
    /// expected, the sum stays under the limit all the same.
    pub fn expect_foreign(&self, bytes: usize) -> usize {
        self.expected_foreign.swap(bytes, Ordering::Relaxed)
    }

    /// Samples the foreign bytes through the hook, if one is connected, and notes the peak.
    pub fn sample(&self) {
        if let Some(pressure) = self.pressure.get() {
            self.note_foreign(pressure.foreign_bytes(self.settled_bytes()));
        }
    }

    /// Records how many bytes of the process are not ours.
    pub fn note_foreign(&self, bytes: usize) {
        self.foreign.store(bytes, Ordering::Relaxed);
        self.note_peak(self.held_bytes());
    }

    /// Starts the peak anew from what is held and sampled now, and returns the old one.
    pub fn restart_peak(&self) -> usize {
        let foreign = self.foreign.load(Ordering::Relaxed);
        self.peak.swap(self.held_bytes().saturating_add(foreign), Ordering::Relaxed)
    }

    /// Adds `bytes` to what is held, making room first if they do not fit.
    ///
    /// # Errors
    ///
    /// [`OverLimit`] when the charge is hard and there is no room even after relief, or when the
    /// sum is beyond any number of bytes; nothing is charged then.
    pub fn charge(&self, bytes: usize, charge: Charge) -> Result<(), OverLimit> {
        self.charge_unless(bytes, charge, || false).map(|_| ())
    }

    /// [`Ledger::charge`], but asks after each relief whether the bytes are still needed: what was
    /// freed may be the very thing that they were wanted for. Returns whether they were charged.
    ///
    /// # Errors
    ///
    /// Those of [`Ledger::charge`].
    pub fn charge_unless(
        &self,
        bytes: usize,
        charge: Charge,
        found: impl FnMut() -> bool,
    ) -> Result<bool, OverLimit> {
        self.sample();
        if self.try_add(bytes) {
            return Ok(true);
        }
        self.charge_under_pressure(bytes, charge, found)
    }

    #[cold]
    fn charge_under_pressure(
        &self,
        bytes: usize,
        charge: Charge,
        mut found: impl FnMut() -> bool,
    ) -> Result<bool, OverLimit> {
        if let Some(pressure) = self.pressure.get() {
            self.relief_calls.fetch_add(1, Ordering::Relaxed);
            // Another thread may take what was freed for this charge: ask again, until less comes
            // than was asked for, since then there is no more.
            for _round in 0..ROUNDS_MAX {
                let short = self.short_bytes(bytes);
                let exhausted = short > 0 && pressure.relieve(short) < short;
                if found() {
                    return Ok(false);
                }
                self.sample();
                if self.try_add(bytes) {
                    return Ok(true);
                }
                if exhausted {
                    break;
                }
            }
        }
        match charge {
            Charge::Soft if self.add_over(bytes) => {
                self.missed.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Charge::Soft | Charge::Hard => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(OverLimit {
                    asked_bytes: bytes,
                    short_bytes: self.short_bytes(bytes),
                    held_bytes: self.held_bytes(),
                    foreign_bytes: self.foreign.load(Ordering::Relaxed),
                    limit_bytes: self.limit_bytes(),
                })
            }
        }
    }

    /// Adds `bytes` that replace more than as many, which are about to be given back: without
    /// relief, and over the limit if it must be. False when the sum is beyond any number of bytes.
    pub fn charge_exchange(&self, bytes: usize) -> bool {
        self.add_over(bytes)
    }

    /// Takes `bytes` off what is held.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is given back than was charged.
    pub fn uncharge(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes given back, only {before} were charged");
    }

    /// Returns what was counted so far.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            held_bytes: self.held_bytes(),
            foreign_bytes: self.foreign.load(Ordering::Relaxed),
            peak_bytes: self.peak.load(Ordering::Relaxed),
            relief_calls: self.relief_calls.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }

    fn short_bytes(&self, bytes: usize) -> usize {
        self.counted_bytes().saturating_add(bytes).saturating_sub(self.limit_bytes())
    }

    fn note_peak(&self, held: usize) {
        let foreign = self.foreign.load(Ordering::Relaxed);
        self.peak.fetch_max(held.saturating_add(foreign), Ordering::Relaxed);
        self.held_lap.fetch_max(held, Ordering::Relaxed);
    }

    /// Adds `bytes` whether they fit or not, unless the sum is no number.
    fn add_over(&self, bytes: usize) -> bool {
        let sum = |held: usize| held.checked_add(bytes);
        // Relaxed: as in `try_add`.
        let before = self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
        before.map(|held| self.note_peak(held + bytes)).is_ok()
    }

    /// Adds `bytes` if they fit.
    fn try_add(&self, bytes: usize) -> bool {
        let room = self.limit_bytes().saturating_sub(self.counted_foreign());
        let mut held = self.held.load(Ordering::Relaxed);
        loop {
            let Some(new) = held.checked_add(bytes).filter(|new| *new <= room) else {
                return false;
            };
            // Relaxed: the number itself is all that is shared; no other memory hangs on it.
            match self.held.compare_exchange_weak(held, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    self.note_peak(new);
                    return true;
                }
                Err(now) => held = now,
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::sync::Weak;
    use std::sync::atomic::AtomicUsize as StdUsize;

    #[test]
    fn a_hard_charge_is_refused_with_its_numbers_and_charges_nothing() {
        let ledger = Ledger::with_limit(100);
        ledger.note_foreign(30);
        ledger.charge(50, Charge::Hard).expect("fits");
        let refused = ledger.charge(40, Charge::Hard).expect_err("80 + 40 > 100");
        assert_eq!((refused.short_bytes, refused.held_bytes, refused.foreign_bytes), (20, 50, 30));
        assert_eq!(ledger.held_bytes(), 50);
        assert_eq!(ledger.stats().refused, 1);
        assert_eq!(ledger.headroom_bytes(), 20);
    }

    #[test]
    fn a_soft_charge_goes_through_and_is_a_miss() {
        let ledger = Ledger::with_limit(10);
        ledger.charge(15, Charge::Soft).expect("soft");
        assert_eq!((ledger.held_bytes(), ledger.excess_bytes()), (15, 5));
        assert_eq!(ledger.stats().missed, 1);
        assert_eq!(ledger.stats().peak_bytes, 15);
    }

    struct Cache {
        bytes: StdUsize,
        ledger: OnceLock<Weak<Ledger>>,
    }

    impl Pressure for Cache {
        fn foreign_bytes(&self, _held: usize) -> usize {
            0
        }
        fn relieve(&self, short: usize) -> usize {
            let freed = self.bytes.load(Ordering::Relaxed).min(short);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
            let ledger = self.ledger.get().and_then(Weak::upgrade);
            ledger.expect("connected, and charged just now").uncharge(freed);
            freed
        }
    }

    #[test]
    fn relief_makes_room_for_exactly_what_is_short() {
        let ledger = Arc::new(Ledger::with_limit(100));
        let cache = Arc::new(Cache { bytes: StdUsize::new(60), ledger: OnceLock::new() });
        cache.ledger.set(Arc::downgrade(&ledger)).expect("first");
        assert!(ledger.connect(cache.clone()));
        assert!(!ledger.connect(cache.clone()));
        ledger.charge(60, Charge::Hard).expect("the cache");
        ledger.charge(70, Charge::Hard).expect("after relief");
        assert_eq!(cache.bytes.load(Ordering::Relaxed), 30);
        assert_eq!(ledger.held_bytes(), 100);
        assert_eq!(ledger.stats().relief_calls, 1);
    }

    /// Frees what is asked for, and has another thread take it at once, `thefts` times.
    struct Robbed {
        thefts: StdUsize,
        ledger: OnceLock<Weak<Ledger>>,
    }

    impl Pressure for Robbed {
        fn foreign_bytes(&self, _held: usize) -> usize {
            0
        }
        fn relieve(&self, short: usize) -> usize {
            let ledger = self.ledger.get().and_then(Weak::upgrade);
            let ledger = ledger.expect("connected, and charged just now");
            ledger.uncharge(short);
            let sub = |left: usize| left.checked_sub(1);
            if self.thefts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sub).is_ok() {
                assert!(ledger.charge_exchange(short));
            }
            short
        }
    }

    #[test]
    fn a_charge_is_not_refused_because_others_were_faster() {
        let ledger = Arc::new(Ledger::with_limit(100));
        let robbed = Arc::new(Robbed { thefts: StdUsize::new(7), ledger: OnceLock::new() });
        robbed.ledger.set(Arc::downgrade(&ledger)).expect("first");
        assert!(ledger.connect(robbed));
        ledger.charge(90, Charge::Hard).expect("fits");
        ledger.charge(30, Charge::Hard).expect("after seven thefts");
        assert_eq!(ledger.held_bytes(), 100);
    }

    #[test]
    fn impossible_sizes_do_not_wrap() {
        let ledger = Ledger::with_limit(100);
        ledger.charge(1, Charge::Hard).expect("fits");
        assert!(ledger.charge(usize::MAX, Charge::Hard).is_err());
        assert_eq!(ledger.held_bytes(), 1);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::thread;

    #[test]
    fn two_hard_charges_never_cross_the_limit_together() {
        loom::model(|| {
            let ledger = loom::sync::Arc::new(Ledger::with_limit(10));
            let other = loom::sync::Arc::clone(&ledger);
            let thread = thread::spawn(move || other.charge(6, Charge::Hard).is_ok());
            let mine = ledger.charge(6, Charge::Hard).is_ok();
            let theirs = thread.join().expect("the other thread passed");
            assert!(mine != theirs, "exactly one of two charges of 6 fits under 10");
            assert_eq!(ledger.held_bytes(), 6);
            ledger.uncharge(6);
            assert_eq!(ledger.held_bytes(), 0);
        });
    }
}
