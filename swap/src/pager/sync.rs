//! Waiting without `std`'s locks: a mutex of one word, and a counter to wait on.
//!
//! ```text
//!   Lock    0 free, 1 held, 2 held and waited for; its guard unlocks
//!   Signal  a waiter that has read the count misses no later change
//! ```
//!
//! Neither allocates, poisons or formats, so both may be used while a thread is inside `malloc`.
//! A panic while a guard is held ends the process, since what it guards may be half changed.
//!
//! Under loom the futex is `plimsoll_arena::futex_model`, and every interleaving is tried.
//!
//! Source: futex(2); Drepper, "Futexes Are Tricky", 2011.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};
#[cfg(not(loom))]
use nix::libc;
#[cfg(loom)]
use plimsoll_arena::futex_model;

use super::sys::die;

/// Sleeps until a wake of the word, unless it is no longer `seen`, or the time is over, or for no
/// reason.
#[cfg(not(loom))]
fn futex_wait(word: &AtomicU32, seen: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs() as libc::time_t,
        tv_nsec: time.subsec_nanos() as _,
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word and the timeout outlive the call; a spurious return is allowed for.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, seen, timeout) };
}

/// Wakes as many as `count` who wait for the word.
#[cfg(not(loom))]
fn futex_wake(word: &AtomicU32, count: u32) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word outlives the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, count) };
}

/// The time is never over: who is not woken sleeps for good, which loom reports.
#[cfg(loom)]
fn futex_wait(word: &AtomicU32, seen: u32, _timeout: Option<Duration>) {
    futex_model::wait(word, seen);
}

#[cfg(loom)]
fn futex_wake(word: &AtomicU32, count: u32) {
    futex_model::wake(word, count);
}

/// A counter that threads wait on.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    count: AtomicU32,
    waiting: AtomicU32,
}

impl Signal {
    /// The count to wait from; read it before looking at what is waited for.
    pub(crate) fn count(&self) -> u32 {
        // Acquire: pairs with the increment in `raise`.
        self.count.load(Ordering::Acquire)
    }

    /// Counts one up and wakes all who wait.
    pub(crate) fn raise(&self) {
        // SeqCst twice here and in `wait`: either the raiser sees the waiter, or the waiter's
        // futex sees the new count.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            futex_wake(&self.count, i32::MAX as u32);
        }
    }

    /// Counts one up and wakes one who waits: for tasks that one thread takes.
    pub(crate) fn raise_one(&self) {
        // SeqCst: as in `raise`.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            futex_wake(&self.count, 1);
        }
    }

    /// Waits until the count is no longer `seen`, or the time is over, or for no reason.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        futex_wait(&self.count, seen, Some(timeout));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A value and its mutex: 0 free, 1 held, 2 held and waited for (Drepper, "Futexes Are Tricky").
pub(crate) struct Lock<T> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a guard, and there is one guard at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

/// Holding one is the right to the value; drop gives it up.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
    /// The thread was in a panic already, and frees what it has.
    panicking: bool,
}

/// Tries before a thread sleeps: a few microseconds, as long as most holders need.
const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { word: AtomicU32::new(0), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        // Acquire: pairs with the release in the guard's drop.
        if self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_slowly();
        }
        Guard { lock: self, panicking: std::thread::panicking() }
    }

    #[cold]
    fn lock_slowly(&self) {
        for _ in 0..SPINS {
            std::hint::spin_loop();
            // Acquire: as above.
            if self.word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
        // Acquire: as above.
        while self.word.swap(2, Ordering::Acquire) != 0 {
            futex_wait(&self.word, 2, None);
        }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard is the only one, and borrowed mutably.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        // Under loom a panic is what a model finds, and nobody goes on after it.
        if cfg!(not(loom)) && std::thread::panicking() && !self.panicking {
            die(format_args!("a panic while the page tables were being changed"));
        }
        // Release: pairs with the acquire of the next holder.
        if self.lock.word.swap(0, Ordering::Release) == 2 {
            futex_wake(&self.lock.word, 1);
        }
    }
}

#[cfg(all(test, loom))]
#[path = "sync_model.rs"]
mod model;
