//! The most that can be booked at once, whichever task ends first.
//!
//! A run is at a place of the order with at most three tasks running, so there are few states:
//! every one that ends and tails can lead to is visited.

use super::booking::{Admission, TaskState};
use std::collections::HashSet;

/// States that are visited: some tenths of a second. Beyond that the budget is the answer, which
/// is never exceeded.
const STATES_MAX: usize = 1 << 14;

/// The tasks that have started, and those of them that run, in which way.
type Seen = (usize, Vec<(usize, TaskState)>);

/// The most that is booked at once in any run from `admission` on; `budget` where there are too
/// many runs.
pub(super) fn peak_of_all(admission: &Admission<'_>, budget: u64) -> u64 {
    let mut seen: HashSet<Seen> = HashSet::new();
    let mut peak = admission.books.booked_bytes();
    let mut open = vec![admission.clone()];
    while let Some(mut now) = open.pop() {
        while now.start().is_ok() {
            peak = peak.max(now.books.booked_bytes());
        }
        let running: Vec<(usize, TaskState)> =
            now.books.running().map(|task| (task, now.books.state(task))).collect();
        if !seen.insert((now.started(), running.clone())) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return budget;
        }
        for (task, _) in running {
            let mut ended = now.clone();
            ended.books.finish(task);
            open.push(ended);
            let mut tail = now.clone();
            if tail.books.tail(task) {
                open.push(tail);
            }
        }
    }
    peak
}
