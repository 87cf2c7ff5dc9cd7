//! Settings of a store.

use super::Store;
use super::inner::{Encryption, Inner, SpillTier, StoreCounters};
use crate::Error;
use crate::backend::Backend;
use crate::file::RamDisk;
use crate::scratch::{self, Scratch};
use crate::seal::Key;
use crate::space::FileSpace;
use plimsoll_arena::Ledger;
use plimsoll_arena::sync::Stock;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

/// Threads that save and load in the background, unless the builder sets another number.
const IO_THREADS: usize = 2;

/// Settings of a [`Store`].
#[derive(Default)]
pub struct StoreBuilder {
    folder: Option<PathBuf>,
    backend: Option<Arc<dyn Backend>>,
    spill_tier: SpillTier,
    ram_disk: RamDisk,
    quota_bytes: Option<u64>,
    packed_limit_bytes: Option<usize>,
    ledger: Option<Arc<Ledger>>,
    encryption: Encryption,
    io_threads: Option<usize>,
    beside: Option<Arc<Stock<Scratch>>>,
}

impl std::fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Store {
    /// Returns the settings of a store: packed in RAM only, not encrypted.
    #[must_use]
    pub fn builder() -> StoreBuilder {
        StoreBuilder::default()
    }
}

impl StoreBuilder {
    /// Spills to a nameless file in `folder`. Without this, [`StoreBuilder::backend`] and
    /// [`SpillTier::Kernel`] bytes are packed in RAM or not saved.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Spills to `backend` instead of a file.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets how bytes are spilled; [`SpillTier::File`] by default. [`SpillTier::Kernel`] needs no
    /// folder.
    #[must_use]
    pub fn spill_tier(mut self, tier: SpillTier) -> Self {
        self.spill_tier = tier;
        self
    }

    /// Says whether a folder in RAM will do; it is refused by default.
    #[must_use]
    pub fn ram_disk(mut self, ram_disk: RamDisk) -> Self {
        self.ram_disk = ram_disk;
        self
    }

    /// Sets how long the file may become; by default as long as the disk has room.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes packed pieces may take in RAM; no end by default.
    #[must_use]
    pub fn packed_limit_bytes(mut self, bytes: usize) -> Self {
        self.packed_limit_bytes = Some(bytes);
        self
    }

    /// Charges what is packed in RAM to `ledger`.
    #[must_use]
    pub fn ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Sets whether frames are encrypted; off by default.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Sets how many threads save and load in the background; two by default. Each of them has
    /// buffers of its own, and so has one thread that waits for bytes.
    #[must_use]
    pub fn io_threads(mut self, threads: usize) -> Self {
        self.io_threads = Some(threads);
        self
    }

    /// Shares the buffers of `other`, as many as that one was made with, instead of making new
    /// ones: for stores of which few are busy at a time.
    #[must_use]
    pub fn beside(mut self, other: &Store) -> Self {
        self.beside = Some(Arc::clone(&other.inner.scratches));
        self
    }

    /// Opens the store.
    ///
    /// # Errors
    ///
    /// [`Error::Open`], [`Error::RamDisk`] or [`Error::NoMapping`] when the folder will not do;
    /// [`Error::NoSwap`]; [`Error::NoKey`].
    pub fn build(self) -> Result<Store, Error> {
        let (tier, folder, ledger) = (self.spill_tier, self.folder, self.ledger.as_ref());
        let backend = match self.backend {
            Some(backend) => Some(backend),
            None => tier.open(folder.as_deref(), self.ram_disk, ledger)?,
        };
        let sets = self.io_threads.unwrap_or(IO_THREADS).saturating_add(1);
        let inner = Inner {
            backend,
            space: Mutex::new(FileSpace::new(self.quota_bytes.unwrap_or(u64::MAX))),
            key: (self.encryption == Encryption::On).then(Key::draw).transpose()?,
            scratches: self.beside.unwrap_or_else(|| scratch::sets(sets)),
            poison: Mutex::new(None),
            packed_limit_bytes: self.packed_limit_bytes.unwrap_or(usize::MAX),
            packed_bytes: AtomicUsize::new(0),
            ledger: self.ledger,
            owners: AtomicU64::new(0),
            counters: StoreCounters::default(),
        };
        Ok(Store { inner: Arc::new(inner) })
    }
}
