//! Which values leave memory before which start, and when they are read in again.
//!
//! Values that spill stay in memory beside what is booked, as long as there is room. When there is
//! none, the one leaves whose next use is farthest away, weighted by what it frees for each byte
//! that moves: `distance * freed / moved`. Bytes that pack move little; a value that has left
//! before and was only read since is not written again.
//!
//! Source: L. Belady, "A study of replacement algorithms for a virtual-storage computer", 1966, for
//! the distance; the weight is the greedy rule for items of unequal cost.

use super::booking::Books;
use super::plan::{GraphPlan, Start};
use super::shape::GraphShape;

/// A value that leaves or comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) value: usize,
    /// Bytes that are written, or read.
    pub(super) bytes: u64,
}

/// What moves about one start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// Leave before it starts.
    pub(super) leave: Vec<Move>,
    /// Must be there when it starts, and are not.
    pub(super) come: Vec<Move>,
    /// Values for the next start that are read in while this one runs.
    pub(super) prefetch: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// Not made yet, or not needed any more.
    Nowhere,
    /// In memory, `clean` if it has a copy.
    Here {
        clean: bool,
    },
    Away,
}

struct LeaveWalk<'s> {
    shape: &'s GraphShape,
    budget: u64,
    books: Books<'s>,
    /// Place of each task in the order.
    place: Vec<usize>,
    at: Vec<Where>,
}

/// The place of each task in the order of `starts`.
pub(super) fn places<'a>(starts: impl Iterator<Item = &'a Start>, count: usize) -> Vec<usize> {
    let mut places = vec![0; count];
    for (place, start) in starts.enumerate() {
        places[start.task] = place;
    }
    places
}

/// Starts from `place` until the next use of `value`; all that are left, if the caller wants it.
pub(super) fn distance(shape: &GraphShape, places: &[usize], value: usize, place: usize) -> u64 {
    let next = shape.values[value].users.iter().map(|task| places[*task]);
    let next = next.filter(|at| *at >= place).min().unwrap_or(shape.tasks.len());
    (next - place) as u64
}

/// The moves of a run as `plan` has it, for each of its starts.
pub(super) fn moves(shape: &GraphShape, plan: &GraphPlan, budget: u64) -> Vec<Moves> {
    let at = |value: &super::shape::ValueShape| match value.maker {
        None if value.spills() && value.is_needed() => Where::Here { clean: false },
        _ => Where::Nowhere,
    };
    let mut walk = LeaveWalk {
        shape,
        budget,
        books: Books::new(shape),
        place: places(plan.starts.iter(), shape.tasks.len()),
        at: shape.values.iter().map(at).collect(),
    };
    let mut moves: Vec<Moves> = Vec::new();
    for (place, start) in plan.starts.iter().enumerate() {
        walk.end_all(plan, place);
        let mut here = walk.start(start.task, plan.rooms[start.task], place);
        if let Some(before) = moves.last_mut() {
            before.prefetch = walk.prefetched(&here.come, plan, place);
        }
        here.come.retain(|moved| moved.bytes > 0);
        moves.push(here);
    }
    moves
}

impl LeaveWalk<'_> {
    /// Ends the tasks that have ended when the start at `place` comes.
    fn end_all(&mut self, plan: &GraphPlan, place: usize) {
        let over = plan.starts[..place].iter().filter(|start| start.ends_after <= place);
        let over: Vec<usize> =
            over.map(|start| start.task).filter(|task| self.books.runs(*task)).collect();
        for task in over {
            self.books.finish(task);
            let made = self.shape.tasks[task].makes;
            if self.shape.values[made].spills() {
                let here = self.shape.tasks[task].makes_whole || self.fits_besides(made);
                self.at[made] = if here { Where::Here { clean: false } } else { Where::Away };
            }
            for value in 0..self.at.len() {
                if self.at[value] != Where::Nowhere && !self.books.lives(value) {
                    self.at[value] = Where::Nowhere;
                }
            }
        }
    }

    fn start(&mut self, task: usize, room: u64, place: usize) -> Moves {
        let shape = self.shape;
        self.books.start(task, room);
        let mut moves = Moves::default();
        for used in shape.tasks[task].uses.iter().filter(|used| used.whole) {
            if self.at[used.value] == Where::Away {
                let bytes = shape.values[used.value].moved_bytes();
                moves.come.push(Move { value: used.value, bytes });
                self.at[used.value] = Where::Here { clean: true };
            }
        }
        while self.counted_bytes() > self.budget {
            let Some(moved) = self.next_to_leave(place) else { break };
            self.at[moved.value] = Where::Away;
            moves.leave.push(moved);
        }
        moves
    }

    fn is_idle(&self, value: usize) -> bool {
        matches!(self.at[value], Where::Here { .. }) && !self.books.is_pinned(value)
    }

    /// What is booked, and the values in memory that nobody uses.
    fn counted_bytes(&self) -> u64 {
        let idle = (0..self.at.len()).filter(|value| self.is_idle(*value));
        let idle = idle.map(|value| self.shape.values[value].pinned_bytes());
        idle.fold(self.books.booked_bytes(), u64::saturating_add)
    }

    fn fits_besides(&self, value: usize) -> bool {
        let bytes = self.shape.values[value].pinned_bytes();
        self.counted_bytes().saturating_add(bytes) <= self.budget
    }

    /// The idle value with the highest `distance * freed / moved`.
    fn next_to_leave(&self, place: usize) -> Option<Move> {
        let moved = |value: usize| {
            let bytes = self.shape.values[value].moved_bytes();
            match self.at[value] {
                Where::Here { clean: true } => (0, bytes),
                _ => (bytes, bytes.saturating_mul(2)),
            }
        };
        let weight = |value: usize| {
            let distance = distance(self.shape, &self.place, value, place);
            let gain = u128::from(distance) * u128::from(self.shape.values[value].pinned_bytes());
            (gain, u128::from(moved(value).1.max(1)))
        };
        let idle = (0..self.at.len()).filter(|value| self.is_idle(*value));
        let freeing = idle.filter(|value| self.shape.values[*value].pinned_bytes() > 0);
        let most = freeing.max_by(|a, b| {
            let ((gain, cost), (other_gain, other_cost)) = (weight(*a), weight(*b));
            let (left, right) = (gain.saturating_mul(other_cost), other_gain.saturating_mul(cost));
            left.cmp(&right).then(b.cmp(a))
        })?;
        Some(Move { value: most, bytes: moved(most).0 })
    }

    /// Which of `come`, needed at `place`, fit into memory already while the task before runs.
    fn prefetched(&self, come: &[Move], plan: &GraphPlan, place: usize) -> Vec<usize> {
        let before = plan.starts[place - 1].booked_bytes;
        let mut left = self.budget.saturating_sub(before);
        let mut values = Vec::new();
        for moved in come {
            let bytes = self.shape.values[moved.value].pinned_bytes();
            let made_before =
                self.shape.values[moved.value].maker != Some(plan.starts[place - 1].task);
            if made_before && bytes <= left {
                left -= bytes;
                values.push(moved.value);
            }
        }
        values
    }
}
