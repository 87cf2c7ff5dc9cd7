//! The runtime: one limit, one ledger, two pools and the ladder, wired together.
//!
//! ```text
//!   Runtime --+-- Ledger <---- charges ---- Pool "vectors"
//!             |     |                 \---- Pool "secret vectors" (wiped when dropped)
//!             |     +- asks for relief -> Ladder -> pools, holders, spillable vectors, heap
//!             +-- Meter (RSS, VmHWM)
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

use crate::error::Error;
use crate::limit::{Limit, LimitSpec};
use crate::meter::Meter;
use crate::reclaim::{Cause, Enforcement, EnforcementCounts, Held, Holder, Ladder, NamedPool};
use crate::reclaim::{Freed, ReclaimReport};
use crate::spill::{Spill, SpillOptions, SpillStats};
use crate::stage::{STAGE_LOG_LEN, StageReport};
use crate::thrash::OnThrash;
use plimsoll_arena::{Ledger, LedgerStats, OverLimitRelease, Pool, Secrecy};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// Hears what a runtime does, on the thread that does it.
pub(crate) trait Observer: Send + Sync {
    /// A stage begins, with its reclaim point; `began` is what [`Observer::stage_ended`] is told.
    fn stage_begins(&self, began: Instant);
    /// A stage ended that began at `began` with `depth` stages around it.
    fn stage_ended(&self, report: &StageReport, began: Instant, depth: u16);
    /// A reclaim point had to act.
    fn reclaimed(&self, name: &str, report: &ReclaimReport);
}

/// What the heap, stacks and code pages may grow by after the last vector was charged, when nobody
/// looks. Transforms of 2^23 in blocks of 64 KiB, under 32 MiB, grew by 0.6 MB (`cargo bench
/// --bench ntt -- sweep`). One for every limit: lowering the limit by a byte is short by a byte.
const FOREIGN_MARGIN_BYTES: usize = 1 << 20;

/// Settings of a [`Runtime`].
#[derive(Debug, Default)]
pub struct RuntimeBuilder {
    limit: Option<LimitSpec>,
    limit_bytes: Option<usize>,
    enforcement: Enforcement,
    on_thrash: OnThrash,
    spill: Option<SpillOptions>,
}

impl RuntimeBuilder {
    /// Sets the limit by its words: `12GiB`, `75%`, `auto`. It is resolved against the machine
    /// when the runtime is built.
    #[must_use]
    pub fn limit(mut self, spec: LimitSpec) -> Self {
        self.limit = Some(spec);
        self
    }

    /// Sets the limit to exactly `bytes`, whatever the machine has. Without any limit set, nothing
    /// is enforced.
    #[must_use]
    pub fn limit_bytes(mut self, bytes: usize) -> Self {
        self.limit_bytes = Some(bytes);
        self
    }

    /// Chooses which paths enforce the limit; all by default.
    #[must_use]
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.enforcement = enforcement;
        self
    }

    /// Sets what happens when reclaiming takes more than half of the time.
    #[must_use]
    pub fn on_thrash(mut self, policy: OnThrash) -> Self {
        self.on_thrash = policy;
        self
    }

    /// Sets where cold vectors go; without it they stay in memory.
    #[must_use]
    pub fn spill(mut self, options: SpillOptions) -> Self {
        self.spill = Some(options);
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when the limit cannot be resolved, [`Error::Meter`] when the kernel's
    /// figures cannot be read, [`Error::Arena`] when no addresses can be reserved, and
    /// [`Error::Spill`] when the spill folder cannot be used.
    pub fn build(self) -> Result<Runtime, Error> {
        let meter = Meter::live()?;
        meter.rss_bytes()?;
        let limit = self.limit.map(|spec| spec.resolve(&meter)).transpose()?;
        let resolved =
            limit.as_ref().map(|limit| usize::try_from(limit.bytes).unwrap_or(usize::MAX));
        let limit_bytes = self.limit_bytes.or(resolved).unwrap_or(usize::MAX);
        let ledger = Ledger::with_limit(limit_bytes);
        ledger.set_foreign_margin(FOREIGN_MARGIN_BYTES);
        let ledger = Arc::new(crate::testing::counted(ledger));
        let release = match self.enforcement.at_release {
            true => OverLimitRelease::GiveBack,
            false => OverLimitRelease::Keep,
        };
        let pool = |name, secrecy| -> Result<Arc<NamedPool>, Error> {
            let builder = Pool::builder().ledger(Arc::clone(&ledger)).secrecy(secrecy);
            Ok(Arc::new(NamedPool { name, pool: builder.over_limit_release(release).build()? }))
        };
        let vectors = pool("vectors", Secrecy::Public)?;
        let secrets = pool("secret vectors", Secrecy::Secret)?;
        let ladder = Arc::new(Ladder::new(meter, self.enforcement, self.on_thrash));
        let store = self.spill.as_ref().map(|options| options.open(&ledger)).transpose()?;
        let io_threads = self.spill.as_ref().map_or(1, SpillOptions::threads);
        let spill = Spill::new(Arc::clone(&ledger), store, io_threads);
        ladder.connect(&ledger, &[Arc::clone(&vectors), Arc::clone(&secrets)], &spill);
        let connected = ledger.connect(Arc::clone(&ladder) as Arc<dyn plimsoll_arena::Pressure>);
        assert!(connected, "the ledger was just made");
        ledger.sample();
        let stages = Mutex::new(VecDeque::new());
        let observer = Mutex::new(None);
        let inner = Inner { limit, ledger, vectors, secrets, ladder, spill, stages, observer };
        Ok(Runtime { inner: Arc::new(inner) })
    }
}

