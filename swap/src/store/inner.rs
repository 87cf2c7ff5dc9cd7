//! What clones of a store share, and the types of its settings: content, tiers, encryption.
//!
//! Must never: hold a lock while bytes are packed, written or read.

use crate::Error;
use crate::backend::Backend;
use crate::scratch::Scratches;
use crate::seal::Key;
use crate::space::Space;
use plimsoll_arena::Ledger;
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
    /// Packed in RAM, or to the file.
    Any,
    /// To the file.
    FileOnly,
}

/// Where bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// All of them packed in RAM.
    Packed,
    /// Some or all of them in the file.
    File,
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
pub(super) struct Counters {
    pub(super) packed_raw: AtomicU64,
    pub(super) packed_saves: AtomicU64,
    pub(super) file_saves: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) read: AtomicU64,
    pub(super) failed: AtomicU64,
}

pub(super) struct Inner {
    pub(super) backend: Option<Arc<dyn Backend>>,
    pub(super) space: Mutex<Space>,
    pub(super) key: Option<Key>,
    pub(super) scratches: Scratches,
    pub(super) poison: Mutex<Option<Error>>,
    pub(super) packed_limit_bytes: usize,
    pub(super) packed_bytes: AtomicUsize,
    pub(super) ledger: Option<Arc<Ledger>>,
    pub(super) owners: AtomicU64,
    pub(super) counters: Counters,
}
