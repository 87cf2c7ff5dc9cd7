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
//! Never: grow a queue, lose count of a job, or let a job's panic end a thread.

use crossbeam_queue::ArrayQueue;
use plimsoll_arena::sync::unpoisoned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

struct Shared {
    ahead: ArrayQueue<Job>,
    back: ArrayQueue<Job>,
    /// Jobs queued or running; the lock that sleeping threads and waiters share.
    pending: Mutex<usize>,
    /// A job was queued, or the threads are to end: threads sleep on this one.
    queued: Condvar,
    /// The last job ended: `wait_idle` sleeps on this one, so it takes no thread's wake-up.
    idle: Condvar,
    stopping: AtomicBool,
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
    fn lock(&self) -> MutexGuard<'_, usize> {
        unpoisoned(self.pending.lock())
    }

    fn next(&self) -> Option<Job> {
        self.ahead.pop().or_else(|| self.back.pop())
    }

    fn finish_one(&self) {
        let mut pending = self.lock();
        *pending -= 1;
        if *pending == 0 {
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
        let mut pending = self.lock();
        loop {
            if self.stopping.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = self.next() {
                return Some(job);
            }
            pending = unpoisoned(self.queued.wait(pending));
        }
    }
}

impl Workers {
    /// Starts `threads` threads, at least one if the system gives any.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            ahead: ArrayQueue::new(QUEUE_LEN),
            back: ArrayQueue::new(QUEUE_LEN),
            pending: Mutex::new(0),
            queued: Condvar::new(),
            idle: Condvar::new(),
            stopping: AtomicBool::new(false),
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
        let queue = match class {
            Class::ReadAhead => &self.shared.ahead,
            Class::WriteBack => &self.shared.back,
        };
        if self.threads.is_empty() {
            return false;
        }
        let mut pending = self.shared.lock();
        let taken = match queue.push(job) {
            Ok(()) => {
                *pending += 1;
                true
            }
            Err(refused) => {
                // A job may do anything when it is dropped: not under the lock.
                drop(pending);
                drop(refused);
                return false;
            }
        };
        drop(pending);
        self.shared.queued.notify_one();
        taken
    }

    /// Jobs queued or running.
    #[must_use]
    pub fn pending(&self) -> usize {
        *self.shared.lock()
    }

    /// Jobs that panicked.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.shared.panics.load(Ordering::Relaxed)
    }

    /// Waits until no job is queued or running. Not for a job: it would wait for itself.
    pub fn wait_idle(&self) {
        let mut pending = self.shared.lock();
        while *pending > 0 {
            pending = unpoisoned(self.shared.idle.wait(pending));
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        {
            let _pending = self.shared.lock();
            self.shared.stopping.store(true, Ordering::Relaxed);
        }
        self.shared.queued.notify_all();
        let here = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a job: a thread cannot wait for itself.
            if thread.thread().id() != here {
                // A panic in a job was caught; there is none in the loop.
                let _ = thread.join();
            }
        }
        while let Some(job) = self.shared.next() {
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
