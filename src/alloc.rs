//! The allocator a program puts under itself: one line, and its large vectors keep their pages.
//!
//! ```text
//!   #[global_allocator] static ALLOC: plimsoll::Allocator
//!        >= 64 KiB  blocks in one range, pages reused; under a limit given back, never refused
//!        <  64 KiB  the system's allocator, or any other as `Allocator<A>`
//! ```
//!
//! [`Allocator`] joins the arena's global allocator with the source of its pages. The limit is
//! `PLIMSOLL_LIMIT` in the environment (`8GiB`, `75%`), read at the first large allocation without
//! allocating, or [`Allocator::set_limit`]; a value that is not understood is reported once and
//! changes nothing.
//!
//! Invariants, the policy and what it costs: `docs/allocator.md`. Must never: make a program
//! behave otherwise than it does without it, but for its memory and its time.

use std::alloc::System;

pub use plimsoll_arena::global::{GlobalStats, Hooked, InnerPurge, LIMIT_VARIABLE};
use plimsoll_arena::{PlainPages, global::Global};

/// An allocator for `#[global_allocator]`; `A` serves what is below 64 KiB.
///
/// ```
/// #[global_allocator]
/// static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();
///
/// let column = vec![1u64; 4 << 20];
/// drop(column);
/// let column = vec![2u64; 4 << 20]; // the same pages: no page fault
/// assert!(ALLOC.stats().reused_bytes >= 32 << 20);
/// # drop(column);
/// ```
///
/// With another allocator below, and the function that makes it give its cached memory back:
///
/// ```
/// use plimsoll::alloc::Hooked;
/// use plimsoll::Allocator;
/// use plimsoll_arena::PlainPages;
/// # use std::alloc::System as Other;
///
/// fn give_back() { /* mi_collect(true), mallctl("arena.4096.purge"), ... */ }
///
/// #[global_allocator]
/// static ALLOC: Allocator<Hooked<Other>> =
///     Allocator::new(Hooked::new(Other, give_back), PlainPages);
/// ```
pub type Allocator<A = System> = Global<A, PlainPages>;
