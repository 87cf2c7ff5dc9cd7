//! The runtime: one limit, one ledger, two pools and the ladder, wired together.
//!
//! ```text
//!   Runtime --+-- Ledger <---- charges ---- Pool "vectors"
//!             |     |  |              \---- Pool "secret vectors" (wiped when dropped)
//!             |     |  +- asks for relief -> Ladder -> its rungs, in a fixed order
//!             |     +- charges -> the process's Account: limit, foreign bytes
//!             +-- Meter (VmHWM)
//!             +-- the log of stages
//! ```
//!
//! ```
//! use plimsoll::Runtime;
//!
//! let runtime = Runtime::builder().limit_bytes(1 << 30).build()?;
//! let stage = runtime.stage("commit", 64 << 20)?; // gives cached memory back if it must
//! let column = runtime.pool().try_zeroed::<u64>(1 << 20)?;
//! drop(column);
//! drop(stage);
//! assert_eq!(runtime.take_stages()[0].name, "commit");
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! A runtime is cheap to clone; clones share everything.

mod beneath;
mod builder;
mod settings;

pub use self::builder::RuntimeBuilder;

use self::settings::Settings;
use crate::error::Error;
use crate::limit::{Limit, LimitError, LimitSource, LimitSpec};
use crate::meter::Meter;
use crate::permit::queue::Queue;
use crate::permit::shared::SharedLimit;
use crate::reclaim::ReclaimReport;
use crate::reclaim::rungs::{Holders, NamedPool};
use crate::reclaim::{Cause, EnforcementCounts, Freed, Held, Holder, Ladder, Moment};
use crate::spill::{Spill, SpillStats};
use crate::stage::laps::Laps;
use crate::stage::planned::Planned;
use crate::stage::report::{STAGE_LOG_LEN, StageReport};
use plimsoll_arena::process::{Account, AccountRef, Owner, Parts, Source};
use plimsoll_arena::sync::unpoisoned;
use plimsoll_arena::{Ledger, LedgerStats, Pool, Secrecy};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

/// How often a reclaim point climbs while it is short and each climb frees something.
const CLIMBS_MAX: u32 = 8;

/// Hears what a runtime does, on the thread that does it.
pub(crate) trait Observer: Send + Sync {
    /// A stage begins, with its reclaim point; `began` is what [`Observer::stage_ended`] is told.
    fn stage_begins(&self, began: Instant);
    /// A stage ended that began at `began` with `depth` stages around it.
    fn stage_ended(&self, report: &StageReport, began: Instant, depth: u16);
    /// A graph is about to run so.
    fn planned(&self, planned: &Planned);
    /// A reclaim point had to act.
    fn reclaimed(&self, name: &str, report: &ReclaimReport);
}

/// Sets the limit of an account, and says what it came to.
fn set_limit(
    account: &AccountRef,
    spec: LimitSpec,
    meter: &Meter,
) -> Result<Option<Limit>, LimitError> {
    let limit = match spec {
        // What an account of one's own is set to in bytes is not the machine's concern.
        LimitSpec::Bytes(bytes) if account.is_alone() => {
            Some(Limit { bytes, source: LimitSource::User })
        }
        spec => {
            let (allowance, path) = meter.allowance()?;
            let limit = Limit::of(spec.resolve(&allowance), path)?;
            if !account.is_alone() {
                account.set_spec(spec, &allowance, Source::Runtime);
                return Ok(limit);
            }
            limit
        }
    };
    let bytes = limit.as_ref().map_or(usize::MAX, |limit| limit.bytes as usize);
    account.set_limit(bytes, Source::Runtime);
    Ok(limit)
}

struct Inner {
    /// The name of the permit whose bytes are the limit, if it is not the account's.
    permit: Option<String>,
    /// Who waits for permits of this runtime, or of others that keep to the same limit.
    queue: Arc<Queue>,
    settings: Settings,
    /// The runtimes under permits that this one granted.
    beneath: Mutex<Vec<Weak<Inner>>>,
    account: AccountRef,
    /// What the limit that this runtime set came to, and why.
    limit: Mutex<Option<Limit>>,
    meter: Meter,
    ledger: Arc<Ledger>,
    vectors: Arc<NamedPool>,
    secrets: Arc<NamedPool>,
    holders: Arc<Holders>,
    ladder: Arc<Ladder>,
    spill: Arc<Spill>,
    stages: Mutex<VecDeque<StageReport>>,
    laps: Mutex<Laps>,
    observer: Mutex<Option<Weak<dyn Observer>>>,
}

