//! Where cold vectors may go, and how much of them.

use crate::error::Error;
use plimsoll_arena::Ledger;
use plimsoll_swap::backend::Backend;
use plimsoll_swap::file::RamDisk;
use plimsoll_swap::store::{Encryption, SpillTier, Store};
use std::path::PathBuf;
use std::sync::Arc;

/// I/O threads by default: one reads while one writes.
pub(super) const IO_THREADS: usize = 2;

/// Settings of the spill tier of a [`Runtime`](crate::Runtime).
#[derive(Clone)]
pub struct SpillOptions {
    backend: Option<Arc<dyn Backend>>,
    folder: Option<PathBuf>,
    tier: SpillTier,
    quota_bytes: u64,
    packed_limit_bytes: usize,
    encryption: Encryption,
    ram_disk: RamDisk,
    io_threads: usize,
}

impl std::fmt::Debug for SpillOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpillOptions")
            .field("folder", &self.folder)
            .field("tier", &self.tier)
            .field("quota_bytes", &self.quota_bytes)
            .field("packed_limit_bytes", &self.packed_limit_bytes)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

impl SpillOptions {
    /// Spills to a nameless file in `folder`, which must be on a disk; vectors that pack well stay
    /// in RAM, packed.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()), ..Self::packed_only() }
    }

    /// Packs vectors in RAM, and writes nothing to any file.
    #[must_use]
    pub fn packed_only() -> Self {
        Self {
            backend: None,
            folder: None,
            tier: SpillTier::File,
            quota_bytes: u64::MAX,
            packed_limit_bytes: usize::MAX,
            encryption: Encryption::Off,
            ram_disk: RamDisk::Refuse,
            io_threads: IO_THREADS,
        }
    }

    /// Spills to `backend` instead of a file.
    #[must_use]
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets how vectors are spilled; [`SpillTier::File`] by default. [`SpillTier::Kernel`] needs no
    /// folder, and makes no file: `SpillOptions::packed_only().tier(SpillTier::Kernel)`.
    #[must_use]
    pub fn tier(mut self, tier: SpillTier) -> Self {
        self.tier = tier;
        self
    }

    /// Sets how many bytes of the disk may be used at once; all that is free by default.
    #[must_use]
    pub fn quota_bytes(mut self, bytes: u64) -> Self {
        self.quota_bytes = bytes;
        self
    }

    /// Sets how many bytes packed vectors may take in RAM. The default is what the limit leaves.
    #[must_use]
    pub fn packed_limit_bytes(mut self, bytes: usize) -> Self {
        self.packed_limit_bytes = bytes;
        self
    }

    /// Encrypts what goes to the file, with a key that only this process has.
    #[must_use]
    pub fn encryption(mut self, encryption: Encryption) -> Self {
        self.encryption = encryption;
        self
    }

    /// Sets whether a folder in RAM (tmpfs) is acceptable.
    #[must_use]
    pub fn ram_disk(mut self, ram_disk: RamDisk) -> Self {
        self.ram_disk = ram_disk;
        self
    }

    /// Sets how many threads read ahead and write back; at least one.
    #[must_use]
    pub fn io_threads(mut self, threads: usize) -> Self {
        self.io_threads = threads.max(1);
        self
    }

    /// Returns the settings of a part of the runtime, which may use the same part of the disk.
    pub(crate) fn part(&self, bytes: usize, of_bytes: usize) -> Self {
        let whole = self.quota_bytes;
        let part = u128::from(whole) * bytes as u128 / of_bytes.max(bytes).max(1) as u128;
        let quota_bytes = if whole == u64::MAX { whole } else { part as u64 };
        Self { quota_bytes, ..self.clone() }
    }

    pub(crate) fn threads(&self) -> usize {
        self.io_threads
    }

    /// Opens the store; with the buffers of `beside`, if there is one.
    pub(crate) fn open(
        &self,
        ledger: &Arc<Ledger>,
        beside: Option<&Store>,
    ) -> Result<Store, Error> {
        let mut builder = Store::builder()
            .ledger(Arc::clone(ledger))
            .quota_bytes(self.quota_bytes)
            .packed_limit_bytes(self.packed_limit_bytes)
            .encryption(self.encryption)
            .io_threads(self.io_threads)
            .spill_tier(self.tier)
            .ram_disk(self.ram_disk);
        if let Some(other) = beside {
            builder = builder.beside(other);
        }
        if let Some(backend) = &self.backend {
            builder = builder.backend(Arc::clone(backend));
        }
        if let Some(folder) = &self.folder {
            builder = builder.folder(folder);
        }
        Ok(builder.build()?)
    }
}
