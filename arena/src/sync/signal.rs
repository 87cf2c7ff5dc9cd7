//! A counter that threads wait on.
//!
//! ```text
//!   waiter   count -> look -> nothing there -> wait(count)     sleeps only while the count is that
//!   raiser   make it there -> raise                            counts up, wakes who sleeps
//! ```
//!
//! Invariant: a waiter that has read the count misses no later raise.
//!
//! Source: futex(2).

use std::time::Duration;

use super::futex::{wait, wake};
use super::{AtomicU32, Ordering};

/// A counter that threads wait on without missing a raise.
#[derive(Debug, Default)]
pub struct Signal {
    pub(super) count: AtomicU32,
    pub(super) waiting: AtomicU32,
}

impl Signal {
    /// The count to wait from; read it before looking at what is waited for.
    pub fn count(&self) -> u32 {
        // Acquire: pairs with the increment in `raise_for`.
        self.count.load(Ordering::Acquire)
    }

    /// Counts one up and wakes all who wait.
    pub fn raise(&self) {
        self.raise_for(i32::MAX as u32);
    }

    /// Counts one up and wakes one waiting thread, for a task that one thread takes.
    pub fn raise_one(&self) {
        self.raise_for(1);
    }

    fn raise_for(&self, waiters: u32) {
        // SeqCst twice here and in `wait`: either the raiser sees the waiter, or the waiter's
        // futex sees the new count.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            wake(&self.count, waiters);
        }
    }

    /// Waits until the count is no longer `seen`, or the time is over, or for no reason.
    pub fn wait(&self, seen: u32, time: Duration) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        wait(&self.count, seen, Some(time));
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
