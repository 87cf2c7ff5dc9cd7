//! What the global allocator remembers beside its heaps. `start` and `policy` act on it.
//!
//! Every value here is made at compile time, because the allocator is a static.

use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

pub(super) const NEW: u32 = 0;
pub(super) const STARTING: u32 = 1;
pub(super) const READY: u32 = 2;
pub(super) const OFF: u32 = 3;

/// How far the first use has come; see `start`.
pub(super) struct Start {
    pub(super) state: AtomicU32,
    pub(super) cookie: AtomicPtr<AtomicU32>,
    pub(super) reserve_bytes: usize,
}

impl Start {
    /// `reserve_bytes` of zero means that the machine's memory decides.
    pub(super) const fn new(reserve_bytes: usize) -> Self {
        Self {
            state: AtomicU32::new(NEW),
            cookie: AtomicPtr::new(std::ptr::null_mut()),
            reserve_bytes,
        }
    }
}

/// What the policy remembers. All of it is zero at first; see `policy`.
pub(super) struct Policy {
    pub(super) live_peak: AtomicUsize,
    /// What the account was last told: `held`, and how much of that is assumed to be resident.
    pub(super) told_held: AtomicUsize,
    pub(super) told_there: AtomicUsize,
    /// `held` at the last look.
    pub(super) held_then: AtomicUsize,
    /// Foreign resident bytes after the inner allocator was last asked to give back.
    pub(super) foreign_after_purge: AtomicUsize,
    /// Bytes of small blocks that were freed since then, beyond those that were asked for.
    pub(super) small_freed: AtomicUsize,
    pub(super) limit_hits: AtomicU64,
    pub(super) purged_bytes: AtomicU64,
}

impl Policy {
    pub(super) const fn new() -> Self {
        Self {
            live_peak: AtomicUsize::new(0),
            told_held: AtomicUsize::new(0),
            told_there: AtomicUsize::new(0),
            held_then: AtomicUsize::new(0),
            foreign_after_purge: AtomicUsize::new(0),
            small_freed: AtomicUsize::new(0),
            limit_hits: AtomicU64::new(0),
            purged_bytes: AtomicU64::new(0),
        }
    }
}
