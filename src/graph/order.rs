//! The order with the smallest peak, one task at a time.
//!
//! What is booked after a set of tasks depends on the set alone, so an order is a path through
//! sets, and its peak is the highest step on it. The search takes the set with the lowest peak so
//! far, first. A task that fits below that peak and leaves no more booked than before is taken
//! without looking at others: whatever comes before it in another order, it can come first, since
//! the sets that follow then have no more booked.
//!
//! The problem is NP-hard (R. Sethi, 1975). Beyond [`SETS_MAX`] sets, or [`TASKS_MAX`] tasks, the
//! order is the better one of two: as the tasks were made, and the lowest next step.

use super::booking::Books;
use super::shape::GraphShape;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// Sets that are looked at: some tenths of a second at most.
const SETS_MAX: usize = 1 << 14;

/// Tasks of which a set is one word.
const TASKS_MAX: usize = 64;

/// An order of all tasks, and the most that is booked in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) tasks: Vec<usize>,
    pub(super) peak_bytes: u64,
}

/// The order with the smallest peak, as far as it was found.
pub(super) fn lowest(shape: &GraphShape) -> Order {
    let made: Vec<usize> = (0..shape.tasks.len()).collect();
    let made = Order { peak_bytes: peak_of(Books::new(shape), &made), tasks: made };
    let greedy = greedy(shape);
    let fallback = if greedy.peak_bytes < made.peak_bytes { greedy } else { made };
    search(shape).filter(|found| found.peak_bytes < fallback.peak_bytes).unwrap_or(fallback)
}

/// The most that is booked when `tasks` run one by one, from `books` on; what is booked before
/// counts.
pub(super) fn peak_of(mut books: Books<'_>, tasks: &[usize]) -> u64 {
    let peak = books.booked_bytes();
    let least = |books: &mut Books<'_>, task: usize| {
        let least = books.least(task);
        books.alone(task, least)
    };
    tasks.iter().fold(peak, |peak, task| peak.max(least(&mut books, *task)))
}

/// Takes the ready task that leaves least booked among those that need not raise the peak; else the
/// lowest step.
fn greedy(shape: &GraphShape) -> Order {
    let mut books = Books::new(shape);
    let mut peak_bytes = books.booked_bytes();
    let mut tasks = Vec::new();
    loop {
        let step = |task: usize| {
            let mut after = books.clone();
            let step = after.alone(task, books.least(task));
            (step.max(peak_bytes), after.booked_bytes(), task)
        };
        let ready = (0..shape.tasks.len()).filter(|task| books.is_ready(*task));
        let Some((peak, _, task)) = ready.map(step).min() else { break };
        peak_bytes = peak;
        let least = books.least(task);
        books.alone(task, least);
        tasks.push(task);
    }
    Order { tasks, peak_bytes }
}

/// How a set was reached.
struct Reached {
    peak_bytes: u64,
    from: u64,
    by: usize,
}

/// Every set that can matter, the lowest peak first; none when there are too many.
fn search(shape: &GraphShape) -> Option<Order> {
    let count = shape.tasks.len();
    if count == 0 || count > TASKS_MAX {
        return None;
    }
    let all = u64::MAX >> (64 - count);
    let start = Books::new(shape).booked_bytes();
    let mut reached = HashMap::from([(0, Reached { peak_bytes: start, from: 0, by: 0 })]);
    let mut open = BinaryHeap::from([Reverse((start, count, 0u64))]);
    while let Some(Reverse((peak, _, set))) = open.pop() {
        if set == all {
            return Some(Order { tasks: path(&reached, all), peak_bytes: peak });
        }
        if reached.len() > SETS_MAX {
            return None;
        }
        if reached.get(&set).is_some_and(|best| best.peak_bytes < peak) {
            continue;
        }
        for (task, peak_bytes) in steps(shape, set, peak) {
            let next = set | 1 << task;
            let known = reached.get(&next).map_or(u64::MAX, |known| known.peak_bytes);
            if peak_bytes < known || !reached.contains_key(&next) {
                reached.insert(next, Reached { peak_bytes, from: set, by: task });
                let left = count - next.count_ones() as usize;
                open.push(Reverse((peak_bytes, left, next)));
            }
        }
    }
    None
}

/// The tasks that may come after `set`, with the peak then: one alone, where it is as good as any.
fn steps(shape: &GraphShape, set: u64, peak: u64) -> Vec<(usize, u64)> {
    let mut books = Books::new(shape);
    for task in (0..shape.tasks.len()).filter(|task| set >> task & 1 == 1) {
        let least = books.least(task);
        books.alone(task, least);
    }
    let before = books.booked_bytes();
    let mut steps = Vec::new();
    for task in (0..shape.tasks.len()).filter(|task| books.is_ready(*task)) {
        let mut after = books.clone();
        let step = after.alone(task, books.least(task));
        if step <= peak && after.booked_bytes() <= before {
            return vec![(task, peak)];
        }
        steps.push((task, step.max(peak)));
    }
    steps
}

fn path(reached: &HashMap<u64, Reached>, all: u64) -> Vec<usize> {
    let mut tasks = Vec::new();
    let mut set = all;
    while let Some(how) = reached.get(&set).filter(|_| set != 0) {
        tasks.push(how.by);
        set = how.from;
    }
    tasks.reverse();
    tasks
}
