//! The I/O threads: read-ahead and write-back in the background.
//!
//! ```text
//!   submit(ReadAhead) -> [queue] --.
//!                                   >-- threads: read-ahead first, then write-back
//!   submit(WriteBack) -> [queue] --'
//! ```
//!
//! Demand has no queue: a thread that needs bytes now reads them itself, so it overtakes both. A
//! full queue refuses a job, and the caller goes on without it: both kinds of job only save time.
//!
//! One lock has both queues and the count of jobs. Threads sleep until there is a job, so whoever
//! queues one meets them at a lock in any case; a job is milliseconds of work.
//!
//! Never: grow a queue, lose count of a job, or let a job's panic end a thread.

use plimsoll_arena::sync::unpoisoned;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// Jobs that may wait in a queue.
const QUEUE_LEN: usize = 1024;

/// What a thread does.
pub type Job = Box<dyn FnOnce() + Send>;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Brings bytes in before they are needed; overtakes write-back.
    ReadAhead,
    /// Saves bytes that are not needed soon.
    WriteBack,
}

/// The queues, and how many jobs there are.
struct Jobs {
    ahead: VecDeque<Job>,
    back: VecDeque<Job>,
    /// Queued or running.
    pending: usize,
    stopping: bool,
}

impl Jobs {
    fn queue(&mut self, class: Class) -> &mut VecDeque<Job> {
        match class {
            Class::ReadAhead => &mut self.ahead,
            Class::WriteBack => &mut self.back,
        }
    }

    fn next(&mut self) -> Option<Job> {
        self.ahead.pop_front().or_else(|| self.back.pop_front())
    }
}

struct Shared {
    jobs: Mutex<Jobs>,
    /// A job was queued, or the threads are to end: threads sleep on this one.
    queued: Condvar,
    /// The last job ended: `wait_idle` sleeps on this one, so it takes no thread's wake-up.
    idle: Condvar,
    panics: AtomicU64,
}

/// The I/O threads, which read ahead and write back in the background.
///
/// Dropping them drops the queued jobs and waits for the running ones.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers")
            .field("threads", &self.threads.len())
            .field("pending", &self.pending())
            .finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Jobs> {
        unpoisoned(self.jobs.lock())
    }

    fn finish_one(&self) {
        let mut jobs = self.lock();
        jobs.pending -= 1;
        if jobs.pending == 0 {
            self.idle.notify_all();
        }
    }

    fn work(&self) {
        while let Some(job) = self.wait_for_job() {
            // A job owns what it touches; what a panic leaves half-done goes with it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                self.panics.fetch_add(1, Ordering::Relaxed);
            }
            self.finish_one();
        }
    }

    /// Sleeps until there is a job; `None` when the threads are to end.
    fn wait_for_job(&self) -> Option<Job> {
        let mut jobs = self.lock();
        loop {
            if jobs.stopping {
                return None;
            }
            if let Some(job) = jobs.next() {
                return Some(job);
            }
            jobs = unpoisoned(self.queued.wait(jobs));
        }
    }
}

