//! What the ladder sees of a vector: the leaf that the list of vectors and each of them share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

/// What the policy looks at; no lock is needed for it.
#[derive(Debug)]
pub(super) struct Signs {
    pub(super) id: u64,
    pub(super) raw_bytes: usize,
    /// Bytes in memory: all or none.
    pub(super) resident_bytes: AtomicUsize,
    /// The clock at the last use.
    pub(super) used: AtomicU64,
    /// The logical time of the next use; `u64::MAX` when nobody said.
    pub(super) next_use: AtomicU64,
    pub(super) uniform: AtomicBool,
    /// Read ahead, and not used since.
    pub(super) ahead: AtomicBool,
}

/// What the ladder can ask of any vector, whatever its elements.
pub(super) trait Evict: Send + Sync {
    fn signs(&self) -> &Signs;
    /// Makes the vector leave memory if nobody has it pinned; returns the bytes freed, those that a
    /// new copy takes in memory taken off.
    fn evict(&self) -> usize;
    /// Moves a packed copy to the file if the vector is away; returns the bytes freed.
    fn demote(&self) -> usize;
}
