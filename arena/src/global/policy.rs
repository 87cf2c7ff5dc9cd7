//! When freed pages stay and when they go back to the kernel: the ceiling and the limit.
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
//! **The ceiling.** A freed block keeps its pages, because the next block then costs no page fault.
//! But suppose that a new block fits none of the cached pages, and takes fresh ones beside them.
//! The process then has a higher peak than one that keeps nothing. So cached pages may only fill
//! the room up to the highest `live` so far. A block that needs fresh pages beyond that sends as
//! many cached ones back. A program below its peak keeps every page, and at a new peak it keeps
//! none that it cannot use. There is no clock and no share to tune: the same calls give the same
//! actions.
//!
//! **The limit** is that of the process's [account](crate::process::Account). When the process is
//! over it, cached pages go first. Then the inner allocator is asked to give back, then the page
//! source. Nothing is ever refused. If the process is still over, one line says so, once.
//!
//! The account compares the limit with the kernel's count of resident pages at two times: when
//! fresh pages of a 64th of the limit have come, and when the small blocks of a thread have grown
//! by 256 KiB. Freed small blocks leave pages with the inner allocator, which may keep them for
//! good. So above half of the limit it is asked for them, once they come to a 16th of the limit;
//! the page source can then use them.
//!
//! Invariants, between calls, with one thread:
//!
//! * `ceiling = most ever live + max(1/64 of it, 1 MiB)`;
//! * `held <= max(ceiling, most ever live + shared)`, since huge pages that are partly live cannot
//!   go;
//! * over the limit, `cached = 0`;
//! * the account's figure for blocks is the sum of `held` over the allocators whose pages are
//!   ordinary ones, as of the last time that pages came or went.

use super::inner::InnerPurge;
use super::{BLOCK_BYTES_MIN, Global, PageSource};
use crate::os::Errno;
use crate::process::Owner;
use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Cached pages may exceed the ceiling by this share of it, so that one purge makes room for many
/// blocks.
const SLACK_DIVISOR: usize = 64;

/// They may exceed it by this many bytes at least, so that a small process is not purged at every
/// block.
const SLACK_BYTES_MIN: usize = 1 << 20;

/// When fresh pages of this share of the limit have come, the kernel is asked for the resident
/// bytes.
const SAMPLE_DIVISOR: usize = 64;

/// A thread whose small blocks grew by so many bytes looks at the limit before it goes on. It costs
/// two reads of a file in `/proc`; touching so much fresh memory costs more.
const SMALL_STEP_BYTES: usize = 256 << 10;

/// The inner allocator is asked to give back when small blocks of this share of the limit have been
/// freed and the process holds half of its limit. A program that frees much at once is soon below
/// half, and is then left alone; a pager uses what becomes free only later.
const FREED_DIVISOR: usize = 16;

/// What a thread did with small blocks, in bytes. It does not say of which allocator, because a
/// program has one.
#[derive(Clone, Copy)]
struct Small {
    /// Bytes asked for and not given back since the thread last looked at the limit.
    grown: usize,
    /// Bytes given back and not asked for since the thread last told how many.
    freed: usize,
}

