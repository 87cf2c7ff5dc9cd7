//! Who waits for a permit, in order of arrival.
//!
//! ```text
//!   arrive -> [ first | second | third ]     only the first asks for bytes
//!                |
//!                +- no room: sleeps until a permit comes back, or the limit changes
//!                +- granted, refused or dropped: the next one is woken
//! ```
//!
//! Who arrives takes a number, and stands in the line from its first turn on, by that number. So a
//! future that nobody has polled holds nobody up, and loses no place to those who came later.
//!
//! All runtimes that keep to the limit of the process have one line. A runtime with a limit of its
//! own has its own line, and so has one under a permit.
//!
//! Invariant: while somebody sleeps at the front, a permit is in force that will wake it, or a
//! process that shares the limit holds one, which the watcher looks for.
//!
//! Must never: hold its lock while memory is charged or a waker runs.

use plimsoll_arena::Pressure;
use plimsoll_arena::process::AccountRef;
use plimsoll_arena::sync::unpoisoned;
use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::Waker;
use std::time::Duration;

/// How often the watcher looks whether another process has given bytes back.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Default)]
struct QueueState {
    /// Numbers with their wakers, in ascending order.
    waiting: VecDeque<(u64, Option<Waker>)>,
    /// How many have arrived.
    arrivals: u64,
    /// Permits in force.
    in_force: usize,
    /// How often bytes may have come back.
    returns: u64,
    /// A watcher runs.
    watched: bool,
}

impl QueueState {
    /// Takes the waker of whoever is at the front.
    fn front(&mut self) -> Option<Waker> {
        self.waiting.front_mut().and_then(|(_, waker)| waker.take())
    }

    /// Returns where a number stands in the line, and puts it there if it is new.
    fn place(&mut self, ticket: u64) -> usize {
        let at = self.waiting.partition_point(|(other, _)| *other < ticket);
        if self.waiting.get(at).is_none_or(|(other, _)| *other != ticket) {
            self.waiting.insert(at, (ticket, None));
        }
        at
    }
}

/// Who waits for permits under one limit.
#[derive(Default)]
pub(crate) struct Queue(Mutex<QueueState>);

/// The line of all runtimes that keep to the limit of the process.
static PROCESS: LazyLock<Arc<Queue>> = LazyLock::new(|| {
    let queue = Arc::default();
    register(&queue, &AccountRef::PROCESS);
    queue
});

fn register(queue: &Arc<Queue>, account: &AccountRef) {
    let pressure: Arc<dyn Pressure> = Arc::clone(queue) as _;
    account.register(Arc::downgrade(&pressure));
}

/// What the first in the queue does after it found no room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Bytes may have come back meanwhile: it asks again.
    AskAgain,
    /// It sleeps, and will be woken.
    Sleep,
    /// No permit is in force, so that nothing will come back.
    GiveUp,
}

impl Queue {
    /// Returns the line for permits of a runtime that keeps to the limit of `account`, or to a
    /// permit if `is_within`.
    pub(crate) fn of(account: &AccountRef, is_within: bool) -> Arc<Self> {
        if !is_within && !account.is_alone() {
            return Arc::clone(&PROCESS);
        }
        let queue = Arc::default();
        register(&queue, account);
        queue
    }

    fn change<R>(&self, change: impl FnOnce(&mut QueueState) -> R) -> R {
        let mut state = unpoisoned(self.0.lock());
        change(&mut state)
    }

