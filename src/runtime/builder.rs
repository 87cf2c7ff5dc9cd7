//! Settings of a runtime, and how its parts are wired.

use super::{Inner, Runtime, set_limit};
use crate::alloc::PagedBlocks;
use crate::error::Error;
use crate::limit::LimitSpec;
use crate::meter::Meter;
use crate::reclaim::rungs::{AllocatorCache, CachedBlocks, HeapTrim, Holders, NamedPool};
use crate::reclaim::{Enforcement, Ladder, OnThrash};
use crate::spill::rung::Vectors;
use crate::spill::{Spill, SpillOptions};
use plimsoll_arena::process::AccountRef;
use plimsoll_arena::{Ledger, OverLimitRelease, Pool, Pressure, Secrecy};
use std::sync::{Arc, Mutex};

impl Runtime {
    /// Returns the settings of a runtime: no limit, every path enforced.
    #[must_use]
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }
}

/// Settings of a [`Runtime`].
#[derive(Debug, Default)]
pub struct RuntimeBuilder {
    limit: Option<LimitSpec>,
    account: AccountRef,
    enforcement: Enforcement,
    on_thrash: OnThrash,
    spill: Option<SpillOptions>,
}

impl RuntimeBuilder {
    /// Sets the limit of the process: `12GiB`, `75%`, `auto`, `none`. Building the runtime resolves
    /// it against the machine, and afterwards it follows the cgroup. The global allocator and
    /// `PLIMSOLL_LIMIT` set the same limit, and the last writer wins. Without this call, their
    /// limit stays.
    #[must_use]
    pub fn limit(mut self, spec: LimitSpec) -> Self {
        self.limit = Some(spec);
        self
    }

    /// Sets the limit of the process in bytes; see [`RuntimeBuilder::limit`].
    #[must_use]
    pub fn limit_bytes(self, bytes: u64) -> Self {
        self.limit(LimitSpec::Bytes(bytes))
    }

    /// Gives the runtime a limit of its own, which nobody else changes and no cgroup lowers. It is
    /// for tests, and for several runtimes in one process that are measured apart. It still counts
    /// the resident memory of the whole process.
    #[must_use]
    pub fn own_limit(mut self) -> Self {
        self.account = AccountRef::alone();
        self
    }

    /// Chooses which paths enforce the limit; all by default.
    #[must_use]
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.enforcement = enforcement;
        self
    }

    /// Sets what happens when keeping to the limit takes more than half of the time.
    #[must_use]
    pub fn on_thrash(mut self, policy: OnThrash) -> Self {
        self.on_thrash = policy;
        self
    }

    /// Sets where cold vectors go. Without this call they stay in memory.
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
        let account = self.account;
        account.read_environment();
        let limit = self.limit.map(|spec| set_limit(&account, spec, &meter)).transpose()?.flatten();
        let ledger = Arc::new(crate::testing::scope::counted(Ledger::on(account.clone())));
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
        let ladder = Arc::new(Ladder::new(account.clone(), self.enforcement, self.on_thrash));
        let store = self.spill.as_ref().map(|options| options.open(&ledger)).transpose()?;
        let io_threads = self.spill.as_ref().map_or(1, SpillOptions::threads);
        let spill = Spill::new(Arc::clone(&ledger), store, io_threads);
        let holders = Arc::new(Holders::default());
        let blocks = CachedBlocks([&vectors, &secrets].map(Arc::downgrade).to_vec());
        ladder.put_up(vec![
            Box::new(blocks.clone()),
            Box::new(AllocatorCache(account.clone())),
            Box::new(Arc::clone(&holders)),
            Box::new(Vectors::new(Arc::downgrade(&spill), blocks)),
            Box::new(PagedBlocks(account.clone())),
            Box::new(HeapTrim(account.clone())),
        ]);
        let pressure: Arc<dyn Pressure> = Arc::clone(&ladder) as _;
        account.register(Arc::downgrade(&pressure));
        assert!(ledger.connect(pressure), "the ledger was just made");
        ledger.sample();
        let (stages, observer) = (Mutex::default(), Mutex::default());
        let limit = Mutex::new(limit);
        let inner = Inner {
            account,
            limit,
            meter,
            ledger,
            vectors,
            secrets,
            holders,
            ladder,
            spill,
            stages,
            observer,
        };
        Ok(Runtime { inner: Arc::new(inner) })
    }
}
