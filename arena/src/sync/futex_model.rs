//! futex(2) for loom, which the lock and the signal are model-checked over.
//!
//! ```text
//!   wait   under one lock: the word is compared, and the thread queued behind others
//!   wake   under the same: the first of those who wait for the word are taken off, and woken
//! ```
//!
//! The kernel compares between a full barrier and going to sleep: here the word is read by an
//! exchange, which sees the last value there is, as loom has no order of all `SeqCst` accesses.
//!
//! Not modelled: a wait that ends for no reason, and one whose time is over. A lost wake is
//! therefore a thread that never goes on, which loom reports as a deadlock.
//!
//! Source: futex(2); kernel/futex/waitwake.c, its comment on ordering.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};

/// A thread that waits: for which word, and where it sleeps.
struct Waiter {
    word: usize,
    sleep: Arc<Condvar>,
}

loom::lazy_static! {
    static ref WAITERS: Mutex<Vec<Waiter>> = Mutex::new(Vec::new());
}

/// Sleeps until a wake of the word, unless the word is no longer `seen`. The time is never over.
pub(super) fn wait(word: &AtomicU32, seen: u32, _time: Option<Duration>) {
    let mut waiters = WAITERS.lock().expect("no thread panics with it");
    // AcqRel: the kernel's barriers before and after it compares.
    if word.fetch_add(0, Ordering::AcqRel) != seen {
        return;
    }
    let sleep = Arc::new(Condvar::new());
    let word = std::ptr::from_ref(word) as usize;
    waiters.push(Waiter { word, sleep: Arc::clone(&sleep) });
    while waiters.iter().any(|waiter| Arc::ptr_eq(&waiter.sleep, &sleep)) {
        waiters = sleep.wait(waiters).expect("no thread panics with it");
    }
}

/// Wakes the first `count` who wait for the word.
pub(super) fn wake(word: &AtomicU32, count: u32) {
    let mut waiters = WAITERS.lock().expect("no thread panics with it");
    let word = std::ptr::from_ref(word) as usize;
    for _ in 0..count {
        let Some(first) = waiters.iter().position(|waiter| waiter.word == word) else { return };
        waiters.remove(first).sleep.notify_one();
    }
}
