//! The ledger: every byte that the blocks of one runtime hold, exactly, against the limit of the
//! [account](crate::process::Account) it charges.
//!
//! A charge is one compare-and-exchange on the account, so two threads, even of two runtimes, can
//! never both take the last byte. A charge that does not fit asks the [`Pressure`] hook to make
//! room until no more comes. Then a [`Charge::Hard`] is refused, and a [`Charge::Soft`] goes
//! through and counts as a miss.
//!
//! Invariants:
//!
//! * `held_bytes` = the sum of charges let through less the sum of `uncharge`s, here and, over all
//!   ledgers, in the account;
//! * with hard charges only, `held + foreign <= limit` after every charge, for the foreign bytes
//!   known at that moment;
//! * `peak_bytes >= held + foreign` at every charge.
//!
//! A ledger [within a grant](Ledger::within) of another one charges the bytes that were granted to
//! it. They are its limit, and nothing is foreign there. While the process is over its limit, that
//! is so much smaller.
//!
//! The ledger never allocates, locks or logs.

mod grant;
#[cfg(all(test, not(loom)))]
mod grant_tests;

pub use grant::Grant;

use grant::Above;

use crate::process::{Account, AccountRef, Owner, Pressure, Source};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::watermark::Watermark;
use std::sync::{Arc, OnceLock};

/// How often a charge asks for relief while other threads take what was freed for it. It may wait
/// for seconds, but not for ever.
const ROUNDS_MAX: u32 = 10_000;

/// What a charge does if there is no room under the limit even after reclaiming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Goes through, over the limit, and counts as a miss.
    Soft,
    /// Is refused with [`OverLimit`].
    Hard,
}

/// A refused charge, with the numbers that explain it.
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

/// The counts of a ledger. All numbers only grow, except the bytes.
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

/// Counts exactly how many bytes the blocks of one runtime hold, and charges them to the limit.
///
/// Two threads can never both take the last byte under the limit.
pub struct Ledger {
    account: AccountRef,
    /// What it lives within, if not within the account's limit.
    grant: Option<Grant>,
    held: Watermark,
    asked: Arc<Watermark>,
    peak: AtomicUsize,
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

impl Above for Ledger {
    fn add(&self, bytes: usize) -> bool {
        self.charge_exchange(bytes)
    }

    fn take_off(&self, bytes: usize) {
        self.uncharge(bytes);
    }
}

impl Ledger {
    /// Makes a ledger without a limit, on an account of its own that asks no kernel.
    #[must_use]
    pub fn new() -> Self {
        Self::on(AccountRef::told())
    }

    /// Makes a ledger that charges `account`.
    #[must_use]
    pub fn on(account: AccountRef) -> Self {
        Self {
            account,
            grant: None,
            held: Watermark::default(),
            asked: Arc::default(),
            peak: AtomicUsize::new(0),
            relief_calls: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            pressure: OnceLock::new(),
        }
    }

    /// Charges `bytes`, making room first if they do not fit, for another ledger to live within.
    ///
    /// # Errors
    ///
    /// [`OverLimit`] when there is no room even after relief.
    pub fn grant(self: &Arc<Self>, bytes: usize) -> Result<Grant, OverLimit> {
        self.charge(bytes, Charge::Hard)?;
        Ok(Grant::new(Arc::clone(self) as _, bytes))
    }

    /// Makes a ledger that holds at most the bytes of `grant`, which this one gave. They go back
    /// when it is dropped.
    #[must_use]
    pub fn within(&self, grant: Grant) -> Self {
        Self { grant: Some(grant), ..Self::on(self.account.clone()) }
    }

    /// Makes a ledger on an account of its own, with a limit in bytes over held and foreign bytes
    /// together.
    #[must_use]
    pub fn with_limit(limit_bytes: usize) -> Self {
        let ledger = Self::new();
        ledger.account.set_limit(limit_bytes, Source::Runtime);
        ledger
    }

    /// Counts what vectors ask for in `asked`, which other ledgers may share.
    #[must_use]
    pub fn counting_in(mut self, asked: Arc<Watermark>) -> Self {
        self.asked = asked;
        self
    }

    /// Returns the account that is charged.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Returns the account that is charged, to be shared.
    #[must_use]
    pub fn account_ref(&self) -> &AccountRef {
        &self.account
    }

    /// Returns the bytes that vectors of all pools asked for, with their peak. What a pool rounds
    /// up, caches or gives back does not change it.
    #[inline]
    pub fn asked(&self) -> &Watermark {
        &self.asked
    }

    /// Returns the bytes that our blocks hold, with their peak.
    #[inline]
    pub fn held(&self) -> &Watermark {
        &self.held
    }

    /// Connects the policy that makes room. If one is connected already, returns false and changes
    /// nothing.
    pub fn connect(&self, pressure: Arc<dyn Pressure>) -> bool {
        self.pressure.set(pressure).is_ok()
    }

    /// Returns the grant that this ledger lives within, if it does.
    pub fn granted(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// Returns the limit in bytes, `usize::MAX` for none.
    #[inline]
    pub fn limit_bytes(&self) -> usize {
        match &self.grant {
            // What the rest of the process grew by is not there for vectors.
            Some(grant) => grant.bytes().saturating_sub(self.account.excess_bytes()),
            None => self.account.limit_bytes(),
        }
    }

    /// Sets the account's limit in bytes (`usize::MAX` for none) and returns the old one. It frees
    /// nothing by itself.
    pub fn set_limit(&self, limit_bytes: usize) -> usize {
        self.account.set_limit(limit_bytes, Source::Runtime)
    }

    /// Returns the bytes our blocks hold.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.held.now_bytes()
    }

