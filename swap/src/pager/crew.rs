//! Who works for a pager, and who sees that one of them is gone.
//!
//! ```text
//!   workers   look around between two tasks, 20 times a second or more
//!   watcher   looks twice a second, and takes no lock: it sees what the workers cannot, since
//!             they wait for what the dead one held, or there are no others
//! ```
//!
//! A thread ends by itself alone: by exit(2), or by a seccomp filter that kills threads. A signal
//! that kills, kills the process. What it was to bring would never come, and a touch of that would
//! never end; so the process does.
//!
//! Must never: take a lock or wait for a thread.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::engine::Engine;
use super::sys::{self, die};

/// How often the watcher looks: a program that hangs meanwhile has lost half a second.
const LOOK: Duration = Duration::from_millis(500);

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
    fn missing(&self) -> Option<(usize, i32)> {
        self.0.iter().enumerate().find_map(|(number, place)| {
            let thread = place.load(Ordering::Relaxed);
            let gone = thread != 0 && !sys::is_alive(thread);
            // Read again, since it may have left between the two: what it stored before it ended is
            // seen by who has asked the kernel since.
            (gone && place.load(Ordering::Relaxed) == thread).then_some((number, thread))
        })
    }
}

impl Engine {
    /// Ends the process if a thread of the pager is gone.
    pub(crate) fn look_after_crew(&self) {
        let Some((number, thread)) = self.crew.missing() else { return };
        let what = match number {
            WATCHER => "watches the others",
            _ if thread == self.lead.thread() => "answers faults",
            _ => "brings and writes pages",
        };
        die(format_args!("the thread that {what} was killed"));
    }

    /// Looks after the crew until the pager stops.
    pub(crate) fn keep_watch(&self) {
        while !sys::has_rung(&self.bell, LOOK) {
            #[cfg(test)]
            self.watcher_may_vanish();
            self.look_after_crew();
        }
    }
}