    fn wake_first(&self, note: impl FnOnce(&mut QueueState)) {
        let waker = self.change(|state| {
            note(state);
            state.front()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the next number.
    pub(super) fn arrive(self: &Arc<Self>) -> QueuePlace {
        let ticket = self.change(|state| {
            state.arrivals += 1;
            state.arrivals
        });
        QueuePlace { queue: Arc::clone(self), ticket }
    }

    /// Returns how many stand in the line.
    pub(super) fn waiting(&self) -> usize {
        self.change(|state| state.waiting.len())
    }

    /// Notes that a permit is in force.
    pub(super) fn granted(&self) {
        self.change(|state| state.in_force += 1);
    }

    /// Notes that the bytes of a permit have come back.
    pub(super) fn returned(&self) {
        self.wake_first(|state| {
            state.in_force -= 1;
            state.returns += 1;
        });
    }

    /// Wakes the first in the queue every few milliseconds, for as long as somebody waits: nothing
    /// tells this process when another one gives bytes back.
    pub(super) fn watch(self: &Arc<Self>) -> std::io::Result<()> {
        if self.change(|state| std::mem::replace(&mut state.watched, true)) {
            return Ok(());
        }
        let queue = Arc::clone(self);
        let watcher = std::thread::Builder::new().name("plimsoll-permits".into());
        let begun = watcher.spawn(move || {
            while queue.change(|state| {
                state.watched = !state.waiting.is_empty();
                state.watched
            }) {
                std::thread::sleep(WATCH_INTERVAL);
                // Not a return: who asks for longer than this need not ask again at once.
                queue.wake_first(|_| {});
            }
        });
        begun.map(drop).inspect_err(|_| self.change(|state| state.watched = false))
    }
}

impl Pressure for Queue {
    /// Waiting holds no memory.
    fn relieve(&self, _short_bytes: usize) -> usize {
        0
    }

    fn limit_changed(&self, _excess_bytes: usize) {
        self.wake_first(|state| state.returns += 1);
    }
}

/// A place in the queue; dropping it leaves the queue.
pub(super) struct QueuePlace {
    queue: Arc<Queue>,
    ticket: u64,
}

impl QueuePlace {
    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Stands in the line from now on, though its turn may come later.
    pub(super) fn line_up(&self) {
        self.queue.change(|state| state.place(self.ticket));
    }

    /// Returns how often bytes came back so far if this place is the first; else `waker` is woken
    /// when it may be.
    pub(super) fn turn(&self, waker: &Waker) -> Option<u64> {
        self.queue.change(|state| match state.place(self.ticket) {
            0 => Some(state.returns),
            at => {
                state.waiting[at].1 = Some(waker.clone());
                None
            }
        })
    }

    /// Says what to do after there was no room, when bytes had come back `returns` times before it
    /// was asked for. `others` says that another process holds what was asked for.
    pub(super) fn then(&self, returns: u64, waker: &Waker, others: bool) -> Then {
        self.queue.change(|state| {
            if state.returns != returns {
                return Then::AskAgain;
            }
            // Somebody with an earlier number may have come to the line meanwhile.
            let at = state.place(self.ticket);
            if at == 0 && state.in_force == 0 && !others {
                return Then::GiveUp;
            }
            state.waiting[at].1 = Some(waker.clone());
            Then::Sleep
        })
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        self.queue.wake_first(|state| state.waiting.retain(|(ticket, _)| *ticket != self.ticket));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_has_its_turn_and_the_next_follows_it() {
        let queue = Arc::new(Queue::default());
        let waker = Waker::noop();
        let [first, second, third] = [queue.arrive(), queue.arrive(), queue.arrive()];
        let turns = [&first, &second, &third].map(|place| place.turn(waker).is_some());
        assert_eq!(turns, [true, false, false]);
        drop(second);
        drop(first);
        assert!(third.turn(waker).is_some());
        assert_eq!(queue.waiting(), 1);
    }

    #[test]
    fn who_has_not_lined_up_holds_nobody_up_and_keeps_its_number() {
        let queue = Arc::new(Queue::default());
        let waker = Waker::noop();
        let [first, second, third] = [queue.arrive(), queue.arrive(), queue.arrive()];
        let returns = second.turn(waker).expect("the first has not lined up");
        assert!(third.turn(waker).is_none());
        queue.granted();
        assert!(first.turn(waker).is_some(), "its number is the smallest");
        // Who asked in vain meanwhile is behind it now, and sleeps whatever is in force.
        queue.returned();
        assert_eq!(second.then(returns, waker, false), Then::AskAgain);
        assert_eq!(second.then(returns + 1, waker, false), Then::Sleep);
        assert_eq!(first.then(1, waker, false), Then::GiveUp);
        drop(first);
        assert!(second.turn(waker).is_some());
        second.line_up();
        assert_eq!(queue.waiting(), 2);
    }

    #[test]
    fn runtimes_under_the_limit_of_the_process_have_one_line() {
        let process = || Queue::of(&AccountRef::PROCESS, false);
        assert!(Arc::ptr_eq(&process(), &process()));
        assert!(!Arc::ptr_eq(&process(), &Queue::of(&AccountRef::PROCESS, true)));
        assert!(!Arc::ptr_eq(&process(), &Queue::of(&AccountRef::alone(), false)));
    }

    #[test]
    fn nobody_sleeps_while_nothing_can_come_back() {
        let queue = Arc::new(Queue::default());
        let (place, waker) = (queue.arrive(), Waker::noop());
        place.line_up();
        assert_eq!(place.then(0, waker, false), Then::GiveUp);
        assert_eq!(place.then(0, waker, true), Then::Sleep);
        queue.granted();
        assert_eq!(place.then(0, waker, false), Then::Sleep);
        queue.returned();
        assert_eq!(place.then(0, waker, false), Then::AskAgain);
        assert_eq!(place.then(1, waker, false), Then::GiveUp);
    }

    #[test]
    fn a_changed_limit_is_looked_at_again() {
        let queue = Arc::new(Queue::default());
        let (place, waker) = (queue.arrive(), Waker::noop());
        queue.granted();
        assert_eq!(place.then(0, waker, false), Then::Sleep);
        queue.limit_changed(0);
        assert_eq!(place.then(0, waker, false), Then::AskAgain);
    }
}
