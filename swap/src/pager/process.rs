//! A limit for the whole process: what the rest of it leaves is the pager's budget.
//!
//! ```text
//!   resident bytes of the process (/proc/self/statm) - held by the pager = foreign
//!   budget = min(the most there may be, limit - foreign - growth - margin), at least 2 MiB
//! ```
//!
//! The kernel's count lags behind by some pages a processor since Linux 6.2; the pager's own does
//! not, so only what is foreign is uncertain.
//!
//! What is charged and not resident yet is not taken for held: it would be missed in what is
//! foreign, and the process would be over the limit when it comes.
//!
//! Growth is what foreign gained since the last look, and may gain before the next.
//!
//! Invariant: following the limit changes the budget and nothing else; reclaiming is the caller's.
//!
//! Must never: allocate. The file stays open and is read into the stack.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::core::Core;
use super::engine::Engine;
use super::space::{CHUNK_BYTES, GRANULE_BYTES};
use super::sys;

/// What may come between two looks: stacks, and small blocks of many threads. With it goes a 256th
/// of the limit.
const MARGIN_BYTES: usize = 8 << 20;

/// Time between two looks while pages come and go: 2 ms, of which a look takes 2 us.
const LOOK_NS: u64 = 2_000_000;

/// The limit, and where the kernel says what is resident.
#[derive(Debug)]
pub(crate) struct ProcessLimit {
    statm: OwnedFd,
    limit_bytes: usize,
    budget_bytes_max: usize,
    looked_ns: AtomicU64,
    /// Foreign bytes at the last look.
    foreign_bytes: AtomicUsize,
}

impl ProcessLimit {
    pub(crate) fn new(limit_bytes: usize, budget_bytes_max: usize) -> Result<Self, i32> {
        Ok(Self {
            statm: sys::open_for_reading(c"/proc/self/statm")?,
            limit_bytes,
            budget_bytes_max,
            looked_ns: AtomicU64::new(0),
            foreign_bytes: AtomicUsize::new(usize::MAX),
        })
    }

    /// Resident bytes of the process; `None` if the kernel will not say.
    fn resident_bytes(&self) -> Option<usize> {
        let mut text = [0u8; 128];
        let read = sys::read_at_start(self.statm.as_raw_fd(), &mut text)?;
        let mut numbers = text.get(..read)?.split(|byte| *byte == b' ');
        let pages = numbers.nth(1)?.iter().try_fold(0usize, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
            sum.checked_mul(10)?.checked_add(usize::from(digit))
        })?;
        pages.checked_mul(4096)
    }
}

impl Engine {
    /// Follows the limit if that was last done some milliseconds ago, and gives back what is over.
    pub(crate) fn follow_limit_closely(&self) {
        let Some(process) = &self.process else { return };
        let (now, looked) = (sys::now_ns(), process.looked_ns.load(Ordering::Relaxed));
        if now < looked + LOOK_NS {
            return;
        }
        // Relaxed: two threads that look at once do no harm.
        process.looked_ns.store(now, Ordering::Relaxed);
        let over = self.follow_limit();
        if over > 0 {
            self.reclaim(over);
        }
    }

    /// Sets the budget by the process limit, if there is one. Returns how many granules more are
    /// held than it allows.
    pub(crate) fn follow_limit(&self) -> u64 {
        let Some(process) = &self.process else { return 0 };
        let there = |core: &Core| core.held - core.unborn;
        let before = there(&self.core.lock());
        let Some(resident) = process.resident_bytes() else { return 0 };
        let mut core = self.core.lock();
        // Pages that came or went between the two looks are not taken for the pager's.
        let held = there(&core).min(before) as usize * GRANULE_BYTES;
        let foreign = resident.saturating_sub(held);
        let limit = process.limit_bytes;
        let margin = (limit / 16).min(MARGIN_BYTES) + limit / 256;
        // Relaxed: a guess, which two threads that look at once may both make.
        let before = process.foreign_bytes.swap(foreign, Ordering::Relaxed);
        let growth = foreign.saturating_sub(before).min(MARGIN_BYTES);
        let room = limit.saturating_sub(foreign + growth + margin);
        let bytes = room.min(process.budget_bytes_max).max(CHUNK_BYTES);
        core.budget = (bytes / GRANULE_BYTES) as u64;
        core.held.saturating_sub(core.budget)
    }
}
