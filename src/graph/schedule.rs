//! A schedule: what a graph will do under a budget, to be printed, drawn, or run.

use super::booking::Admission;
use super::error::GraphError;
use super::explore::peak_of_all;
use super::leave::{self, Move, Moves};
use super::order::{Order, lowest};
use super::plan::{GraphPlan, plan};
use super::shape::{Bound, GraphShape};
use crate::stage::planned::{MovedValue, Planned, Step};

/// Which graph, and how far it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) graph: u64,
    pub(super) revision: u64,
}

/// What a graph will do under a budget: order, overlaps, rooms, who leaves when, and the peak.
///
/// Made by [`Graph::schedule`](super::Graph::schedule), run by [`Graph::run`](super::Graph::run).
/// The same graph and the same budget give the same schedule. Its [`Display`](std::fmt::Display) is
/// a table.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub(super) name: String,
    pub(super) stamp: Stamp,
    pub(super) shape: GraphShape,
    pub(super) order: Vec<usize>,
    pub(super) plan: GraphPlan,
    pub(super) moves: Vec<Moves>,
    pub(super) budget_bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) smallest_bytes: u64,
}

impl Schedule {
    pub(super) fn new(
        name: &str,
        stamp: Stamp,
        shape: &GraphShape,
        budget_bytes: u64,
    ) -> Result<Self, GraphError> {
        let Order { peak_bytes: smallest_bytes, tasks } = lowest(shape);
        if smallest_bytes > budget_bytes {
            let graph = name.to_owned();
            return Err(GraphError::DoesNotFit { graph, budget_bytes, smallest_bytes });
        }
        let plan = plan(shape, &Order { peak_bytes: smallest_bytes, tasks }, budget_bytes);
        let order: Vec<usize> = plan.starts.iter().map(|start| start.task).collect();
        let runs = Admission::new(shape, &order, &plan.rooms, budget_bytes);
        let peak_bytes = peak_of_all(&runs, budget_bytes);
        let moves = leave::moves(shape, &plan, budget_bytes);
        let (name, shape) = (name.to_owned(), shape.clone());
        Ok(Self {
            name,
            stamp,
            shape,
            order,
            plan,
            moves,
            budget_bytes,
            peak_bytes,
            smallest_bytes,
        })
    }

    /// Returns the graph's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the budget in bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// Returns the most bytes that are booked at once, whichever task ends first. Values that could
    /// leave and have not are not in it: they have what it leaves of the budget.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Returns the smallest budget in bytes that the same graph can be scheduled for.
    #[must_use]
    pub fn smallest_bytes(&self) -> u64 {
        self.smallest_bytes
    }

    /// Returns the bytes of values that leave memory, over the whole run.
    #[must_use]
    pub fn leaving_bytes(&self) -> u64 {
        let left = self.moves.iter().flat_map(|moves| &moves.leave);
        left.map(|moved| self.shape.values[moved.value].bytes).fold(0, u64::saturating_add)
    }

    /// Returns the starts in their order.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        let step = |(start, moves): (&super::plan::Start, &Moves)| {
            let task = &self.shape.tasks[start.task];
            let room_bytes = self.plan.rooms[start.task];
            let moved = |moves: &[Move]| {
                let of = |moved: &Move| MovedValue {
                    value: self.value(moved.value),
                    bytes: moved.bytes,
                };
                moves.iter().map(of).collect()
            };
            let place = |name: &usize| self.shape.tasks[*name].name.clone();
            let is_of_disk = self.shape.lane(start.task, room_bytes) == Bound::Disk;
            let steps = start.ends_after - self.place_of(start.task);
            Step {
                room_bytes,
                best_bytes: task.best,
                booked_bytes: start.booked_bytes,
                beside: start.beside.iter().map(place).collect(),
                leave: moved(&moves.leave),
                come: moved(&moves.come),
                prefetch: moves.prefetch.iter().map(|value| self.value(*value)).collect(),
                ..Step::new(&task.name, is_of_disk, steps)
            }
        };
        self.plan.starts.iter().zip(&self.moves).map(step).collect()
    }

    /// Returns the figures and the starts in one.
    #[must_use]
    pub fn planned(&self) -> Planned {
        let figures = [self.budget_bytes, self.peak_bytes, self.smallest_bytes];
        Planned::new(&self.name, figures, self.steps())
    }

    fn place_of(&self, task: usize) -> usize {
        self.order.iter().position(|other| *other == task).unwrap_or_default()
    }

    fn value(&self, value: usize) -> String {
        self.shape.values[value].name.clone()
    }
}
