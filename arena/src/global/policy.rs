//! When freed pages stay and when they go: the ceiling and the limit.
//!
//! ```text
//!   bytes
//!     |            ____ceiling = most ever live (+ 1/64)___________
//!     |      __   |  held: grows only by fresh pages
//!     |     /  \__|_/\     /\       a fresh page that would lift held over the ceiling
//!     |  __/          \___/  \__    sends cached ones home first
//!     | /      live
//!     +------------------------------------------------------------> calls
//! ```
//!
//! **The ceiling.** A freed block keeps its pages, since pages are money; but a process that keeps
//! them and takes fresh ones for a block that fits none of them has a higher peak than one that
//! keeps nothing. So cached pages may only fill the room up to the highest `live` so far: whoever
//! needs fresh pages beyond it pays with as many cached ones. Below its peak a program keeps every
//! page; at a new peak it keeps none that it cannot use. No clock, no share to tune: the same
//! calls give the same actions.
//!
//! **The limit.** Over the limit, cached pages go first, then the inner allocator is asked, then
//! the page source. Nothing is ever refused. What is not ours is seen through the kernel's count
//! of resident pages, sampled when fresh pages of a 64th of the limit have come, and when small
//! blocks of a thread have grown by 256 KiB. Small blocks that are freed leave pages with the inner
//! allocator, which may keep them for good; above half of the limit it is asked for them once they
//! come to a 16th of it, so that they are the page source's instead.
//!
//! Invariants, between calls, with one thread:
//!
//! * `ceiling = most ever live + max(1/64 of it, 1 MiB)`;
//! * `held <= max(ceiling, most ever live + shared)`: huge pages that are partly live cannot go;
//! * over the limit, `cached = 0`.
//!
//! Source for `/proc/self/statm`: proc_pid_statm(5).

use super::inner::InnerPurge;
use super::{Global, PageSource};
use crate::os::{Errno, page_bytes};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// Cached pages may exceed the ceiling by this share of it: a purge then pays for many blocks.
const SLACK_DIVISOR: usize = 64;

/// And by this many bytes, so that a small process is not purged at every block.
const SLACK_BYTES_MIN: usize = 1 << 20;

/// The kernel is asked for the resident bytes when this share of the limit has come fresh.
const SAMPLE_DIVISOR: usize = 64;

/// A thread whose small blocks grew by so many bytes looks at the limit before it goes on. It costs
/// two reads of a file in `/proc`; touching so much fresh memory costs more.
const SMALL_STEP_BYTES: usize = 256 << 10;

/// The inner allocator is asked to give back when small blocks of this share of the limit have been
/// freed, and the process holds half of its limit: who frees much at once is soon below it, and a
/// pager takes what becomes free only later.
const FREED_DIVISOR: usize = 16;

/// Small blocks of a thread, in bytes, of whichever allocator: a program has one.
#[derive(Clone, Copy)]
struct Small {
    /// Asked for and not given back, since the thread last looked at the limit.
    grown: usize,
    /// Given back and not asked for, since it last told how much.
    freed: usize,
}

thread_local! {
    /// Without a destructor, so it is there until the thread is gone.
    static SMALL: Cell<Small> = const { Cell::new(Small { grown: 0, freed: 0 }) };
}

/// State of the policy; all zeroes but the limit.
pub(super) struct Policy {
    pub(super) live_peak: AtomicUsize,
    pub(super) limit: AtomicUsize,
    /// Resident bytes of the process at the last sample, and `held` then.
    resident: AtomicUsize,
    held_then: AtomicUsize,
    /// Resident bytes that were not ours after the inner allocator was last asked.
    foreign_after_purge: AtomicUsize,
    /// Bytes of small blocks freed, more than asked for, since it was last asked.
    small_freed: AtomicUsize,
    pub(super) limit_hits: AtomicU64,
    pub(super) purged_bytes: AtomicU64,
}

