//! Settings of a runtime, and how its parts are wired.

use super::settings::Settings;
use super::{Inner, Runtime, set_limit};
use crate::alloc::PagedBlocks;
use crate::error::Error;
use crate::limit::{Limit, LimitSpec};
use crate::meter::Meter;
use crate::permit::queue::Queue;
use crate::permit::shared::SharedLimit;
use crate::reclaim::rungs::{AllocatorCache, CachedBlocks, HeapTrim, Holders, NamedPool};
use crate::reclaim::{Enforcement, Ladder, OnThrash, Rung};
use crate::spill::rung::SpillableRung;
use crate::spill::{Spill, SpillOptions};
use plimsoll_arena::process::AccountRef;
use plimsoll_arena::sync::unpoisoned;
use plimsoll_arena::{Grant, Ledger, OverLimitRelease, Pool, Pressure, Secrecy};
use std::sync::{Arc, Mutex};

/// Addresses that a pool under a permit reserves for each byte of it, as many as a pool does for
/// the machine's memory, and at least. A pool for the whole machine has up to 8 TiB: the addresses
/// of a process would be used up by eight permits.
const ADDRESSES_A_BYTE: usize = 64;
const PERMIT_ADDRESSES_MIN: usize = 16 << 30;

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
    settings: Settings,
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
        self.settings.enforcement = enforcement;
        self
    }

    /// Sets what happens when keeping to the limit takes more than half of the time.
    #[must_use]
    pub fn on_thrash(mut self, policy: OnThrash) -> Self {
        self.settings.on_thrash = policy;
        self
    }

    /// Sets where cold vectors go. Without this call they stay in memory.
    #[must_use]
    pub fn spill(mut self, options: SpillOptions) -> Self {
        self.settings.spill = Some(options);
        self
    }

    /// Grants permits only within a limit that several processes share, besides this process's
    /// own. What this process holds now counts there, too; what it makes outside of permits
    /// afterwards does not.
    #[must_use]
    pub fn shared_limit(mut self, shared: SharedLimit) -> Self {
        self.settings.shared = Some(shared);
        self
    }

    /// Says what the program itself comes to use at most, besides vectors: code, libraries, heap.
    /// Plans then count that. Otherwise they guess from what the process uses when they are made,
    /// which differs from run to run by more than a MiB, since the kernel maps code as it likes.
    #[must_use]
    pub fn program_bytes(mut self, bytes: u64) -> Self {
        self.settings.program_bytes = Some(bytes);
        self
    }

    /// Makes the runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Limit`] when the limit cannot be resolved, [`Error::Meter`] when the kernel's
    /// figures cannot be read, [`Error::Shared`] when the table of a shared limit cannot be
    /// changed, [`Error::Arena`] when no addresses can be reserved, and [`Error::Spill`] when the
    /// spill folder cannot be used.
    pub fn build(self) -> Result<Runtime, Error> {
        let meter = Meter::live()?;
        let rss_bytes = meter.rss_bytes()?;
        if let Some(shared) = &self.settings.shared {
            shared.note_program(rss_bytes)?;
        }
        let account = self.account;
        account.read_environment();
        let limit = self.limit.map(|spec| set_limit(&account, spec, &meter)).transpose()?.flatten();
        let ledger = Ledger::on(account);
        Runtime::wire(ledger, None, self.settings, meter, limit)
    }
}

impl Runtime {
    /// Makes a runtime whose limit is a grant of this one's ledger, for the permit `name`.
    pub(crate) fn within(&self, name: &str, grant: Grant) -> Result<Runtime, Error> {
        let inner = &self.inner;
        let mut settings = inner.settings.clone();
        let (part, whole) = (grant.bytes(), inner.ledger.limit_bytes());
        // It has them already.
        settings.shared = None;
        settings.spill = settings.spill.map(|options| options.part(part, whole));
        let (ledger, meter) = (inner.ledger.within(grant), Meter::live()?);
        let whole = Some((name, &*inner.spill));
        let runtime = Self::wire(ledger, whole, settings, meter, None)?;
        let observer = unpoisoned(inner.observer.lock()).clone();
        *unpoisoned(runtime.inner.observer.lock()) = observer;
        self.note_beneath(&runtime);
        Ok(runtime)
    }

