//! The first large allocation, and the first after a `fork`.
//!
//! ```text
//!   state   NEW --claim--> STARTING --> READY
//!                              \-----> OFF        no addresses: the inner allocator serves all
//!   cookie  a page that the kernel clears in a child of fork (MADV_WIPEONFORK)
//!           READY in this process; 0 in a child that has not looked yet; OFF when it may not go on
//! ```
//!
//! While one thread starts the heap, the inner allocator serves the others. A block is freed by its
//! address, so nobody has to wait.
//!
//! A child of `fork` has one thread. If another thread of the parent held a lock at that moment,
//! that thread is not in the child, and the table may be half written. The child then leaves the
//! heap alone for good. It allocates from the inner allocator, which has fork handlers of its own,
//! and blocks of the heap that it frees are not reused. Otherwise the child goes on with its copy.
//!
//! Must never: wait for another thread, which may be gone.

use super::inner::InnerPurge;
use super::state::{NEW, OFF, READY, STARTING, Start};
use super::{Global, PageSource};
use crate::os::{self, Errno};
use crate::process::{addresses_left, say};
use crate::size::HUGE_BYTES;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes of addresses to reserve for each byte of the machine's memory. Freed blocks join, so few
/// addresses are lost. But a program may reserve large vectors that it never fills, or spill
/// several times as much as the machine has.
const RESERVE_PER_BYTE: usize = 8;

/// The share of the addresses that the process may still map which is left to the rest of it: to
/// stacks, and to heaps of the C library, each of which reserves 64 MiB.
const ADDRESSES_LEFT_DIVISOR: usize = 2;

const RESERVE_BYTES_MIN: usize = 64 << 30;
const RESERVE_BYTES_MAX: usize = 16 << 40;

/// A smaller region is not worth having.
const RESERVE_BYTES_LEAST: usize = 64 << 20;

/// The share of addresses for blocks below 2 MiB.
const SMALL_SHARE: usize = 8;

/// Units of the heap of huge pages: 64 KiB.
const HUGE_UNIT_LOG2: u32 = 16;

impl Start {
    fn cookie(&self) -> Option<&AtomicU32> {
        // Acquire: pairs with the Release in `start`.
        let cookie = self.cookie.load(Acquire);
        // SAFETY: null, or a page that stays for good; zero is a valid value.
        unsafe { cookie.as_ref() }
    }
}

impl<A: InnerPurge, P: PageSource> Global<A, P> {
    /// Says whether there can be blocks. The first call starts the heap.
    #[inline]
    pub(super) fn is_ready(&self) -> bool {
        // Acquire: pairs with the Release in `start` and `after_fork`.
        match self.start.cookie().map(|cookie| cookie.load(Acquire)) {
            Some(READY) => true,
            Some(OFF) => false,
            Some(_) => self.after_fork(),
            None => self.begin(),
        }
    }

    /// Says whether the heap was started, without starting it.
    #[inline]
    pub(super) fn is_started(&self) -> bool {
        self.start.cookie().is_some() && self.is_ready()
    }

    #[cold]
    fn begin(&self) -> bool {
        let state = &self.start.state;
        if state.compare_exchange(NEW, STARTING, Relaxed, Relaxed).is_err() {
            // Another thread is starting the heap, or that has failed. The inner allocator serves.
            return false;
        }
        let errno = Errno::save();
        let started = self.reserve();
        if started {
            self.inner.prepare(self.account.limit_bytes());
        }
        errno.restore();
        state.store(if started { READY } else { OFF }, Relaxed);
        started
    }