impl Policy {
    pub(super) const fn new() -> Self {
        Self {
            live_peak: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            resident: AtomicUsize::new(0),
            held_then: AtomicUsize::new(0),
            foreign_after_purge: AtomicUsize::new(0),
            small_freed: AtomicUsize::new(0),
            limit_hits: AtomicU64::new(0),
            purged_bytes: AtomicU64::new(0),
        }
    }
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    pub(super) fn live(&self) -> usize {
        self.small.live_bytes() + self.huge.live_bytes()
    }

    pub(super) fn held(&self) -> usize {
        self.small.held_bytes() + self.huge.held_bytes()
    }

    pub(super) fn cached(&self) -> usize {
        self.small.cached_bytes() + self.huge.cached_bytes()
    }

    /// After a block was handed out with `fresh_bytes` of pages that may not be resident yet:
    /// keeps the ceiling and the limit.
    #[inline]
    pub(super) fn settle(&self, fresh_bytes: usize) {
        let live = self.live();
        let peak = self.policy.live_peak.load(Relaxed);
        if live > peak {
            self.policy.live_peak.fetch_max(live, Relaxed);
        }
        if fresh_bytes > 0 {
            self.settle_fresh(live.max(peak), fresh_bytes);
        }
    }

    fn settle_fresh(&self, peak: usize, fresh_bytes: usize) {
        let ceiling = peak + (peak / SLACK_DIVISOR).max(SLACK_BYTES_MIN);
        let over = self.held().saturating_sub(ceiling);
        if over > 0 && self.cached() > 0 {
            self.purge(over);
        }
        if self.policy.limit.load(Relaxed) != usize::MAX {
            self.keep_limit(fresh_bytes);
        }
    }

    /// After a block came home: over the limit its pages go at once.
    #[inline]
    pub(super) fn settle_freed(&self) {
        let limit = self.policy.limit.load(Relaxed);
        if limit != usize::MAX {
            let over = self.counted().saturating_sub(limit);
            if over > 0 {
                self.purge(over);
            }
        }
    }

    /// Resident bytes of the process: the last sample, and what was held more since.
    fn counted(&self) -> usize {
        let since = self.held().wrapping_sub(self.policy.held_then.load(Relaxed));
        self.policy.resident.load(Relaxed).wrapping_add(since).min(isize::MAX as usize)
    }

    /// Asks the kernel; `fresh_bytes` were handed out and are not touched yet.
    fn sample(&self, fresh_bytes: usize) {
        if let Some(resident) = resident_bytes() {
            self.policy.resident.store(resident, Relaxed);
            self.policy.held_then.store(self.held().saturating_sub(fresh_bytes), Relaxed);
        }
    }

    fn keep_limit(&self, fresh_bytes: usize) {
        let limit = self.policy.limit.load(Relaxed);
        let since = self.held().abs_diff(self.policy.held_then.load(Relaxed));
        if since >= limit / SAMPLE_DIVISOR || self.counted() > limit {
            self.enforce_limit_for(limit, fresh_bytes);
        }
    }

    /// Before the inner allocator hands out a block: the kernel alone knows what it keeps, and
    /// under a limit somebody has to ask.
    #[inline]
    pub(super) fn small_grows(&self, bytes: usize) {
        if self.policy.limit.load(Relaxed) == usize::MAX {
            return;
        }
        let small = SMALL.get();
        let (grown, freed) = (small.grown.saturating_add(bytes), small.freed.saturating_sub(bytes));
        if grown < SMALL_STEP_BYTES {
            return SMALL.set(Small { grown, freed });
        }
        SMALL.set(Small { grown: 0, freed });
        let less = |freed: usize| Some(freed.saturating_sub(grown));
        let _ = self.policy.small_freed.fetch_update(Relaxed, Relaxed, less);
        self.look_for_small();
    }

    /// The inner allocator gets a block back.
    #[inline]
    pub(super) fn small_shrinks(&self, bytes: usize) {
        if self.policy.limit.load(Relaxed) == usize::MAX {
            return;
        }
        let small = SMALL.get();
        let (grown, freed) = (small.grown.saturating_sub(bytes), small.freed.saturating_add(bytes));
        if freed < SMALL_STEP_BYTES {
            return SMALL.set(Small { grown, freed });
        }
        SMALL.set(Small { grown, freed: 0 });
        self.take_back_small(freed);
    }

