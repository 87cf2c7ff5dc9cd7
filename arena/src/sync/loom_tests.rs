//! The lock and the signal under every interleaving loom can make.
//!
//! ```text
//!   Lock    one holder at a time, who sees what the last one left; no lost wake
//!   Signal  read the count, look, wait: no later raise is missed
//! ```
//!
//! No wait's time is over here, so that a lost wake leaves a thread asleep, which loom reports as a
//! deadlock. Flaws are planted beside the real code to show that the models find what they look
//! for.

use std::sync::Arc;
use std::time::Duration;

use loom::cell::Cell;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::futex::wake;
use super::lock::{AWAITED, FREE, HELD};
use super::*;

/// Never over, under loom.
const TIME: Duration = Duration::ZERO;

/// Tries every interleaving, or those in which threads are interrupted a few times: all of three
/// threads would take hours.
fn model(interruptions_max: Option<usize>, run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions_max;
    model.check(run);
}

/// A value that loom watches: it panics when two write at once, and when one does not see what the
/// last one left.
type Counter = Lock<Cell<u32>>;

fn add(counter: &Counter, unlock: fn(Guard<'_, Cell<u32>>)) {
    let count = counter.lock();
    assert!(counter.is_held());
    count.set(count.get() + 1);
    unlock(count);
}

/// Threads that add, each as often as its number says.
fn take_turns(rounds: &'static [u32], unlock: fn(Guard<'_, Cell<u32>>)) {
    model((rounds.len() > 2).then_some(3), move || {
        let counter = Arc::new(Counter::new(Cell::new(0)));
        let others: Vec<_> = rounds[1..]
            .iter()
            .map(|times| {
                let counter = Arc::clone(&counter);
                thread::spawn(move || (0..*times).for_each(|_| add(&counter, unlock)))
            })
            .collect();
        (0..rounds[0]).for_each(|_| add(&counter, unlock));
        for other in others {
            other.join().expect("the other thread passed");
        }
        assert!(!counter.is_held());
        assert_eq!(counter.lock().get(), rounds.iter().sum());
    });
}

/// As the lock's users do.
fn unlock(guard: Guard<'_, Cell<u32>>) {
    drop(guard);
}

#[test]
fn threads_take_turns() {
    take_turns(&[2, 1], unlock);
    take_turns(&[1, 1, 1], unlock);
}

/// Looks who waits, and frees the lock in a second step.
fn unlock_by_halves(guard: Guard<'_, Cell<u32>>) {
    let word = &guard.lock.word;
    let awaited = word.load(Ordering::Relaxed) == AWAITED;
    word.store(FREE, Ordering::Release);
    if awaited {
        wake(word, 1);
    }
    std::mem::forget(guard);
}

/// Wakes when nobody waits, and does not when somebody does.
fn unlock_and_wake_for_held(guard: Guard<'_, Cell<u32>>) {
    if guard.lock.word.swap(FREE, Ordering::Release) == HELD {
        wake(&guard.lock.word, 1);
    }
    std::mem::forget(guard);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_unlock_in_two_steps_is_found() {
    take_turns(&[1, 1], unlock_by_halves);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_unlock_that_wakes_for_the_wrong_state_is_found() {
    take_turns(&[1, 1], unlock_and_wake_for_held);
}

/// As the next holder would not see what the last one left.
fn unlock_relaxed(guard: Guard<'_, Cell<u32>>) {
    if guard.lock.word.swap(FREE, Ordering::Relaxed) == AWAITED {
        wake(&guard.lock.word, 1);
    }
    std::mem::forget(guard);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn an_unlock_without_release_is_found() {
    take_turns(&[1, 1], unlock_relaxed);
}

/// One thread says that something is there; others wait for it.
fn wait_for_a_flag(waiters: usize, wait: fn(&Signal, &AtomicBool), raise: fn(&Signal)) {
    model((waiters > 1).then_some(3), move || {
        let shared = Arc::new((Signal::default(), AtomicBool::new(false)));
        let others: Vec<_> = (0..waiters)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || wait(&shared.0, &shared.1))
            })
            .collect();
        // Relaxed: the signal carries it.
        shared.1.store(true, Ordering::Relaxed);
        raise(&shared.0);
        for other in others {
            other.join().expect("the other thread passed");
        }
    });
}

/// As all who wait do: count, look, wait.
fn wait(signal: &Signal, flag: &AtomicBool) {
    loop {
        let seen = signal.count();
        if flag.load(Ordering::Relaxed) {
            return;
        }
        signal.wait(seen, TIME);
    }
}

#[test]
fn who_has_read_the_count_misses_no_raise() {
    wait_for_a_flag(1, wait, Signal::raise);
    wait_for_a_flag(2, wait, Signal::raise);
    wait_for_a_flag(1, wait, Signal::raise_one);
}

/// Looks who waits before it counts.
fn raise_late(signal: &Signal) {
    let waiting = signal.waiting.load(Ordering::SeqCst);
    signal.count.fetch_add(1, Ordering::SeqCst);
    if waiting > 0 {
        wake(&signal.count, i32::MAX as u32);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_raise_that_looks_before_it_counts_is_found() {
    wait_for_a_flag(1, wait, raise_late);
}

/// Counts without an order between that and looking who waits.
fn raise_relaxed(signal: &Signal) {
    signal.count.fetch_add(1, Ordering::Release);
    if signal.waiting.load(Ordering::Relaxed) > 0 {
        wake(&signal.count, i32::MAX as u32);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_raise_without_order_is_found() {
    wait_for_a_flag(1, wait, raise_relaxed);
}

/// Reads the count after it looked.
fn wait_late(signal: &Signal, flag: &AtomicBool) {
    while !flag.load(Ordering::Relaxed) {
        signal.wait(signal.count(), TIME);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_waiter_that_looks_before_it_reads_the_count_is_found() {
    wait_for_a_flag(1, wait_late, Signal::raise);
}

/// Two tasks are queued under a lock, as demands are, and two threads take one each.
fn take_one_each(raise: fn(&Signal)) {
    model(Some(3), move || {
        let shared = Arc::new((Signal::default(), Counter::new(Cell::new(0))));
        let others = [(); 2].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (signal, tasks) = &*shared;
                loop {
                    let seen = signal.count();
                    if take(tasks) {
                        return;
                    }
                    signal.wait(seen, TIME);
                }
            })
        });
        for _ in 0..2 {
            add(&shared.1, unlock);
            raise(&shared.0);
        }
        for other in others {
            other.join().expect("the other thread passed");
        }
        assert_eq!(shared.1.lock().get(), 0);
    });
}

fn take(tasks: &Counter) -> bool {
    let tasks = tasks.lock();
    let left = tasks.get();
    tasks.set(left.saturating_sub(1));
    left > 0
}

#[test]
fn each_of_two_tasks_wakes_one_who_waits() {
    take_one_each(Signal::raise_one);
}

/// Wakes one who waits when it was the first to be.
fn raise_one_for_the_first(signal: &Signal) {
    if signal.count.fetch_add(1, Ordering::SeqCst) == 0 {
        wake(&signal.count, 1);
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_second_task_that_wakes_nobody_is_found() {
    take_one_each(raise_one_for_the_first);
}