impl Workers {
    /// Starts `threads` threads, at least one if the system gives any.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        // As long as they may become: none grows later, when memory is short.
        let queue = || VecDeque::with_capacity(QUEUE_LEN);
        let jobs = Jobs { ahead: queue(), back: queue(), pending: 0, stopping: false };
        let shared = Arc::new(Shared {
            jobs: Mutex::new(jobs),
            queued: Condvar::new(),
            idle: Condvar::new(),
            panics: AtomicU64::new(0),
        });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("plimsoll-io-{number}");
            std::thread::Builder::new().name(name).spawn(move || shared.work()).ok()
        };
        let threads = (0..threads.max(1)).filter_map(start).collect();
        Self { shared, threads }
    }

    /// Queues `job`; false, and the job is dropped, when the queue is full or no thread runs.
    pub fn submit(&self, class: Class, job: Job) -> bool {
        if self.threads.is_empty() {
            return false;
        }
        let mut jobs = self.shared.lock();
        let queue = jobs.queue(class);
        if queue.len() >= QUEUE_LEN {
            // A job may do anything when it is dropped: not under the lock.
            drop(jobs);
            drop(job);
            return false;
        }
        queue.push_back(job);
        jobs.pending += 1;
        drop(jobs);
        self.shared.queued.notify_one();
        true
    }

    /// Jobs queued or running.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.lock().pending
    }

    /// Jobs that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Waits until no job is queued or running. Not for a job: it would wait for itself.
    pub fn wait_idle(&self) {
        let mut jobs = self.shared.lock();
        while jobs.pending > 0 {
            jobs = unpoisoned(self.shared.idle.wait(jobs));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.queued.notify_all();
        let here = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a job: a thread cannot wait for itself.
            if thread.thread().id() != here {
                // A panic in a job was caught; there is none in the loop.
                let _ = thread.join();
            }
        }
        loop {
            // The lock goes before the job, which may do anything when it is dropped.
            let next = self.shared.lock().next();
            let Some(job) = next else { break };
            drop(job);
            self.shared.finish_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    #[test]
    fn read_ahead_overtakes_write_back() {
        let workers = Workers::new(1);
        let (gate, (sent, received)) = (Arc::new(Barrier::new(2)), channel());
        let wait = Arc::clone(&gate);
        assert!(workers.submit(
            Class::WriteBack,
            Box::new(move || {
                wait.wait();
            })
        ));
        for (class, number) in [
            (Class::WriteBack, 3),
            (Class::WriteBack, 4),
            (Class::ReadAhead, 1),
            (Class::ReadAhead, 2),
        ] {
            let sent = sent.clone();
            assert!(workers.submit(class, Box::new(move || sent.send(number).expect("received"))));
        }
        gate.wait();
        workers.wait_idle();
        assert_eq!(received.try_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_full_queue_refuses_and_a_panic_is_counted() {
        let workers = Workers::new(1);
        let gate = Arc::new(Barrier::new(2));
        let (started, wait) = (Arc::clone(&gate), Arc::clone(&gate));
        let blocking = move || {
            started.wait();
            wait.wait();
        };
        assert!(workers.submit(Class::WriteBack, Box::new(blocking)));
        gate.wait();
        for _ in 0..QUEUE_LEN {
            assert!(workers.submit(Class::WriteBack, Box::new(|| ())));
        }
        assert!(!workers.submit(Class::WriteBack, Box::new(|| ())));
        assert!(workers.submit(Class::ReadAhead, Box::new(|| panic!("on purpose"))));
        gate.wait();
        workers.wait_idle();
        assert_eq!((workers.panics(), workers.pending()), (1, 0));
    }

    /// A job that needs another one to run beside it, while others wait for the end of both.
    #[test]
    fn those_who_wait_for_the_end_take_no_threads_wake_up() {
        for _ in 0..50 {
            let workers = Workers::new(2);
            let (meet, started) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
            let (first, begun) = (Arc::clone(&meet), Arc::clone(&started));
            assert!(workers.submit(
                Class::WriteBack,
                Box::new(move || {
                    begun.wait();
                    first.wait();
                })
            ));
            started.wait();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| workers.wait_idle());
                }
                for _ in 0..100 {
                    std::thread::yield_now();
                }
                assert!(workers.submit(
                    Class::ReadAhead,
                    Box::new(move || {
                        meet.wait();
                    })
                ));
            });
            assert_eq!(workers.pending(), 0);
        }
    }

    #[test]
    fn queued_jobs_are_dropped_with_the_threads() {
        let held = Arc::new(());
        {
            let workers = Workers::new(1);
            let gate = Arc::new(Barrier::new(2));
            let started = Arc::clone(&gate);
            assert!(workers.submit(
                Class::WriteBack,
                Box::new(move || {
                    started.wait();
                })
            ));
            for _ in 0..10 {
                let held = Arc::clone(&held);
                assert!(workers.submit(Class::WriteBack, Box::new(move || drop(held))));
            }
            gate.wait();
        }
        assert_eq!(Arc::strong_count(&held), 1, "run or dropped, none is kept");
    }
}