    /// Small blocks came home: the inner allocator is asked for their pages when it may keep many,
    /// and the process is not far from its limit.
    #[cold]
    fn take_back_small(&self, bytes: usize) {
        let limit = self.policy.limit.load(Relaxed);
        let share = limit / FREED_DIVISOR;
        let freed = self.policy.small_freed.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if freed < share || !self.is_started() {
            return;
        }
        let errno = Errno::save();
        self.sample(0);
        // Of threads that come here at once, one asks.
        let near = self.counted() >= limit / 2;
        if near && self.policy.small_freed.swap(0, Relaxed) >= share {
            self.inner.purge();
            self.sample(0);
        }
        errno.restore();
    }

    #[cold]
    fn look_for_small(&self) {
        if !self.is_started() {
            return;
        }
        let errno = Errno::save();
        self.enforce_limit();
        self.pages.others_grew();
        errno.restore();
    }

    /// Gives back what the limit asks for now.
    pub(super) fn enforce_limit(&self) {
        self.enforce_limit_for(self.policy.limit.load(Relaxed), 0);
    }

    #[cold]
    fn enforce_limit_for(&self, limit: usize, fresh_bytes: usize) {
        self.sample(fresh_bytes);
        let over = || self.counted().saturating_sub(limit);
        if over() == 0 {
            return;
        }
        self.policy.limit_hits.fetch_add(1, Relaxed);
        self.purge(over());
        if over() > 0 {
            self.purge_inner(limit / SAMPLE_DIVISOR, fresh_bytes);
        }
        if over() > 0 {
            self.pages.over_budget(over());
        }
    }

    /// Asks the inner allocator, if what is not ours grew by `step` since it was last asked.
    fn purge_inner(&self, step: usize, fresh_bytes: usize) {
        let foreign = || self.policy.resident.load(Relaxed).saturating_sub(self.held());
        let last = self.policy.foreign_after_purge.load(Relaxed);
        if foreign() > last.saturating_add(step) || last == 0 {
            self.inner.purge();
            self.sample(fresh_bytes);
            self.policy.foreign_after_purge.store(foreign().max(1), Relaxed);
        }
    }

    /// Gives at least `bytes` of cached pages back if there are as many, huge ones first.
    pub(super) fn purge(&self, bytes: usize) -> usize {
        let mut freed = 0;
        for heap in [&self.huge, &self.small] {
            while freed < bytes {
                match heap.purge_some(&self.pages, bytes - freed) {
                    0 => break,
                    more => freed += more,
                }
            }
        }
        self.policy.purged_bytes.fetch_add(freed as u64, Relaxed);
        freed
    }
}

/// Resident bytes of this process, by the kernel's count; read without allocating.
fn resident_bytes() -> Option<usize> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string; the descriptor is closed below.
    let file = unsafe { libc::open(c"/proc/self/statm".as_ptr(), flags) };
    if file < 0 {
        return None;
    }
    let mut text = [0u8; 128];
    // SAFETY: the buffer has the length given.
    let read = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: opened above, and nobody else knows it.
    unsafe { libc::close(file) };
    let text = text.get(..usize::try_from(read).ok()?)?;
    let second = text.split(|c| *c == b' ').nth(1)?;
    let digit = |sum: usize, c: &u8| sum * 10 + usize::from(c - b'0');
    let pages = second.iter().take(15).filter(|c| c.is_ascii_digit()).fold(0, digit);
    Some(pages * page_bytes())
}

#[cfg(all(test, not(miri)))]
mod tests {
    #[test]
    fn the_kernel_says_what_is_resident() {
        let bytes = super::resident_bytes().expect("/proc is mounted");
        assert!((1 << 19..1 << 36).contains(&bytes), "{bytes}");
    }
}
