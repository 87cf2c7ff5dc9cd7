//! Who waits for a permit, in order of arrival.
//!
//! ```text
//!   arrive -> [ first | second | third ]     only the first asks for bytes
//!                |
//!                +- no room: sleeps until a permit comes back, or the limit changes
//!                +- granted, refused or dropped: the next one is woken
//! ```
//!
//! Invariant: while somebody sleeps at the front, a permit is in force that will wake it, or a
//! process that shares the limit holds one, which the watcher looks for.
//!
//! Must never: hold its lock while memory is charged or a waker runs.

use plimsoll_arena::Pressure;
use plimsoll_arena::sync::unpoisoned;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::Duration;

/// How often the watcher looks whether another process has given bytes back.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Default)]
struct QueueState {
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
}

/// Who waits for permits of one runtime.
#[derive(Default)]
pub(crate) struct Queue(Mutex<QueueState>);

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

    /// Takes a place at the end.
    pub(super) fn arrive(self: &Arc<Self>) -> QueuePlace {
        let ticket = self.change(|state| {
            state.arrivals += 1;
            state.waiting.push_back((state.arrivals, None));
            state.arrivals
        });
        QueuePlace { queue: Arc::clone(self), ticket }
    }

    /// Returns how many wait.
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
                queue.wake_first(|state| state.returns += 1);
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

    /// Returns how often bytes came back so far if this place is the first; else `waker` is woken
    /// when it may be.
    pub(super) fn turn(&self, waker: &Waker) -> Option<u64> {
        self.queue.change(|state| {
            if state.waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket) {
                return Some(state.returns);
            }
            let own = state.waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
            if let Some((_, slot)) = own {
                *slot = Some(waker.clone());
            }
            None
        })
    }

    /// Says what to do after there was no room, when bytes had come back `returns` times before it
    /// was asked for. `others` says that another process holds what was asked for.
    pub(super) fn then(&self, returns: u64, waker: &Waker, others: bool) -> Then {
        self.queue.change(|state| match state.waiting.front_mut() {
            _ if state.returns != returns => Then::AskAgain,
            Some((_, slot)) if state.in_force > 0 || others => {
                *slot = Some(waker.clone());
                Then::Sleep
            }
            _ => Then::GiveUp,
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
    fn nobody_sleeps_while_nothing_can_come_back() {
        let queue = Arc::new(Queue::default());
        let (place, waker) = (queue.arrive(), Waker::noop());
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
