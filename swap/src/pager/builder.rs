//! Making a pager: the numbers, and what they must at least be.
//!
//! ```text
//!   builder -> numbers checked -> userfaultfd -> spill file -> tables, ranges -> threads
//! ```
//!
//! Nothing is left behind when a step fails. Everything a pager will ever need is taken here, as
//! addresses: later it allocates nothing. What it needs of the disk is tried: the first 64 MiB of
//! a spill file are taken, and kept.
//!
//! Must never: make a page of the range resident.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::libc;
use plimsoll_arena::process::AccountRef;

use super::build_error::BuildError;
use super::core::Core;
use super::crew::{Crew, Lead, WORKERS_MAX};
use super::engine::Engine;
use super::face::Pager;
use super::following::Following;
use super::held::Held;
use super::launder::segment_bytes;
use super::planning::{PlanUse, Planning};
use super::press::Press;
use super::probe::{self, Obstacle, UserMode};
use super::shelves::Shelves;
use super::space::{CHUNK_BYTES, GRANULE_BYTES, GRANULES, Space};
use super::sync::{Lock, Signal};
use super::sys;
use super::tables::Table;
use super::thrash::FailFast;
use crate::Error;
use crate::backend::Backend;
use crate::extent::{Extent, ExtentMap};
use crate::file::{RamDisk, SpillFile, file_limit_bytes};
use crate::seal::Key;
use crate::store::Encryption;

/// Threads: one that answers faults, and enough reads and writes at once for one disk.
pub(super) const WORKERS: usize = 6;

/// Makes a [`Pager`].
pub struct PagerBuilder {
    range_bytes: usize,
    budget_bytes: usize,
    account: Option<AccountRef>,
    quota_bytes: Option<u64>,
    folder: Option<PathBuf>,
    backend: Option<Box<dyn Backend>>,
    ram_disk: RamDisk,
    user_mode: UserMode,
    encryption: Encryption,
    packed_limit_bytes: Option<usize>,
    workers: usize,
    fail_fast: Option<FailFast>,
    plan: Option<PlanUse>,
}

impl std::fmt::Debug for PagerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PagerBuilder")
            .field("range_bytes", &self.range_bytes)
            .field("budget_bytes", &self.budget_bytes)
            .finish_non_exhaustive()
    }
}

impl PagerBuilder {
    /// Addresses of the range, rounded up to chunks. They cost nothing until touched.
    #[must_use]
    pub fn range_bytes(mut self, bytes: usize) -> Self {
        self.range_bytes = bytes;
        self
    }

    /// The most bytes of pages the pager may hold, rounded down to granules; one granule at least.
    ///
    /// Instructions touch several granules at once (a copy two, a gather more): below 32 of them,
    /// 2 MiB, some programs never get on.
    #[must_use]
    pub fn budget_bytes(mut self, bytes: usize) -> Self {
        self.budget_bytes = bytes;
        self
    }

    /// Follows the limit of an account: the budget is then what others leave of it, looked at a
    /// hundred times a second, and never above `budget_bytes`. The account is told what the pager
    /// holds.
    #[must_use]
    pub fn following(mut self, account: AccountRef) -> Self {
        self.account = Some(account);
        self
    }

    /// The most bytes of the spill file, rounded down to 64 MiB. The range's size if not said.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// Where the spill file is made.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Where granules are written, instead of a file in a folder.
    #[must_use]
    pub fn backend(mut self, backend: Box<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// What to do with a folder in RAM.
    #[must_use]
    pub fn ram_disk(mut self, ram_disk: RamDisk) -> Self {
        self.ram_disk = ram_disk;
        self
    }

    /// Whether faults in user mode alone will do; see [`Obstacle::UserModeOnly`].
    #[must_use]
    pub fn user_mode(mut self, user_mode: UserMode) -> Self {
        self.user_mode = user_mode;
        self
    }

    /// Whether the file holds ciphertext only: each granule sealed with AES-256-GCM, under a key
    /// that is drawn for this pager and never leaves the process.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// The most bytes of memory for granules that pack to half or less, rounded down to granules;
    /// 0: nothing is packed, and so with one worker. Never more than an eighth of the budget, which
    /// it is when not said.
    #[must_use]
    pub fn packed_limit_bytes(mut self, bytes: usize) -> Self {
        self.packed_limit_bytes = Some(bytes);
        self
    }

    /// Threads that answer faults, read and write, 1 to 64. The first answers, so of one alone
    /// every touch waits for the reads and writes before it.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.clamp(1, WORKERS_MAX);
        self
    }

    /// Goes by a plan, or learns one: addresses within the range, and never data. Its blocks are
    /// those of the global allocator; a pager that is used directly has none.
    #[must_use]
    pub fn plan(mut self, plan: PlanUse) -> Self {
        self.plan = Some(plan);
        self
    }

    /// Ends the process when it does little but wait for pages.
    #[must_use]
    pub fn fail_fast(mut self, fail_fast: FailFast) -> Self {
        self.fail_fast = Some(fail_fast);
        self
    }

    /// A range of 64 GiB and a budget of 1 GiB, to be changed.
    pub(crate) fn new() -> Self {
        Self {
            range_bytes: 64 << 30,
            budget_bytes: 1 << 30,
            account: None,
            quota_bytes: None,
            folder: None,
            backend: None,
            ram_disk: RamDisk::default(),
            user_mode: UserMode::default(),
            encryption: Encryption::default(),
            packed_limit_bytes: None,
            workers: WORKERS,
            fail_fast: None,
            plan: None,
        }
    }

