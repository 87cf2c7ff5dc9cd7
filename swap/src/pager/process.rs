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
//! Growth is what foreign gained since a look 2 ms ago or more, and may gain before the next.
//!
//! Threads look whenever they please, and one may be overtaken between reading and writing: a look
//! has a number, and what an older one says is not written over what a younger one said.
//!
//! Invariant: following the limit changes the budget and nothing else; reclaiming is the caller's.
//!
//! Must never: allocate. The file stays open and is read into the stack.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use plimsoll_arena::os::{Linux, Os};

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
    /// What the kernel counts in.
    page_bytes: usize,
    limit_bytes: AtomicUsize,
    budget_bytes_max: usize,
    /// When somebody last looked because time had come.
    looked_ns: AtomicU64,
    /// The number of the next look.
    looks: AtomicU64,
}

/// What looks at the limit have left behind, under the lock.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// The number of the youngest look.
    number: u64,
    /// What was foreign at a look, and when that was.
    foreign_bytes: Option<usize>,
    foreign_ns: u64,
}

impl Looked {
    /// What foreign bytes gained since a look `LOOK_NS` ago or more.
    fn growth(&mut self, foreign_bytes: usize, now_ns: u64) -> usize {
        let before = self.foreign_bytes.unwrap_or(foreign_bytes);
        if self.foreign_bytes.is_none() || now_ns >= self.foreign_ns + LOOK_NS {
            (self.foreign_bytes, self.foreign_ns) = (Some(foreign_bytes), now_ns);
        }
        foreign_bytes.saturating_sub(before)
    }
}

impl ProcessLimit {
    pub(crate) fn new(limit_bytes: usize, budget_bytes_max: usize) -> Result<Self, i32> {
        Ok(Self {
            statm: sys::open_for_reading(c"/proc/self/statm")?,
            page_bytes: Linux.page_bytes(),
            limit_bytes: AtomicUsize::new(limit_bytes),
            budget_bytes_max,
            looked_ns: AtomicU64::new(0),
            looks: AtomicU64::new(1),
        })
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Sets the limit and returns the old one. Who looks at it next goes by it.
    pub(crate) fn set_limit_bytes(&self, bytes: usize) -> usize {
        // Relaxed: a number that stands for nothing but itself; the lock orders budgets.
        self.limit_bytes.swap(bytes, Ordering::Relaxed)
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
        pages.checked_mul(self.page_bytes)
    }
}

impl Engine {
    /// Follows the limit if that was last done some milliseconds ago, and gives back what is over.
    /// A worker's.
    pub(crate) fn follow_limit_closely(&self, worker: usize) {
        let Some(process) = &self.process else { return };
        let (now, looked) = (sys::now_ns(), process.looked_ns.load(Ordering::Relaxed));
        if now < looked + LOOK_NS {
            return;
        }
        // Relaxed: two threads that look at once do no harm.
        process.looked_ns.store(now, Ordering::Relaxed);
        if self.follow_limit() > 0 {
            self.keep_to_budget(Some(worker));
        }
    }

    /// Sets the budget by the process limit, if there is one. Returns how many granules more are
    /// held than it allows.
    pub(crate) fn follow_limit(&self) -> u64 {
        let Some(process) = &self.process else { return 0 };
        let there = |core: &Core| core.held - core.unborn;
        // Relaxed: the lock orders what is looked at.
        let number = process.looks.fetch_add(1, Ordering::Relaxed);
        let before = there(&self.core.lock());
        let Some(resident) = process.resident_bytes() else { return 0 };
        let mut core = self.core.lock();
        if number < core.looked.number {
            return core.held.saturating_sub(core.budget);
        }
        core.looked.number = number;
        // Pages that came or went between the two looks are not taken for the pager's.
        let held = there(&core).min(before) as usize * GRANULE_BYTES;
        let foreign = resident.saturating_sub(held);
        let limit = process.limit_bytes();
        let margin = (limit / 16).min(MARGIN_BYTES) + limit / 256;
        let growth = core.looked.growth(foreign, sys::now_ns()).min(MARGIN_BYTES);
        let room = limit.saturating_sub(foreign + growth + margin);
        let bytes = room.min(process.budget_bytes_max).max(CHUNK_BYTES);
        core.budget = (bytes / GRANULE_BYTES) as u64;
        core.held.saturating_sub(core.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_pages_are_those_that_the_kernel_says_in_kilobytes() {
        let process = ProcessLimit::new(1 << 30, 1 << 30).expect("statm");
        let both = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("status");
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
            let said = line.split_whitespace().next().and_then(|word| word.parse::<usize>().ok());
            (said.expect("a number") << 10, process.resident_bytes().expect("pages"))
        };
        // Other tests run beside this one; a wrong page size is wrong by four at least, each time.
        let agree = (0..10).map(|_| both()).any(|(said, ours)| ours > said / 2 && ours < said * 2);
        assert!(agree, "{:?}", both());
    }

    #[test]
    fn growth_is_over_some_time_however_often_threads_look() {
        let mut looked = Looked::default();
        assert_eq!(looked.growth(100, 0), 0);
        // Three threads in a row: none takes the others' growth away.
        assert_eq!(looked.growth(130, 1000), 30);
        assert_eq!(looked.growth(160, 2000), 60);
        assert_eq!(looked.growth(150, LOOK_NS), 50);
        assert_eq!(looked.growth(140, LOOK_NS + 1), 0);
        assert_eq!(looked.growth(155, LOOK_NS + 2), 5);
    }
}
