//! The books: which bytes are promised to whom, and which task may start next.
//!
//! ```text
//!   order    a  b  c  d  e           next = c: it starts as soon as
//!            |  |  ^                   what it uses is made,
//!            |  +- runs                its lane is free (cores or disk),
//!            +---- ended               booked + its bytes <= budget
//! ```
//!
//! Nobody overtakes. When all tasks before the next one have ended, what is booked is what a single
//! runner would have at this point of the order, and the schedule saw to it that the next one fits
//! there. An end never adds to what is booked, so the next one can always start sooner or later,
//! whatever ends first: no deadlock.
//!
//! Invariants: `booked <= budget`; one task a lane, and one in its tail besides; the same calls
//! give the same starts.
//!
//! Must never: wait, look at a clock, or ask how much memory there is.
//!
//! Source of the rule: L. Eyraud-Dubois, L. Marchal, O. Sinnen, F. Vivien, "Parallel scheduling of
//! task trees with limited memory", 2015: book in the order of a traversal that is known to fit.

use super::shape::{Bound, GraphShape};

/// Tasks that run at once: one on the cores, one in its tail, one at the disk.
pub(super) const RUNNING_MAX: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TaskState {
    Waits,
    Runs,
    /// It runs, and uses one core at most.
    Tail,
    Ended,
}

/// Why the next task does not start yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// All have started.
    Over,
    /// A task that must end before it has not.
    After,
    /// Its lane is taken.
    Lane,
    /// Bytes are missing.
    Bytes,
}

/// What is booked, by whom.
#[derive(Clone, Debug)]
pub(super) struct Books<'s> {
    shape: &'s GraphShape,
    booked: u64,
    /// Tasks that run and use a value whole.
    pins: Vec<u32>,
    /// Users that have not ended.
    users: Vec<usize>,
    state: Vec<TaskState>,
    room: Vec<u64>,
}

impl<'s> Books<'s> {
    /// Nothing has started; values that were given, and that somebody needs, are there.
    pub(super) fn new(shape: &'s GraphShape) -> Self {
        let given = shape.values.iter().filter(|value| value.maker.is_none() && value.is_needed());
        let booked = given.fold(0, |sum: u64, value| sum.saturating_add(value.kept_bytes()));
        Self {
            shape,
            booked,
            pins: vec![0; shape.values.len()],
            users: shape.values.iter().map(|value| value.users.len()).collect(),
            state: vec![TaskState::Waits; shape.tasks.len()],
            room: vec![0; shape.tasks.len()],
        }
    }

    pub(super) fn booked_bytes(&self) -> u64 {
        self.booked
    }

    pub(super) fn state(&self, task: usize) -> TaskState {
        self.state[task]
    }