    /// Wires a runtime around a ledger, which knows the limit. A runtime for a permit has its name,
    /// and the spill tier whose buffers it shares.
    fn wire(
        ledger: Ledger,
        permit: Option<(&str, &Spill)>,
        settings: Settings,
        meter: Meter,
        limit: Option<Limit>,
    ) -> Result<Runtime, Error> {
        let Settings { enforcement, on_thrash, spill, .. } = &settings;
        let account = ledger.account_ref().clone();
        let granted = ledger.granted().map(Grant::bytes);
        let ledger = Arc::new(crate::testing::scope::counted(ledger));
        let release = match enforcement.at_release {
            true => OverLimitRelease::GiveBack,
            false => OverLimitRelease::Keep,
        };
        let addresses = granted.map_or(usize::MAX, |bytes| {
            bytes.saturating_mul(ADDRESSES_A_BYTE).max(PERMIT_ADDRESSES_MIN)
        });
        let pool = |name, secrecy| -> Result<Arc<NamedPool>, Error> {
            let builder = Pool::builder().ledger(Arc::clone(&ledger)).secrecy(secrecy);
            let builder = builder.reserve_bytes_most(addresses);
            Ok(Arc::new(NamedPool { name, pool: builder.over_limit_release(release).build()? }))
        };
        let vectors = pool("vectors", Secrecy::Public)?;
        let secrets = pool("secret vectors", Secrecy::Secret)?;
        let ladder = Ladder::new(account.clone(), *enforcement, *on_thrash);
        let ladder = Arc::new(ladder.within(granted.unwrap_or(usize::MAX)));
        let beside = permit.and_then(|(_, spill)| spill.store());
        let store = spill.as_ref().map(|options| options.open(&ledger, beside)).transpose()?;
        let io_threads = spill.as_ref().map_or(1, SpillOptions::threads);
        let spill = Spill::new(Arc::clone(&ledger), store, io_threads);
        let holders = Arc::new(Holders::default());
        let blocks = CachedBlocks([&vectors, &secrets].map(Arc::downgrade).to_vec());
        let own: [Box<dyn Rung>; 3] = [
            Box::new(blocks.clone()),
            Box::new(Arc::clone(&holders)),
            Box::new(SpillableRung::new(Arc::downgrade(&spill), blocks)),
        ];
        ladder.put_up(with_the_process(own, &account));
        let queue = Queue::of(&account, permit.is_some());
        let pressure: Arc<dyn Pressure> = Arc::clone(&ladder) as _;
        account.register(Arc::downgrade(&pressure));
        assert!(ledger.connect(Arc::clone(&ladder) as _), "the ledger was just made");
        ledger.sample();
        let (stages, laps, observer) = (Mutex::default(), Mutex::default(), Mutex::default());
        let beneath = Mutex::default();
        let limit = Mutex::new(limit);
        let inner = Inner {
            permit: permit.map(|(name, _)| name.to_owned()),
            queue,
            settings,
            beneath,
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
            laps,
            observer,
        };
        Ok(Runtime { inner: Arc::new(inner) })
    }
}

/// The runtime's own rungs with those of the process between and after them, in the ladder's order.
fn with_the_process(own: [Box<dyn Rung>; 3], account: &AccountRef) -> Vec<Box<dyn Rung>> {
    let [blocks, holders, vectors] = own;
    vec![
        blocks,
        Box::new(AllocatorCache(account.clone())),
        holders,
        vectors,
        Box::new(PagedBlocks(account.clone())),
        Box::new(HeapTrim(account.clone())),
    ]
}
