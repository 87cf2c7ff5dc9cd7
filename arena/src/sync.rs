//! Atomics of the standard library, or loom's under `--cfg loom`, so that the free list, the
//! ledger and the allocator's lock are model-checked as they are.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
