//! The global allocator: with one line, the large vectors of a program keep their pages, and leave
//! memory when a limit requires it.
//!
//! ```text
//!   #[global_allocator] static ALLOC: plimsoll::Allocator
//!        >= 64 KiB  blocks in one range, pages reused
//!             limit           cached pages are given back when it is reached
//!             limit, folder   blocks leave memory when it is reached: the pager
//!        <  64 KiB  the system's allocator, or any other as `Allocator<A>`
//! ```
//!
//! ```
//! #[global_allocator]
//! static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();
//!
//! let column = vec![1u64; 4 << 20];
//! assert!(ALLOC.stats().live_bytes >= 32 << 20);
//! # drop(column);
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `PLIMSOLL_LIMIT` | what the process may hold: `8GiB`, `75%`, `auto`; none without it |
//! | `PLIMSOLL_SPILL_DIR` | a folder on a disk: with it, what does not fit is paged |
//! | `PLIMSOLL_SPILL_QUOTA` | the most that may take there: `100GiB`; at the end the process ends |
//! | `PLIMSOLL_PACKED_LIMIT` | the most memory for what packs: `256MiB`, `0` for none |
//! | `PLIMSOLL_ENCRYPT_SPILL` | not `0`: that file holds ciphertext only |
//! | `PLIMSOLL_FAIL_FAST` | not `0`: end the process when it does little but wait for pages |
//!
//! The allocator reads them at the first large allocation, without allocating. The process has one
//! limit. [`Allocator::set_limit`] and a [`crate::Runtime`] set the same one from code, the last
//! writer wins, and the pager follows it. Whether there is a pager depends on the limit at the
//! moment of the first large allocation. If a value cannot be understood, or the pager cannot run,
//! one line on standard error says so and nothing changes.
//!
//! The pager writes to a file without a name, mode 0600. Set `PLIMSOLL_ENCRYPT_SPILL` where the
//! witness must never reach a disk in the clear; the pager then encrypts with a key of this
//! process. (For spillable vectors: [`crate::spill::SpillOptions::encryption`].)
//!
//! The policy and the costs: [docs/allocator.md] and [docs/pager.md]. Must never: change what a
//! program does, apart from its memory and its time.
//!
//! [docs/allocator.md]: https://github.com/plimsoll-zk/plimsoll/blob/main/docs/allocator.md
//! [docs/pager.md]: https://github.com/plimsoll-zk/plimsoll/blob/main/docs/pager.md

use crate::reclaim::{Climb, Held, Moment, Rung};
use plimsoll_arena::global::Global;
pub use plimsoll_arena::global::{GlobalStats, Hooked, InnerPurge};
pub use plimsoll_arena::process::LIMIT_VARIABLE;
use plimsoll_arena::process::{AccountRef, Owner};
pub use plimsoll_swap::pager::{Paged, PagerStats, cold, will_need};
use std::alloc::System;

/// An allocator for `#[global_allocator]`. The inner allocator `A` serves requests below 64 KiB.
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
/// # use std::alloc::System as Other;
///
/// fn give_back() { /* mi_collect(true), mallctl("arena.4096.purge"), ... */ }
///
/// #[global_allocator]
/// static ALLOC: Allocator<Hooked<Other>> = Allocator::over(Hooked::new(Other, give_back));
/// ```
pub type Allocator<A = System> = Global<A, Paged>;

/// The pager under the global allocator, where there is one, on the reclaim ladder: it evicts.
pub(crate) struct PagedBlocks(pub(crate) AccountRef);

impl Rung for PagedBlocks {
    fn name(&self) -> &'static str {
        "paged blocks"
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        vec![Held::new("paged blocks in memory", self.0.held_bytes(Owner::Pager))]
    }

    fn reclaim(&self, target_bytes: usize, _climb: &Climb) -> usize {
        plimsoll_swap::pager::process().map_or(0, |pager| pager.reclaim(target_bytes))
    }
}