    /// Makes the pager and starts its threads.
    ///
    /// # Errors
    ///
    /// [`BuildError`]: what the kernel or the disk refuses, or a number too small.
    pub fn build(self) -> Result<Pager, BuildError> {
        at_least("range", self.range_bytes as u64, 1)?;
        at_least("budget", self.budget_bytes as u64, GRANULE_BYTES as u64)?;
        let chunks = self.range_bytes.div_ceil(CHUNK_BYTES);
        let quota = self.quota((chunks * CHUNK_BYTES) as u64)?;
        let shelves_max = self.shelves_max();
        if probe::locks_new_memory()? {
            return Err(BuildError::Locked);
        }
        let uffd = probe::open(self.user_mode)?;
        let door = uffd.door;
        let of_file = self.backend.is_none();
        let backend = match (self.backend, &self.folder) {
            (Some(backend), _) => backend,
            (None, Some(folder)) => Box::new(spill_file(folder, self.ram_disk)?),
            (None, None) => return Err(BuildError::NoFile),
        };
        // One for each chunk, and as much again for pages between two uses.
        let frames = chunks * 2 + 1 + self.workers;
        let segments = segments(quota)?;
        let hash_seed = sys::random_u64();
        // Until somebody looks at what the rest of the process holds.
        let following = self.account.map(|account| Following::new(account, self.budget_bytes));
        let limit = following.as_ref().map_or(usize::MAX, |f| f.account.limit_bytes());
        let budget = self.budget_bytes.min(limit);
        let budget = (budget / GRANULE_BYTES).max(1) as u64;
        let mut core = Core::new(chunks, frames, budget)?;
        if of_file {
            // What is refused is known before anything is evicted.
            backend.reserve(segments[0])?;
            core.slots.segment_reserved();
        }
        let planning = planning(self.plan, &mut core)?;
        core.held = Held::told_to(following.as_ref().map(|following| following.account.clone()));
        let key = match self.encryption {
            Encryption::Off => None,
            Encryption::On => {
                core.seals = Table::new(chunks)?;
                Some(Key::draw()?)
            }
        };
        let engine = Engine {
            core: Lock::new(core),
            space: Space::new(
                uffd,
                chunks,
                frames,
                Shelves::most(chunks * GRANULES),
                self.workers,
            )?,
            backend,
            segments,
            press: Press::new(self.workers)?,
            shelves_max,
            following,
            work: Signal::default(),
            progress: Signal::default(),
            stop: AtomicBool::new(false),
            bell: sys::bell().map_err(|errno| BuildError::Call { call: "eventfd", errno })?,
            lead: Lead::default(),
            crew: Crew::new(),
            key,
            hash_seed,
            fail_fast: self.fail_fast,
            planning,
        };
        Ok(Pager::start(Arc::new(engine), self.workers, door)?)
    }
}

impl Pager {
    /// A pager with a range of 64 GiB and a budget of 1 GiB, to be changed.
    pub fn builder() -> PagerBuilder {
        PagerBuilder::new()
    }
}

impl PagerBuilder {
    /// The most bytes of the spill file, for a range of so many.
    fn quota(&self, range_bytes: u64) -> Result<u64, BuildError> {
        let whole = range_bytes.next_multiple_of(segment_bytes());
        let quota = self.quota_bytes.unwrap_or(whole).min(whole);
        at_least("quota", quota, segment_bytes())?;
        let limit_bytes = file_limit_bytes().filter(|_| self.backend.is_none());
        let quota = quota.min(limit_bytes.unwrap_or(u64::MAX));
        if quota < segment_bytes() {
            return Err(Error::FileLimit { limit_bytes: quota }.into());
        }
        Ok(quota)
    }

    fn shelves_max(&self) -> u64 {
        let packed_limit = self.packed_limit_bytes.unwrap_or(usize::MAX);
        // One worker answers faults, and nobody would clear.
        let packed_limit = if self.workers > 1 { packed_limit } else { 0 };
        (packed_limit / GRANULE_BYTES) as u64
    }
}

/// What is done about a plan, if one is wanted.
fn planning(wanted: Option<PlanUse>, core: &mut Core) -> Result<Option<Planning>, BuildError> {
    let Some(wanted) = wanted else { return Ok(None) };
    match Planning::start(&wanted, core) {
        Ok(planning) => Ok(Some(planning)),
        Err(why) => Err(BuildError::Plan { wanted, why }),
    }
}

/// The extents of a spill file.
fn segments(quota: u64) -> Result<Table<Extent>, BuildError> {
    let mut map = ExtentMap::new(quota);
    let mut segments = Table::<Extent>::new((quota / segment_bytes()) as usize)?;
    for segment in segments.iter_mut() {
        *segment = map.alloc(segment_bytes())?;
    }
    Ok(segments)
}

fn spill_file(folder: &Path, ram_disk: RamDisk) -> Result<SpillFile, BuildError> {
    SpillFile::open(folder, ram_disk).map_err(|why| match why {
        Error::Open { os_error: errno @ (libc::EMFILE | libc::ENFILE), .. } => {
            Obstacle::Descriptors { errno }.into()
        }
        why => why.into(),
    })
}

fn at_least(what: &'static str, bytes: u64, least_bytes: u64) -> Result<(), BuildError> {
    if bytes >= least_bytes {
        Ok(())
    } else {
        Err(BuildError::TooSmall { what, bytes, least_bytes })
    }
}
