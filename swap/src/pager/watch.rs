//! Who sees that a thread of the pager is gone, and what is done then.
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

use std::time::Duration;

use super::crew::WATCHER;
use super::engine::Engine;
use super::sys::{self, die};

/// How often the watcher looks: a program that hangs meanwhile has lost half a second.
const LOOK: Duration = Duration::from_millis(500);

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
