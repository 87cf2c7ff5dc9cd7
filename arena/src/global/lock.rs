//! A lock for the inside of an allocator: one word, no queue in memory, no thread-local.
//!
//! ```text
//!   0 free  --lock-->  1 held  --another waits-->  2 held, someone sleeps
//!   ^                     |                             |
//!   +------- unlock ------+------ unlock, wake one -----+
//! ```
//!
//! `std`'s mutex would do, but it promises nothing to code inside `malloc`; this one promises that
//! it neither allocates nor panics, and its word can be read by a child of `fork` to learn whether
//! a thread that is gone held it. It is held for some tens of instructions, never over a call that
//! gives memory back.
//!
//! Under loom the futex is [`futex_model`](crate::futex_model), and every interleaving is tried.
//!
//! Source: U. Drepper, "Futexes are tricky", 2011, section 6.

#[cfg(loom)]
use crate::futex_model::{wait, wake};
use crate::sync::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
const AWAITED: u32 = 2;

/// Turns spent before sleeping: longer than the longest ordinary hold, some 100 ns.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

/// Sleeps until a wake of the word, unless the word is no longer `seen`, or for no reason.
#[cfg(not(loom))]
fn wait(word: &AtomicU32, seen: u32) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let forever = std::ptr::null::<libc::timespec>();
    // SAFETY: the word lives as long as the borrow; a wait has no other precondition, and an error
    // (the word changed, a signal came) sends the caller round its loop.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, seen, forever) };
}

/// Wakes as many as `count` who wait for the word.
#[cfg(not(loom))]
fn wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word lives as long as the borrow; a wake has no other precondition.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, count) };
}

/// See the module's header.
#[derive(Debug)]
pub(super) struct Lock(AtomicU32);

/// Proof that the lock is held; releases it when dropped.
pub(super) struct Held<'a>(&'a Lock);

impl Lock {
    #[cfg(not(loom))]
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// Loom's atomics are made while it runs.
    #[cfg(loom)]
    pub(super) fn new() -> Self {
        Self(AtomicU32::new(FREE))
    }

    /// Says whether any thread holds the lock now.
    pub(super) fn is_held(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }

    #[inline]
    pub(super) fn lock(&self) -> Held<'_> {
        // Acquire, here and below: pairs with the Release in `drop`.
        if self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slow();
        }
        Held(self)
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == FREE
                && self.0.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            std::hint::spin_loop();
        }
        while self.0.swap(AWAITED, Ordering::Acquire) != FREE {
            wait(&self.0, AWAITED);
        }
    }
}

impl Drop for Held<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `lock`.
        if self.0.0.swap(FREE, Ordering::Release) == AWAITED {
            wake(&self.0.0, 1);
        }
    }
}

#[cfg(all(test, loom))]
#[path = "lock_model.rs"]
mod model;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    struct Counter(Lock, UnsafeCell<u64>);

    // SAFETY: the cell is touched only under the lock.
    unsafe impl Sync for Counter {}

    #[test]
    fn threads_take_turns() {
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        let counter = Counter(Lock::new(), UnsafeCell::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let counter = &counter;
                    for _ in 0..rounds {
                        let _held = counter.0.lock();
                        // SAFETY: the lock is held.
                        unsafe { *counter.1.get() += 1 };
                    }
                });
            }
        });
        assert!(!counter.0.is_held());
        assert_eq!(counter.1.into_inner(), 4 * rounds);
    }
}
