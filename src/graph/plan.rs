//! The order of starts and the room of each task, chosen for overlap under a budget.
//!
//! The plan walks through a run in which ends come as late as they can: as long as any task may
//! start, it starts. When none may, a task of the cores ends before one of the disk, which are
//! taken to be long. The next to start is
//!
//! 1. a task of the disk, since it leaves the cores to others;
//! 2. a task that one of the disk waits for;
//! 3. any other, in the order in which they were made,
//!
//! but only one after which the others still fit, one by one. Of the room that is left under the
//! budget, a task gets what it can use at best. A task of the disk that cannot have that leaves
//! room for the largest task that may run beside it.
//!
//! Must never: depend on anything but the shape and the budget.

use super::booking::Books;
use super::order::{self, Order};
use super::shape::{Bound, GraphShape};

/// One start of the walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) task: usize,
    /// What is booked once it has started.
    pub(super) booked_bytes: u64,
    /// Tasks that run then, itself left out.
    pub(super) beside: Vec<usize>,
    /// Starts, its own among them, before it ended.
    pub(super) ends_after: usize,
}

/// The order, the rooms, and the walk that they come from.
#[derive(Clone, Debug)]
pub(super) struct GraphPlan {
    pub(super) starts: Vec<Start>,
    /// By the task's number.
    pub(super) rooms: Vec<u64>,
}

struct PlanWalk<'s> {
    shape: &'s GraphShape,
    budget: u64,
    books: Books<'s>,
    /// As `books`, if every task that has started had ended.
    ended: Books<'s>,
    /// The tasks that have not started, in an order in which they fit one by one.
    rest: Vec<usize>,
    lead_to_disk: Vec<bool>,
    plan: GraphPlan,
}

/// Plans for `budget`, which `lowest` fits.
pub(super) fn plan(shape: &GraphShape, lowest: &Order, budget: u64) -> GraphPlan {
    debug_assert!(lowest.peak_bytes <= budget, "the caller refuses what does not fit");
    let mut walk = PlanWalk {
        shape,
        budget,
        books: Books::new(shape),
        ended: Books::new(shape),
        rest: lowest.tasks.clone(),
        lead_to_disk: shape.lead_to_disk(),
        plan: GraphPlan { starts: Vec::new(), rooms: vec![0; shape.tasks.len()] },
    };
    while !walk.rest.is_empty() {
        match walk.choice() {
            Some(task) => walk.start(task),
            None => walk.end_one(),
        }
    }
    while walk.books.running().next().is_some() {
        walk.end_one();
    }
    walk.plan
}

impl PlanWalk<'_> {
    /// The task that starts now; none if one has to end first.
    fn choice(&self) -> Option<usize> {
        let mut may: Vec<usize> =
            self.rest.iter().copied().filter(|t| self.may_start(*t)).collect();
        may.sort_by_key(|task| {
            let lane = self.shape.lane(*task, self.room(*task));
            (lane == Bound::Cores, !self.lead_to_disk[*task], *task)
        });
        may.into_iter().find(|task| self.others_fit_after(*task))
    }

    fn may_start(&self, task: usize) -> bool {
        let fits = self.free(task).is_some_and(|free| free >= self.books.least(task));
        fits && self.books.is_ready(task) && self.books.lane_is_free(task, self.room(task))
    }

    /// Bytes that are left for the room of `task`.
    fn free(&self, task: usize) -> Option<u64> {
        let taken = self.books.booked_bytes().saturating_add(self.books.fixed_bytes(task));
        self.budget.checked_sub(taken)
    }

    /// Whether those that have not started fit one by one once `task` has had its turn.
    fn others_fit_after(&self, task: usize) -> bool {
        if self.rest.first() == Some(&task) {
            return true;
        }
        let mut books = self.ended.clone();
        let least = books.least(task);
        let others: Vec<usize> = self.rest.iter().copied().filter(|other| *other != task).collect();
        books.alone(task, least) <= self.budget && order::peak_of(books, &others) <= self.budget
    }

    /// What `task` gets if it starts now.
    fn room(&self, task: usize) -> u64 {
        let (least, best) = (self.shape.tasks[task].least, self.shape.tasks[task].best);
        let Some(free) = self.free(task).filter(|free| *free >= least) else { return least };
        let wished = self.reserve(task, best);
        if free.checked_sub(wished).is_some_and(|left| left >= best) {
            return best;
        }
        // All in memory moves nothing, which is better than to move much beside another task.
        if self.shape.tasks[task].bound == Bound::Disk && free >= best && least < best {
            return best;
        }
        let kept = self.reserve(task, least);
        match free.checked_sub(kept).filter(|left| *left >= least) {
            Some(left) => left.min(best),
            None => free.min(best),
        }
    }

    /// What tasks that could run beside `task`, if that had `room`, need one after the other: the
    /// largest, and what all of them make, unless that is more than the largest.
    fn reserve(&self, task: usize, room: u64) -> u64 {
        let lane = self.shape.lane(task, room);
        let has_tail = self.shape.tasks[task].has_tail;
        let beside = |other: &usize| {
            let other_lane = self.shape.lane(*other, self.books.least(*other));
            *other != task && self.books.is_ready(*other) && (other_lane != lane || has_tail)
        };
        let (mut largest, mut made) = (0, 0u64);
        for other in self.rest.iter().copied().filter(beside) {
            largest =
                self.books.fixed_bytes(other).saturating_add(self.books.least(other)).max(largest);
            made = made.saturating_add(self.shape.made_bytes(&self.shape.tasks[other]));
        }
        if made <= largest { largest.saturating_add(made) } else { largest }
    }

    fn start(&mut self, task: usize) {
        let room = self.room(task);
        let beside = self.books.running().collect();
        self.books.start(task, room);
        let least = self.ended.least(task);
        self.ended.alone(task, least);
        self.rest.retain(|other| *other != task);
        self.plan.rooms[task] = room;
        let booked_bytes = self.books.booked_bytes();
        let ends_after = self.plan.starts.len() + 1;
        self.plan.starts.push(Start { task, booked_bytes, beside, ends_after });
    }

    /// Ends the task that is taken to be done first.
    fn end_one(&mut self) {
        let started = |task: &usize| self.plan.starts.iter().position(|s| s.task == *task);
        let is_disk = |task: &usize| self.shape.lane(*task, self.plan.rooms[*task]) == Bound::Disk;
        let first = self.books.running().min_by_key(|task| (is_disk(task), started(task)));
        let Some(task) = first else {
            unreachable!("the first of the rest fits when nothing runs")
        };
        self.books.finish(task);
        let count = self.plan.starts.len();
        if let Some(start) = started(&task).and_then(|at| self.plan.starts.get_mut(at)) {
            start.ends_after = count;
        }
    }
}
