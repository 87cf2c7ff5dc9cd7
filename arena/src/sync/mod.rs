//! What locks and lock-free parts are made of, for this crate and for the pager of the next one.
//!
//! ```text
//!   free list, ledger, watermark --> atomics: the standard library's, or loom's
//!   heaps, pager ---> Lock, Signal ---> futex: the kernel's, or a model of it
//! ```
//!
//! [`Lock`] and [`Signal`] may be used inside `malloc`, and while a page fault is being served:
//! they neither allocate, format nor poison. Where a mutex of `std` will do, [`unpoisoned`] goes on
//! past a panic of an earlier holder, and [`Stock`] lends out what there are few of.
//!
//! Under `--cfg loom` the atomics are loom's and the futex is `futex_model`, so that what is built
//! on them is model-checked as it is: `scripts/ci.sh loom`. Loom's atomics cannot be made in a
//! constant; the allocator, which lives in a `static`, is therefore not built then.
//!
//! Invariant: nothing here depends on another room of the project.

#[cfg(not(loom))]
mod futex;
#[cfg(loom)]
mod futex_model;
mod lock;
#[cfg(all(test, loom))]
mod loom_tests;
mod signal;
mod stock;

#[cfg(loom)]
use futex_model as futex;
pub use lock::{Guard, Lock, NoHook, OnPanic};
pub use signal::Signal;
pub use stock::{Borrowed, Stock};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use std::sync::{LockResult, PoisonError};

/// What a lock or a wait of `std` gives, whether or not an earlier holder has panicked: for values
/// that are whole wherever a panic can come.
pub fn unpoisoned<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

/// A `const fn`, but under loom, whose atomics are made while it runs.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => {
        #[cfg(not(loom))]
        $(#[$meta])* $vis const fn $($rest)*
        #[cfg(loom)]
        $(#[$meta])* $vis fn $($rest)*
    };
}
pub(crate) use const_fn;
