//! The lock under every interleaving loom can make: one holder, no lost wake.
//!
//! A lost wake leaves a thread asleep, which loom reports as a deadlock. Flaws are planted beside
//! the lock, in ways to take and to release it, to show that the model finds what it looks for.

use std::sync::Arc;

use loom::cell::Cell;
use loom::thread;

use super::*;

/// What is written under the lock alone: loom panics when two write at once, and when one does not
/// see what the last one left.
struct Counter(Lock, Cell<u32>);

// SAFETY: the cell is touched only under the lock, and loom checks that this is enough.
unsafe impl Sync for Counter {}

impl Counter {
    fn add(&self, let_go: fn(Held<'_>)) {
        let held = self.0.lock();
        assert!(self.0.is_held());
        self.1.set(self.1.get() + 1);
        let_go(held);
    }
}

/// Threads that add, each as often as its number says. Every interleaving of two is tried, and of
/// three those with three interruptions at most: that takes seconds, and all take an hour.
fn run(rounds: &'static [u32], let_go: fn(Held<'_>)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = (rounds.len() > 2).then_some(3);
    model.check(move || {
        let counter = Arc::new(Counter(Lock::new(), Cell::new(0)));
        let others: Vec<_> = rounds[1..]
            .iter()
            .map(|times| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || (0..*times).for_each(|_| counter.add(let_go)))
            })
            .collect();
        (0..rounds[0]).for_each(|_| counter.add(let_go));
        for other in others {
            other.join().expect("the other thread passed");
        }
        assert!(!counter.0.is_held());
        assert_eq!(counter.1.get(), rounds.iter().sum());
    });
}

#[test]
fn two_threads_take_turns() {
    run(&[2, 1], release);
}

#[test]
fn three_threads_take_turns() {
    run(&[1, 1, 1], release);
}

/// As the lock's users do.
fn release(held: Held<'_>) {
    drop(held);
}

/// Lets go without looking who waits in the same step.
fn release_by_halves(held: Held<'_>) {
    let word = &held.0.0;
    let awaited = word.load(Ordering::Relaxed) == AWAITED;
    word.store(FREE, Ordering::Release);
    if awaited {
        wake(word, 1);
    }
    std::mem::forget(held);
}

/// Wakes when nobody waits, and does not when somebody does.
fn wake_for_held(held: Held<'_>) {
    if held.0.0.swap(FREE, Ordering::Release) == HELD {
        wake(&held.0.0, 1);
    }
    std::mem::forget(held);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_release_that_looks_first_and_stores_then_is_found() {
    run(&[1, 1], release_by_halves);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_release_that_wakes_for_the_wrong_state_is_found() {
    run(&[1, 1], wake_for_held);
}