struct Inner {
    limit: Option<Limit>,
    ledger: Arc<Ledger>,
    vectors: Arc<NamedPool>,
    secrets: Arc<NamedPool>,
    ladder: Arc<Ladder>,
    spill: Arc<Spill>,
    stages: Mutex<VecDeque<StageReport>>,
    observer: Mutex<Option<Weak<dyn Observer>>>,
}

/// See the module's header.
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
    /// Returns the settings of a runtime: no limit, every path enforced.
    #[must_use]
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Returns the pool for vectors.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.inner.vectors.pool
    }

    /// Returns the pool for secrets: what is dropped is overwritten at once.
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
    #[must_use]
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.inner.ledger
    }

    /// Returns the kernel's figures for this process.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        self.inner.ladder.meter()
    }

    /// Returns the limit as it was resolved, with its source; `None` when it was given in bytes or
    /// not at all.
    #[must_use]
    pub fn limit(&self) -> Option<&Limit> {
        self.inner.limit.as_ref()
    }

    /// Returns the limit in force in bytes, `None` when there is none.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<usize> {
        Some(self.inner.ledger.limit_bytes()).filter(|bytes| *bytes != usize::MAX)
    }

    /// Sets the limit to `bytes` and returns the old one; lowering it reclaims at once.
    pub fn set_limit_bytes(&self, bytes: usize) -> usize {
        let old = self.inner.ledger.set_limit(bytes);
        self.inner.ledger.sample();
        self.inner.ladder.climb(self.inner.ledger.excess_bytes(), Cause::Lowered);
        self.inner.ledger.sample();
        old
    }

    /// Registers a cache on the reclaim ladder. It stays registered until its last `Arc` goes.
    pub fn register(&self, holder: &Arc<dyn Holder>) {
        self.inner.ladder.register(holder);
    }

    /// Makes sure that `need_bytes` are free before a heavy stage.
    ///
    /// Synchronous and deterministic. With enough headroom, by the last sample of the kernel's
    /// figures, it does nothing and costs nanoseconds; otherwise it climbs the reclaim ladder and
    /// reports what each rung freed, and who holds the rest.
    #[inline]
    pub fn reclaim_point(&self, name: &str, need_bytes: usize) -> ReclaimReport {
        let room = self.inner.ledger.limit_bytes().checked_sub(self.inner.ledger.counted_bytes());
        if room.is_some_and(|room| room >= need_bytes) {
            return ReclaimReport { need_bytes, ..ReclaimReport::default() };
        }
        self.reclaim_point_short(name, need_bytes)
    }

    #[cold]
    fn reclaim_point_short(&self, name: &str, need_bytes: usize) -> ReclaimReport {
        let ledger = &self.inner.ledger;
        let short = |ledger: &Ledger| {
            ledger.counted_bytes().saturating_add(need_bytes).saturating_sub(ledger.limit_bytes())
        };
        ledger.sample();
        let freed = self.inner.ladder.climb(short(ledger), Cause::Point);
        ledger.sample();
        let short_bytes = short(ledger);
        tracing::debug!(
            name,
            need_bytes,
            freed = freed.total_bytes(),
            short_bytes,
            "reclaim point"
        );
        self.debug_check();
        let blocked = if short_bytes > 0 { self.inner.ladder.held() } else { Vec::new() };
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

    /// Gives everything back that is not in use: all cached blocks, what holders can make again,
    /// and the free pages of the heap.
    pub fn reclaim_all(&self) -> Freed {
        let freed = self.inner.ladder.climb(usize::MAX / 2, Cause::Point);
        self.inner.ledger.sample();
        self.debug_check();
        freed
    }

    /// Returns who holds how much now, largest first.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        self.inner.ladder.held()
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

    /// Takes the reports of the stages that ended, oldest first.
    #[must_use]
    pub fn take_stages(&self) -> Vec<StageReport> {
        self.stages().drain(..).collect()
    }

    fn stages(&self) -> std::sync::MutexGuard<'_, VecDeque<StageReport>> {
        self.inner.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `observer` the one that hears of stages and reclaim points, for as long as it lives.
    #[cfg(feature = "record")]
    pub(crate) fn observe(&self, observer: Weak<dyn Observer>) {
        *self.inner.observer.lock().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    fn observer(&self) -> Option<Arc<dyn Observer>> {
        let observer = self.inner.observer.lock().unwrap_or_else(PoisonError::into_inner);
        observer.as_ref().and_then(Weak::upgrade)
    }

    pub(crate) fn tell_begun(&self, began: Instant) {
        if let Some(observer) = self.observer() {
            observer.stage_begins(began);
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

    pub(crate) fn over_limit(&self, stage: &str, asked: usize, short: usize) -> Error {
        let limit = self.inner.ledger.limit_bytes();
        Error::OverLimit {
            stage: stage.to_owned(),
            asked_bytes: asked as u64,
            short_bytes: short as u64,
            limit_bytes: limit as u64,
            fits_bytes: limit.saturating_add(short) as u64,
            holders: self.held(),
        }
    }

    /// Turns a refusal of the arena into the error that names the stage and the largest holders.
    #[must_use]
    pub fn explain(&self, stage: &str, error: plimsoll_arena::Error) -> Error {
        match error {
            plimsoll_arena::Error::OverLimit(over) => {
                if let Some(why) = self.inner.spill.failure() {
                    return Error::SpillStopped { asked_bytes: over.asked_bytes as u64, why };
                }
                self.over_limit(stage, over.asked_bytes, over.short_bytes)
            }
            other => Error::Arena(other),
        }
    }
}