    pub(super) fn runs(&self, task: usize) -> bool {
        matches!(self.state[task], TaskState::Runs | TaskState::Tail)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.state.len()).filter(|task| self.runs(*task))
    }

    /// Whether every task that `task` comes after has ended.
    pub(super) fn is_ready(&self, task: usize) -> bool {
        let after = &self.shape.tasks[task].after;
        self.state[task] == TaskState::Waits
            && after.iter().all(|before| self.state[*before] == TaskState::Ended)
    }

    /// Whether a task with `room` finds its lane free.
    pub(super) fn lane_is_free(&self, task: usize, room: u64) -> bool {
        let lane = self.shape.lane(task, room);
        let mut tails = 0;
        for other in self.running() {
            match self.state[other] {
                TaskState::Tail => tails += 1,
                _ if self.shape.lane(other, self.room[other]) == lane => return false,
                _ => {}
            }
        }
        lane == Bound::Disk || tails < 2
    }

    /// Bytes that the start of `task` would add, its room left out.
    pub(super) fn fixed_bytes(&self, task: usize) -> u64 {
        let shape = &self.shape.tasks[task];
        let pinned = shape.uses.iter().filter(|used| used.whole && self.pins[used.value] == 0);
        let pinned = pinned.map(|used| self.shape.values[used.value].pinned_bytes());
        pinned.fold(self.shape.made_bytes(shape), u64::saturating_add)
    }

    pub(super) fn is_pinned(&self, value: usize) -> bool {
        let makes = |task: &usize| {
            self.shape.tasks[*task].makes == value && self.shape.tasks[*task].makes_whole
        };
        self.pins[value] > 0 || self.running().any(|task| makes(&task))
    }

    /// Whether the value is made, and somebody will still use it.
    pub(super) fn lives(&self, value: usize) -> bool {
        let shape = &self.shape.values[value];
        let made = shape.maker.is_none_or(|maker| self.state[maker] == TaskState::Ended);
        made && (self.users[value] > 0 || shape.wanted)
    }

    pub(super) fn start(&mut self, task: usize, room: u64) {
        debug_assert_eq!(self.state[task], TaskState::Waits, "a task starts once");
        let added = self.fixed_bytes(task).saturating_add(room);
        self.booked = self.booked.saturating_add(added);
        for used in self.shape.tasks[task].uses.iter().filter(|used| used.whole) {
            self.pins[used.value] += 1;
        }
        self.state[task] = TaskState::Runs;
        self.room[task] = room;
    }

    /// Notes that a task uses one core from now on. Only one that said so beforehand does.
    pub(super) fn tail(&mut self, task: usize) -> bool {
        let may = self.shape.tasks[task].has_tail && self.state[task] == TaskState::Runs;
        let may = may && self.shape.lane(task, self.room[task]) == Bound::Cores;
        if may {
            self.state[task] = TaskState::Tail;
        }
        may
    }

    /// The least room of `task`.
    pub(super) fn least(&self, task: usize) -> u64 {
        self.shape.tasks[task].least
    }

    /// Counts `task` among the users of no value any more, and returns the values that nobody
    /// needs now. They stay booked until the task has [ended](Self::end).
    pub(super) fn let_go(&mut self, task: usize) -> Vec<usize> {
        let shape = &self.shape.tasks[task];
        for used in &shape.uses {
            self.users[used.value] -= 1;
        }
        let values = shape.uses.iter().map(|used| used.value).chain([shape.makes]);
        values.filter(|value| self.is_unused(*value)).collect()
    }

    fn is_unused(&self, value: usize) -> bool {
        self.users[value] == 0 && !self.shape.values[value].wanted
    }

    /// Takes off what a task that let go had booked, and the values in `gone`.
    pub(super) fn end(&mut self, task: usize, gone: &[usize]) {
        let shape = &self.shape.tasks[task];
        let made = &self.shape.values[shape.makes];
        let mut freed = self.room[task];
        if shape.makes_whole {
            freed = freed.saturating_add(made.pinned_bytes());
        }
        for used in shape.uses.iter().filter(|used| used.whole) {
            self.pins[used.value] -= 1;
            if self.pins[used.value] == 0 {
                freed = freed.saturating_add(self.shape.values[used.value].pinned_bytes());
            }
        }
        for value in gone {
            freed = freed.saturating_add(self.shape.values[*value].kept_bytes());
        }
        self.booked = self.booked.saturating_sub(freed);
        self.state[task] = TaskState::Ended;
    }

    /// A task that lets go and ends in one.
    pub(super) fn finish(&mut self, task: usize) {
        let gone = self.let_go(task);
        self.end(task, &gone);
    }

    /// Starts and ends `task` alone, and returns what was booked in between.
    pub(super) fn alone(&mut self, task: usize, room: u64) -> u64 {
        self.start(task, room);
        let peak = self.booked;
        self.finish(task);
        peak
    }
}

/// The order of starts, and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Admission<'s> {
    pub(super) books: Books<'s>,
    order: &'s [usize],
    rooms: &'s [u64],
    budget: u64,
    next: usize,
}

impl<'s> Admission<'s> {
    /// `order` has every task, and `rooms` what each of them gets, by its number.
    pub(super) fn new(
        shape: &'s GraphShape,
        order: &'s [usize],
        rooms: &'s [u64],
        budget: u64,
    ) -> Self {
        Self { books: Books::new(shape), order, rooms, budget, next: 0 }
    }

    /// The next task, whether it may start or not, and its place in the order.
    pub(super) fn next(&self) -> Option<(usize, usize)> {
        self.order.get(self.next).map(|task| (self.next, *task))
    }

    /// Tasks that have started.
    pub(super) fn started(&self) -> usize {
        self.next
    }

    /// Starts the next task, or says why it has to wait.
    pub(super) fn start(&mut self) -> Result<usize, Blocked> {
        let Some((_, task)) = self.next() else { return Err(Blocked::Over) };
        let room = self.rooms[task];
        if !self.books.is_ready(task) {
            return Err(Blocked::After);
        }
        if !self.books.lane_is_free(task, room) {
            return Err(Blocked::Lane);
        }
        let added = self.books.fixed_bytes(task).saturating_add(room);
        if self.books.booked_bytes().saturating_add(added) > self.budget {
            return Err(Blocked::Bytes);
        }
        self.books.start(task, room);
        self.next += 1;
        Ok(task)
    }
}