    /// Notes that `bytes` that were charged have their pages now. Until then a sample counts them
    /// as held and not as resident, so the ledger never underestimates the foreign bytes.
    pub fn settle(&self, bytes: usize) {
        self.account.arrived(Owner::Pools, bytes);
    }

    /// Notes, before they are given back, that `bytes` will lose their pages.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is unsettled than was settled.
    pub fn unsettle(&self, bytes: usize) {
        self.account.leaving(Owner::Pools, bytes);
    }

    /// Returns how many more bytes fit under the limit, by the last sample of foreign bytes.
    #[inline]
    pub fn headroom_bytes(&self) -> usize {
        self.limit_bytes().saturating_sub(self.counted_bytes())
    }

    /// Returns by how many bytes the limit is exceeded, by the last sample of foreign bytes.
    #[inline]
    pub fn excess_bytes(&self) -> usize {
        match &self.grant {
            Some(_) => self.held_bytes().saturating_sub(self.limit_bytes()),
            None => self.account.excess_bytes(),
        }
    }

    /// Returns the sum of held and foreign bytes. The foreign bytes include their margin, or are
    /// the expected ones if these are more.
    #[inline]
    pub fn counted_bytes(&self) -> usize {
        if self.grant.is_some() {
            return self.held_bytes();
        }
        let held = self.account.held_bytes(Owner::Pools);
        held.saturating_add(self.account.others_bytes(Owner::Pools))
    }

    /// Looks at the foreign bytes, and notes the peak.
    pub fn sample(&self) {
        self.account.look();
        self.note_peak();
    }

    /// Starts the peak anew from what is held and sampled now, and returns the old one.
    pub fn restart_peak(&self) -> usize {
        self.peak.swap(self.whole_bytes(), Ordering::Relaxed)
    }

    /// Goes on with the peak that [`Ledger::restart_peak`] returned.
    pub fn resume_peak(&self, peak_bytes: usize) {
        self.peak.fetch_max(peak_bytes, Ordering::Relaxed);
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

    /// As [`Ledger::charge`], but asks after each relief whether the caller still needs the bytes:
    /// the freed memory may be exactly what the caller wanted. Returns whether it charged them.
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
        // What is over the limit already, without this charge, nobody could give back.
        if self.grant.is_none() && self.excess_bytes() > 0 {
            self.account.still_over();
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
                    foreign_bytes: self.foreign_bytes(),
                    limit_bytes: self.limit_bytes(),
                })
            }
        }
    }

    /// Adds `bytes` that replace at least as many bytes that the caller is about to free. It asks
    /// for no relief and may exceed the limit. Returns false when the sum overflows.
    pub fn charge_exchange(&self, bytes: usize) -> bool {
        self.add_over(bytes)
    }

    /// Takes `bytes` off what is held.
    ///
    /// # Panics
    ///
    /// In debug builds, when more is given back than was charged.
    pub fn uncharge(&self, bytes: usize) {
        let left = self.held.sub(bytes);
        match &self.grant {
            Some(grant) => grant.fell(left.saturating_add(bytes), left),
            None => self.account.sub(Owner::Pools, bytes),
        }
    }

    /// Returns what was counted so far.
    pub fn stats(&self) -> LedgerStats {
        LedgerStats {
            held_bytes: self.held_bytes(),
            foreign_bytes: self.foreign_bytes(),
            peak_bytes: self.peak.load(Ordering::Relaxed),
            relief_calls: self.relief_calls.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }

    /// What is held, ours and everybody else's; within a grant ours alone.
    fn whole_bytes(&self) -> usize {
        if self.grant.is_some() {
            return self.held_bytes();
        }
        let pools = self.account.held_bytes(Owner::Pools);
        pools.saturating_add(self.account.rest_bytes(Owner::Pools))
    }

    /// What is held and not ours: of other runtimes, and of the rest of the process.
    fn foreign_bytes(&self) -> usize {
        self.whole_bytes().saturating_sub(self.held_bytes())
    }

    fn short_bytes(&self, bytes: usize) -> usize {
        self.counted_bytes().saturating_add(bytes).saturating_sub(self.limit_bytes())
    }

    fn note_peak(&self) {
        self.peak.fetch_max(self.whole_bytes(), Ordering::Relaxed);
    }

    /// Adds `bytes` whether they fit or not, unless the sum is no number.
    fn add_over(&self, bytes: usize) -> bool {
        let added = match &self.grant {
            Some(grant) => self.held.try_add(bytes, usize::MAX).is_some_and(|after| {
                let added = grant.rose(after - bytes, after);
                if !added {
                    self.held.sub(bytes);
                }
                added
            }),
            None => {
                self.account.add_over(Owner::Pools, bytes).map(|_| self.held.add(bytes)).is_some()
            }
        };
        if added {
            self.note_peak();
        }
        added
    }

    /// Adds `bytes` if they fit.
    fn try_add(&self, bytes: usize) -> bool {
        let added = match &self.grant {
            Some(_) => self.held.try_add(bytes, self.limit_bytes()).is_some(),
            None => {
                self.account.try_add(Owner::Pools, bytes).map(|_| self.held.add(bytes)).is_some()
            }
        };
        if added {
            self.note_peak();
        }
        added
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
        ledger.account().note_foreign(30);
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
        fn relieve(&self, short: usize) -> usize {
            let freed = self.bytes.load(Ordering::Relaxed).min(short);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
            let ledger = self.ledger.get().and_then(Weak::upgrade);
            ledger.expect("connected, and charged just now").uncharge(freed);
            freed
        }
        fn limit_changed(&self, _excess: usize) {}
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
        fn limit_changed(&self, _excess: usize) {}
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
