//! What clones of a store share, and the types of its settings: content, tiers, encryption.
//!
//! Must never: hold a lock while bytes are packed, written or read.

use crate::Error;
use crate::backend::{Backend, Kept};
use crate::file::{RamDisk, SpillFile};
use crate::kernel_swap::KernelSwap;
use crate::mapped::MappedFile;
use crate::scratch::Scratch;
use crate::seal::Key;
use crate::space::FileSpace;
use plimsoll_arena::Ledger;
use plimsoll_arena::sync::Stock;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

/// What the caller knows about the bytes to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: samples decide whether packing is tried, of the vector and then of each piece.
    Unknown,
    /// They look random: packing is not tried.
    Uniform,
}

/// Where bytes may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiers {
    /// Packed in RAM, or spilled.
    Any,
    /// Spilled.
    SpilledOnly,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// All of them packed in RAM.
    Packed,
    /// Some or all of them spilled, in the way of the store's [`SpillTier`].
    Spilled,
}

/// How bytes are spilled. Frames, checksums, quota and encryption are the same in every tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpillTier {
    /// To a file without a name, around the page cache where the file system can.
    #[default]
    File,
    /// To such a file, through the page cache, and back through mappings: for file systems without
    /// `O_DIRECT`, and for persistent memory. An error of the disk while bytes are read ends the
    /// process by SIGBUS.
    Mapped,
    /// To memory that is advised out to the kernel's swap, which the operator has set up: no file
    /// and no folder. What zram takes for it is counted by the ledger's account.
    Kernel,
}

impl SpillTier {
    /// All tiers.
    pub const ALL: [Self; 3] = [Self::File, Self::Mapped, Self::Kernel];

    /// Its word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Mapped => "mapped",
            Self::Kernel => "kernel",
        }
    }

    /// Says what has the bytes of [`SpillTier::Kernel`] here, by a trial.
    ///
    /// # Errors
    ///
    /// [`Error::NoSwap`], with the reason.
    pub fn kernel_trial() -> Result<Kept, Error> {
        KernelSwap::trial()
    }

    /// Opens what bytes are spilled to; nothing where a folder is needed and none was named.
    pub(super) fn open(
        self,
        folder: Option<&Path>,
        ram_disk: RamDisk,
        ledger: Option<&Arc<Ledger>>,
    ) -> Result<Option<Arc<dyn Backend>>, Error> {
        let account = ledger.map(|ledger| ledger.account_ref().clone());
        let opened: Arc<dyn Backend> = match (self, folder) {
            (Self::Kernel, _) => Arc::new(KernelSwap::open(account)?),
            (_, None) => return Ok(None),
            (Self::File, Some(folder)) => Arc::new(SpillFile::open(folder, ram_disk)?),
            (Self::Mapped, Some(folder)) => Arc::new(MappedFile::open(folder, ram_disk)?),
        };
        Ok(Some(opened))
    }
}

/// Whether the file holds ciphertext only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Frames are written as they are. The file has no name and mode 0600.
    #[default]
    Off,
    /// Frames are sealed with a key that is drawn for this store and never leaves it.
    On,
}

#[derive(Default)]
pub(super) struct StoreCounters {
    pub(super) packed_raw: AtomicU64,
    pub(super) packed_saves: AtomicU64,
    pub(super) file_saves: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) struct Inner {
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) space: Mutex<FileSpace>,
    pub(super) key: Option<Key>,
    pub(super) scratches: Arc<Stock<Scratch>>,
    pub(super) poison: Mutex<Option<Error>>,
    pub(super) packed_limit_bytes: usize,
    pub(super) packed_bytes: AtomicUsize,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) owners: AtomicU64,
    pub(super) counters: StoreCounters,
}