/// One memory limit and everything that keeps it: two pools, the ledger, the reclaim ladder, and
/// the log of stages.
///
/// A program usually has one runtime. Clones are cheap and share everything.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("ledger", &self.inner.ledger).finish_non_exhaustive()
    }
}

impl Runtime {
    /// Returns the pool for ordinary vectors.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.inner.vectors.pool
    }

    /// Returns the pool for secrets. It wipes the memory of a vector as soon as the vector is
    /// dropped.
    #[must_use]
    pub fn secret_pool(&self) -> &Pool {
        &self.inner.secrets.pool
    }

    /// Returns the pool for vectors of this secrecy.
    #[must_use]
    pub fn pool_of(&self, secrecy: Secrecy) -> &Pool {
        match secrecy {
            Secrecy::Public => self.pool(),
            Secrecy::Secret => self.secret_pool(),
        }
    }

    /// Returns the ledger that both pools charge.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// Returns the account whose limit this runtime keeps to: the process's, unless the runtime has
    /// one of its own.
    pub(crate) fn account(&self) -> &Account {
        &self.inner.account
    }

    /// Asks the kernel how much is resident. Charges, stages and reclaim points do this by
    /// themselves.
    pub fn look(&self) {
        self.inner.ledger.sample();
    }

    /// Returns the bytes that count against the limit: what vectors hold, what the rest of the
    /// process held at the last look, and a margin for growth that nobody has seen yet.
    #[must_use]
    pub fn counted_bytes(&self) -> u64 {
        self.inner.ledger.counted_bytes() as u64
    }

    /// Returns the resident bytes of the process now, by kind.
    #[must_use]
    pub fn parts(&self) -> Parts {
        self.account().parts()
    }

    /// Returns how often the process was over its limit with nothing more to give back, and by how
    /// many bytes at most.
    #[must_use]
    pub fn over_limit(&self) -> (u64, u64) {
        let (times, most_bytes) = self.account().over_limit();
        (times, most_bytes as u64)
    }

    /// Announces that the rest of the process will hold `bytes`, for as long as the returned guard
    /// lives.
    #[cfg(feature = "groth16")]
    pub(crate) fn expect_foreign(&self, bytes: usize) -> plimsoll_arena::process::Expected {
        Account::expect(&self.inner.account, bytes)
    }

    /// Returns the kernel's figures for this process.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    /// Returns the limit in force with its source; `None` when there is none. Under a permit it is
    /// the permit.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        let bytes = self.limit_bytes()?;
        if let Some(permit) = &self.inner.permit {
            return Some(Limit { bytes, source: LimitSource::Permit(permit.clone()) });
        }
        let source = match self.account().asked() {
            (_, Source::Runtime) => {
                let limit = unpoisoned(self.inner.limit.lock());
                limit.as_ref().map_or(LimitSource::User, |limit| limit.source.clone())
            }
            (_, source) => LimitSource::Elsewhere(source),
        };
        Some(Limit { bytes, source })
    }

    /// Returns the limit in force in bytes, `None` when there is none.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<u64> {
        Some(self.inner.ledger.limit_bytes()).filter(|b| *b != usize::MAX).map(|bytes| bytes as u64)
    }

    /// Sets the limit from its text form, and returns the limit in force; `None` means no limit.
    /// Lowering it reclaims at once, from this runtime, from others and from the global allocator.
    /// What permits were granted stays granted; also a runtime under a permit sets the limit of the
    /// process.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when it cannot be resolved, or comes to less than the least; nothing is
    /// changed then.
    pub fn set_limit(&self, spec: LimitSpec) -> Result<Option<Limit>, Error> {
        let limit = set_limit(&self.inner.account, spec, &self.inner.meter)?;
        unpoisoned(self.inner.limit.lock()).clone_from(&limit);
        self.account().tell_changed();
        Ok(limit)
    }

    /// Sets the limit in bytes, `None` for none, and returns the old one; see
    /// [`Runtime::set_limit`].
    pub fn set_limit_bytes(&self, bytes: Option<u64>) -> Option<u64> {
        let old = self.limit_bytes();
        let bytes = bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        *unpoisoned(self.inner.limit.lock()) = None;
        self.account().set_limit(bytes, Source::Runtime);
        self.account().tell_changed();
        old
    }

    /// Registers a cache on the reclaim ladder. It stays registered until its last `Arc` goes.
    pub fn register(&self, holder: &Arc<dyn Holder>) {
        self.inner.holders.register(holder);
    }

    /// Makes sure that `need_bytes` are free before a heavy stage.
    ///
    /// Synchronous and deterministic. With enough headroom, by the last sample of the kernel's
    /// figures, it does nothing and costs nanoseconds; otherwise it climbs the reclaim ladder and
    /// reports what each rung freed, and which holders have the rest.
    #[inline]
    pub fn reclaim_point(&self, name: &str, need_bytes: u64) -> ReclaimReport {
        let room = self.inner.ledger.limit_bytes().checked_sub(self.inner.ledger.counted_bytes());
        if room.is_some_and(|room| room as u64 >= need_bytes) {
            return ReclaimReport { need_bytes, ..ReclaimReport::default() };
        }
        self.reclaim_point_short(name, need_bytes)
    }

    #[cold]
    fn reclaim_point_short(&self, name: &str, need_bytes: u64) -> ReclaimReport {
        let ledger = &self.inner.ledger;
        let need = usize::try_from(need_bytes).unwrap_or(usize::MAX);
        let short = |ledger: &Ledger| {
            ledger.counted_bytes().saturating_add(need).saturating_sub(ledger.limit_bytes())
        };
        ledger.sample();
        let mut freed = Freed::default();
        // Vectors that a climb packs are on the heap afterwards, and what they leave there is for
        // the last rung: climb again, until nothing comes of it.
        for _climb in 0..CLIMBS_MAX {
            let more = self.inner.ladder.climb(short(ledger), Cause::Point);
            ledger.sample();
            freed.append(&more);
            if short(ledger) == 0 || more.total_bytes() == 0 {
                break;
            }
        }
        let short_bytes = short(ledger) as u64;
        tracing::debug!(
            name,
            need_bytes,
            freed = freed.total_bytes(),
            short_bytes,
            "reclaim point"
        );
        self.debug_check();
        if self.inner.permit.is_none() && ledger.excess_bytes() > 0 {
            self.account().still_over();
        }
        let blocked = if short_bytes > 0 { self.held() } else { Vec::new() };
        let report = ReclaimReport { need_bytes, freed, short_bytes, blocked };
        if let Some(observer) = self.observer() {
            observer.reclaimed(name, &report);
        }
        report
    }

    fn debug_check(&self) {
        if cfg!(debug_assertions) {
            self.pool().check();
            self.secret_pool().check();
        }
    }

    /// Frees all memory that is not in use: cached blocks, what holders can make again, and the
    /// free pages of the heap.
    pub fn reclaim_all(&self) -> Freed {
        let freed = self.inner.ladder.climb(usize::MAX / 2, Cause::Point);
        self.inner.ledger.sample();
        self.debug_check();
        freed
    }

    /// Frees cached blocks, the largest class and the oldest block first, until at most `max_bytes`
    /// of them are left. Returns the freed bytes. Use it when you know what comes next: without a
    /// limit nearby, blocks of sizes that nobody needs again would stay.
    pub fn shrink_cached(&self, max_bytes: u64) -> u64 {
        let pools = [self.pool(), self.secret_pool()];
        let cached: usize = pools.iter().map(|pool| pool.stats().cached_bytes).sum();
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.give_back_cached(cached.saturating_sub(max)) as u64
    }

    /// Frees at least `bytes` of cached blocks if there are as many, and returns what it freed.
    pub(crate) fn give_back_cached(&self, bytes: usize) -> usize {
        let give = |freed: usize, pool: &Pool| freed + pool.reclaim(bytes.saturating_sub(freed));
        [self.pool(), self.secret_pool()].into_iter().fold(0, give)
    }

    /// Returns the holders of memory and their bytes, the largest first. Each permit in force that
    /// has vectors is one.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.with_permits(Runtime::held_bytes)
    }

    /// Who held how much, largest first: the vectors of both pools at their own peaks in a stage,
    /// which are exact; everyone else now.
    pub(crate) fn held_in_stage(&self, peaks: [usize; 2]) -> Vec<Held> {
        self.inner.ladder.held(Moment::Lap(peaks))
    }

    pub(crate) fn laps(&self) -> std::sync::MutexGuard<'_, Laps> {
        unpoisoned(self.inner.laps.lock())
    }

    pub(crate) fn spill(&self) -> &Arc<Spill> {
        &self.inner.spill
    }

    /// Returns whether cold vectors have somewhere to go.
    #[must_use]
    pub fn can_spill(&self) -> bool {
        self.inner.spill.has_store()
    }

    /// Returns what the spill tier did so far.
    #[must_use]
    pub fn spill_stats(&self) -> SpillStats {
        self.inner.spill.stats()
    }

    /// Returns the ledger's figures.
    #[must_use]
    pub fn stats(&self) -> LedgerStats {
        self.inner.ledger.stats()
    }

    /// Returns how often each enforcing path had to act.
    #[must_use]
    pub fn enforcement_counts(&self) -> EnforcementCounts {
        self.inner.ladder.counts()
    }

    /// Takes the reports of the stages that have ended, the oldest first.
    #[must_use]
    pub fn take_stages(&self) -> Vec<StageReport> {
        self.stages().drain(..).collect()
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, VecDeque<StageReport>> {
        unpoisoned(self.inner.stages.lock())
    }

    /// Makes `observer` the one that hears of stages and reclaim points, for as long as it lives.
    #[cfg(feature = "record")]
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        *unpoisoned(self.inner.observer.lock()) = Some(observer);
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        let observer = unpoisoned(self.inner.observer.lock());
        observer.as_ref().and_then(Weak::upgrade)
    }

    pub(crate) fn tell_begun(&self, began: Instant) {
        if let Some(observer) = self.observer() {
            observer.stage_begins(began);
        }
    }

    /// Tells the observer, if there is one, how a graph is about to run.
    pub(crate) fn tell_planned(&self, planned: impl FnOnce() -> Planned) {
        if let Some(observer) = self.observer() {
            observer.planned(&planned());
        }
    }

    pub(crate) fn file_report(&self, report: StageReport) {
        if let (Some(begun), Some(observer)) = (report.begun, self.observer()) {
            observer.stage_ended(&report, begun.at, begun.depth);
        }
        let mut stages = self.stages();
        if stages.len() == STAGE_LOG_LEN {
            stages.pop_front();
        }
        stages.push_back(report);
    }

    /// Returns what the process holds besides the vectors of runtimes.
    pub(crate) fn rest_bytes(&self) -> u64 {
        self.account().rest_bytes(Owner::Pools) as u64
    }

    /// Returns who waits for permits of this runtime.
    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.inner.queue
    }

    /// Returns the limit that this process shares with others, if it does.
    #[must_use]
    pub fn shared_limit(&self) -> Option<&SharedLimit> {
        self.inner.settings.shared.as_ref()
    }

    /// Returns what the program said it comes to use itself.
    #[cfg(feature = "groth16")]
    pub(crate) fn program_bytes(&self) -> Option<u64> {
        self.inner.settings.program_bytes
    }

    /// Returns the name of the permit that is the limit, if it is one.
    #[must_use]
    pub fn permit_name(&self) -> Option<&str> {
        self.inner.permit.as_deref()
    }

    pub(crate) fn does_not_fit(&self, stage: &str, asked_bytes: u64, short_bytes: u64) -> Error {
        let limit_bytes = self.inner.ledger.limit_bytes() as u64;
        if let Some(permit) = &self.inner.permit {
            return Error::OverPermit {
                permit: permit.clone(),
                stage: stage.to_owned(),
                asked_bytes,
                permit_bytes: limit_bytes,
                fits_bytes: limit_bytes.saturating_add(short_bytes),
                holders: self.held(),
            };
        }
        Error::OverLimit {
            stage: stage.to_owned(),
            asked_bytes,
            short_bytes,
            limit_bytes,
            fits_bytes: limit_bytes.saturating_add(short_bytes),
            // What a permit was granted is not there for others, whatever it holds of it.
            holders: self.with_permits(|permit| permit.limit_bytes().unwrap_or(0)),
        }
    }

    /// Turns an error of the arena into one that names the stage and the largest holders.
    #[must_use]
    pub fn explain(&self, stage: &str, error: plimsoll_arena::Error) -> Error {
        match error {
            plimsoll_arena::Error::OverLimit(over) => {
                if let Some(why) = self.inner.spill.failure() {
                    return Error::SpillStopped { asked_bytes: over.asked_bytes as u64, why };
                }
                self.does_not_fit(stage, over.asked_bytes as u64, over.short_bytes as u64)
            }
            other => Error::from(other),
        }
    }
}
