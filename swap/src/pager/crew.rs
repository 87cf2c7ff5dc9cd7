//! Who works for a pager: its threads, and which of them leads.
//!
//! ```text
//!   begins --join--> an id --leave--> done
//!                      |
//!                      +-- the kernel knows no such thread: missing
//! ```
//!
//! watch.rs has what is done about a missing one.
//!
//! Must never: take a lock or wait for a thread.

use std::sync::atomic::{AtomicI32, Ordering};

use super::sys;

/// The most workers there may be.
pub(crate) const WORKERS_MAX: usize = 64;

/// The watcher's number.
pub(crate) const WATCHER: usize = WORKERS_MAX;

/// The threads of a pager: an id each, or 0 for one that has not begun or is done.
#[derive(Debug)]
pub(crate) struct Crew([AtomicI32; WORKERS_MAX + 1]);

impl Crew {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicI32::new(0) }; WORKERS_MAX + 1])
    }

    /// The calling thread begins.
    pub(crate) fn join(&self, number: usize) {
        // Relaxed, here and below: an id stands for nothing but the thread.
        self.0[number].store(sys::thread_id(), Ordering::Relaxed);
    }

    /// The calling thread is done.
    pub(crate) fn leave(&self, number: usize) {
        self.0[number].store(0, Ordering::Relaxed);
    }

    /// Nanoseconds that these threads have run.
    pub(crate) fn ran_ns(&self) -> u64 {
        let threads = self.0.iter().map(|place| place.load(Ordering::Relaxed));
        threads.filter(|thread| *thread != 0).map(sys::thread_ran_ns).sum()
    }

    /// A thread that ended without leaving, if there is one: its number and id.
    pub(crate) fn missing(&self) -> Option<(usize, i32)> {
        self.0.iter().enumerate().find_map(|(number, place)| {
            let thread = place.load(Ordering::Relaxed);
            let gone = thread != 0 && !sys::is_alive(thread);
            // Read again, since it may have left between the two: what it stored before it ended is
            // seen by who has asked the kernel since.
            (gone && place.load(Ordering::Relaxed) == thread).then_some((number, thread))
        })
    }
}

/// Who leads: the thread's id, or 0.
#[derive(Debug, Default)]
pub(crate) struct Lead {
    thread: AtomicI32,
    /// Who is to vanish, as if it was killed: see `tests_end.rs`.
    #[cfg(test)]
    pub(crate) vanish: std::sync::atomic::AtomicU8,
}

impl Lead {
    /// Takes the lead, if nobody has it.
    pub(crate) fn take(&self) -> bool {
        // Acquire: pairs with the release in `give_up`; the next leader sees what the last did.
        self.thread
            .compare_exchange(0, sys::thread_id(), Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn give_up(&self) {
        // Release: pairs with the acquire in `take`.
        self.thread.store(0, Ordering::Release);
    }

    /// The thread that answers faults at the moment, or 0.
    pub(crate) fn thread(&self) -> i32 {
        self.thread.load(Ordering::Relaxed)
    }
}