thread_local! {
    /// It has no destructor, so it is there until the thread is gone.
    static SMALL: Cell<Small> = const { Cell::new(Small { grown: 0, freed: 0 }) };
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

    /// Keeps the ceiling and the limit after a block was handed out. Of its pages, `fresh_bytes`
    /// may not be resident yet.
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
        self.tell_held();
        if self.limit() != usize::MAX {
            self.keep_limit(fresh_bytes);
        }
    }

    /// Gives pages back after a block was freed, if the process is over its limit.
    #[inline]
    pub(super) fn settle_freed(&self) {
        let limit = self.limit();
        if limit != usize::MAX {
            let over = self.account.counted_bytes().saturating_sub(limit);
            if over > 0 {
                self.purge(over);
            }
        }
    }

    /// The limit of the process, in bytes.
    #[inline]
    fn limit(&self) -> usize {
        self.account.limit_bytes()
    }

    /// Tells the account what is held, if the pages are ordinary ones. A source that pages counts
    /// them itself.
    fn tell_held(&self) {
        let held = if self.pages.counts_its_pages() { 0 } else { self.held() };
        self.account.change_held(Owner::Blocks, change(&self.policy.told_held, held));
    }

    /// Has the account look at the kernel's count. `fresh_bytes` were handed out and are not
    /// touched yet.
    fn look(&self, fresh_bytes: usize) {
        self.tell_held();
        let held = self.held();
        self.policy.held_then.store(held.saturating_sub(fresh_bytes), Relaxed);
        let told = self.policy.told_held.load(Relaxed).saturating_sub(fresh_bytes);
        self.account.change_there(Owner::Blocks, change(&self.policy.told_there, told));
        self.account.look();
    }

    fn keep_limit(&self, fresh_bytes: usize) {
        let limit = self.limit();
        let since = self.held().abs_diff(self.policy.held_then.load(Relaxed));
        if since >= limit / SAMPLE_DIVISOR || self.account.counted_bytes() > limit {
            self.enforce_limit_for(fresh_bytes);
        }
    }

    /// Notes that the inner allocator is about to hand out a block. Only the kernel knows what that
    /// allocator keeps, so under a limit this asks the kernel now and then.
    #[inline]
    pub(super) fn small_grows(&self, bytes: usize) {
        if self.limit() == usize::MAX {
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

    /// Notes that the inner allocator handed out a block that it may have filled with zeroes. A
    /// large one, such as one that the range has no room for, is then resident at once.
    #[inline]
    pub(super) fn zeroed_elsewhere(&self, bytes: usize) {
        if bytes >= BLOCK_BYTES_MIN && self.limit() != usize::MAX {
            self.look_for_small();
        }
    }

    /// Notes that the inner allocator gets a block back.
    #[inline]
    pub(super) fn small_shrinks(&self, bytes: usize) {
        if self.limit() == usize::MAX {
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

    /// Notes that small blocks were freed. If the inner allocator may keep many pages of them and
    /// the process is not far from its limit, asks it for these pages.
    #[cold]
    fn take_back_small(&self, bytes: usize) {
        let share = self.limit() / FREED_DIVISOR;
        let freed = self.policy.small_freed.fetch_add(bytes, Relaxed).saturating_add(bytes);
        if freed < share || !self.is_started() {
            return;
        }
        let errno = Errno::save();
        self.look(0);
        // If several threads come here at once, one of them asks.
        let near = self.account.counted_bytes() >= self.limit() / 2;
        if near && self.policy.small_freed.swap(0, Relaxed) >= share {
            self.inner.purge();
            self.look(0);
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
        self.pages.follow_limit();
        errno.restore();
    }

    /// Gives back as many cached pages as the process is over its limit now.
    pub(super) fn purge_to_limit(&self) {
        self.look(0);
        self.purge(self.account.counted_bytes().saturating_sub(self.limit()));
    }

    /// Gives back what the limit asks for now.
    pub(super) fn enforce_limit(&self) {
        self.enforce_limit_for(0);
    }

    #[cold]
    fn enforce_limit_for(&self, fresh_bytes: usize) {
        let account = &*self.account;
        self.look(fresh_bytes);
        let over = || account.counted_bytes().saturating_sub(self.limit());
        if over() == 0 {
            return;
        }
        self.policy.limit_hits.fetch_add(1, Relaxed);
        self.purge(over());
        if over() > 0 {
            self.purge_inner(self.limit() / SAMPLE_DIVISOR, fresh_bytes);
        }
        if over() > 0 {
            self.pages.follow_limit();
            self.look(fresh_bytes);
        }
        if over() > 0 {
            account.still_over();
        }
    }

    /// Asks the inner allocator to give back, if foreign memory grew by `step` since the last time.
    fn purge_inner(&self, step: usize, fresh_bytes: usize) {
        let foreign = || self.account.rest_bytes(Owner::Blocks);
        let last = self.policy.foreign_after_purge.load(Relaxed);
        if foreign() > last.saturating_add(step) || last == 0 {
            self.inner.purge();
            self.look(fresh_bytes);
            self.policy.foreign_after_purge.store(foreign().max(1), Relaxed);
        }
    }

    /// Gives at least `bytes` of cached pages back, or all there are; huge pages go first.
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
        self.tell_held();
        freed
    }
}

/// Sets the number that was told last to `now`, and returns by how much it has changed. If several
/// threads do so at once, each gets a part of the change. The parts add up, in whatever order the
/// threads pass them on.
fn change(told: &AtomicUsize, now: usize) -> isize {
    if now == told.load(Relaxed) { 0 } else { now.wrapping_sub(told.swap(now, Relaxed)) as isize }
}