    fn reserve(&self) -> bool {
        self.account.read_environment();
        let bytes = match self.start.reserve_bytes {
            0 => os::physical_bytes()
                .saturating_mul(RESERVE_PER_BYTE)
                .clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX),
            asked => asked.clamp(16 * HUGE_BYTES, RESERVE_BYTES_MAX),
        };
        let left = addresses_left().map_or(usize::MAX, |left| left / ADDRESSES_LEFT_DIVISOR);
        let bytes = bytes.next_multiple_of(HUGE_BYTES).min(left / HUGE_BYTES * HUGE_BYTES);
        let least_bytes = bytes.min(RESERVE_BYTES_LEAST);
        if bytes < RESERVE_BYTES_LEAST && left != usize::MAX {
            return false;
        }
        let Ok((base, bytes)) = self.pages.reserve(bytes, least_bytes) else { return false };
        let small_bytes = (bytes / SMALL_SHARE).next_multiple_of(HUGE_BYTES);
        let page_log2 = os::page_bytes().ilog2();
        // SAFETY: the front of the range just reserved; this is the only thread here.
        let small =
            unsafe { self.small.set_up(&self.pages, base, small_bytes, page_log2, page_log2) };
        // SAFETY: the small part is shorter than the range.
        let rest = unsafe { base.add(small_bytes) };
        let (rest_bytes, huge_log2) = (bytes - small_bytes, HUGE_BYTES.ilog2());
        // SAFETY: the rest of the range; this is the only thread here.
        let huge =
            unsafe { self.huge.set_up(&self.pages, rest, rest_bytes, HUGE_UNIT_LOG2, huge_log2) };
        self.range_base.store(base.as_ptr() as usize, Relaxed);
        self.range_bytes.store(bytes, Relaxed);
        small && huge && self.set_cookie()
    }

    fn set_cookie(&self) -> bool {
        let page_bytes = os::page_bytes();
        let Ok(page) = self.pages.reserve_table(page_bytes) else { return false };
        // SAFETY: the page was reserved by the line above.
        if unsafe { self.pages.commit_table(page, page_bytes) }.is_err() {
            return false;
        }
        // SAFETY: as above; nothing is in it yet.
        unsafe { self.pages.wipe_on_fork(page, page_bytes) };
        let cookie: NonNull<AtomicU32> = page.cast();
        // SAFETY: the page is accessible, aligned, and stays for good; zero is a valid value.
        // Release: pairs with the Acquire in `is_ready`, for everything set up before.
        unsafe { cookie.as_ref() }.store(READY, Release);
        // Release: pairs with the Acquire in `cookie`.
        self.start.cookie.store(cookie.as_ptr(), Release);
        true
    }

    /// Decides, in a child of `fork` that has not looked at the heap yet, whether it may go on.
    #[cold]
    fn after_fork(&self) -> bool {
        let Some(cookie) = self.start.cookie() else { return false };
        if cookie.compare_exchange(0, STARTING, Relaxed, Relaxed).is_err() {
            // Another thread of the child is deciding, which takes it a few instructions.
            while cookie.load(Relaxed) == STARTING {
                std::hint::spin_loop();
            }
            return cookie.load(Acquire) == READY;
        }
        let torn = self.small.is_locked() || self.huge.is_locked();
        let source_usable = self.pages.usable_after_fork();
        let usable = !torn && source_usable;
        if !source_usable && self.account.limit_bytes() != usize::MAX {
            say(format_args!(
                "a child of fork (process {}): nothing is paged here and the limit is not kept; \
                 what the parent had in large blocks cannot be touched; fork before the first of \
                 them, or exec",
                std::process::id(),
            ));
        }
        // Release: pairs with the Acquire in `is_ready`.
        cookie.store(if usable { READY } else { OFF }, Release);
        usable
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::alloc::{GlobalAlloc, Layout};

    static TESTED: Global = Global::system();

    /// Runs `act` in a child of `fork` and says whether it returned true.
    fn in_child(act: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child allocates, checks and leaves.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: a child that hangs is killed.
            unsafe { libc::alarm(30) };
            let code = i32::from(!act());
            // SAFETY: leaves at once.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: the child made above.
        unsafe { libc::waitpid(pid, &mut status, 0) };
        status == 0
    }

    fn works(serves: bool) -> bool {
        let layout = Layout::from_size_align(5 << 20, 8).expect("sound");
        // SAFETY: the layout has a size.
        let start = unsafe { TESTED.alloc(layout) };
        // SAFETY: the block was just allocated.
        unsafe { start.write_bytes(1, layout.size()) };
        let ours = TESTED.owns(start);
        // SAFETY: allocated above with this layout.
        let start = unsafe { TESTED.realloc(start, layout, 6 << 20) };
        // SAFETY: inside the block.
        let last = unsafe { start.add((5 << 20) - 1) };
        // SAFETY: it was written above.
        let same = unsafe { last.read() } == 1;
        let layout = Layout::from_size_align(6 << 20, 8).expect("sound");
        // SAFETY: allocated above with this layout.
        unsafe { TESTED.dealloc(start, layout) };
        ours == serves && same
    }

    #[test]
    fn a_child_whose_parent_held_a_lock_leaves_the_heap_alone() {
        let layout = Layout::from_size_align(3 << 20, 8).expect("sound");
        // SAFETY: the layout has a size.
        let mine = unsafe { TESTED.alloc(layout) };
        assert!(works(true));
        assert!(in_child(|| works(true)), "between calls the child goes on");
        let torn = TESTED.small.with(|_| {
            in_child(|| {
                // SAFETY: allocated above; in the child its pages stay as they are.
                unsafe { TESTED.dealloc(mine, layout) };
                works(false) && TESTED.reclaim(usize::MAX) == 0
            })
        });
        assert!(torn, "it neither hung nor used the table");
        assert!(works(true), "the parent goes on");
        // SAFETY: allocated above with this layout.
        unsafe { TESTED.dealloc(mine, layout) };
        assert_eq!(TESTED.check(), Ok(()));
    }
}
