//! The shape of a graph: names, sizes, needs and who uses what; no values and no code.
//!
//! ```text
//!   value        in memory, for certain                              otherwise
//!   stays        from the start of its maker to the end of its       -
//!                last user
//!   spills       while a task that runs uses or makes it whole       its packed copy, or nothing
//! ```
//!
//! Edges go forward: a task names only values of tasks before it, and a taker comes after every
//! reader. So the order in which tasks were made is one in which they can run.

/// What is short while a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The processors: one such task runs at a time, on all of them.
    Cores,
    /// The disk: the task leaves processors idle, so that a task of the processors may run beside
    /// it.
    Disk,
}

/// How a task uses a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) value: usize,
    /// Whether all of it is in memory while the task runs.
    pub(super) whole: bool,
    pub(super) takes: bool,
}

/// A task as the schedule sees it.
#[derive(Clone, Debug)]
pub(super) struct TaskShape {
    pub(super) name: String,
    pub(super) bound: Bound,
    pub(super) least: u64,
    pub(super) best: u64,
    /// Whether it says when its parallel part is over.
    pub(super) has_tail: bool,
    pub(super) uses: Vec<Use>,
    pub(super) makes: usize,
    /// Whether all of what it makes is in memory, beside its room, while it runs.
    pub(super) makes_whole: bool,
    /// Tasks that must have ended before it starts.
    pub(super) after: Vec<usize>,
}

/// A value as the schedule sees it.
#[derive(Clone, Debug)]
pub(super) struct ValueShape {
    /// Its own name where it is given, else its maker's.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Bytes that it keeps in memory while it is away; `None` for a value that stays.
    pub(super) away: Option<u64>,
    /// Its maker; none for a value that is given.
    pub(super) maker: Option<usize>,
    pub(super) users: Vec<usize>,
    pub(super) taken: bool,
    /// Whether the caller wants it when all tasks have ended.
    pub(super) wanted: bool,
}

impl ValueShape {
    /// Bytes in memory for as long as it lives, used or not.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.away.map_or(self.bytes, |away| away.min(self.bytes))
    }

    /// Bytes that come on top while it is used whole.
    pub(super) fn pinned_bytes(&self) -> u64 {
        self.bytes - self.kept_bytes()
    }

    /// Whether any task uses it, or the caller wants it.
    pub(super) fn is_needed(&self) -> bool {
        self.wanted || !self.users.is_empty()
    }

    pub(super) fn spills(&self) -> bool {
        self.away.is_some()
    }

    /// Bytes that move when it leaves, or when it comes back: the packed copy's, where it packs.
    pub(super) fn moved_bytes(&self) -> u64 {
        match self.kept_bytes() {
            0 => self.bytes,
            packed => packed,
        }
    }
}

/// All tasks and values of a graph, each by its number.
#[derive(Clone, Debug, Default)]
pub(super) struct GraphShape {
    pub(super) tasks: Vec<TaskShape>,
    pub(super) values: Vec<ValueShape>,
}

impl GraphShape {
    /// Bytes of what `task` makes while it runs.
    pub(super) fn made_bytes(&self, task: &TaskShape) -> u64 {
        let made = &self.values[task.makes];
        if task.makes_whole { made.bytes } else { made.kept_bytes() }
    }

    /// The lane of a task that was given `room`: with the best that it can use, it has no reason to
    /// wait for the disk.
    pub(super) fn lane(&self, task: usize, room: u64) -> Bound {
        let task = &self.tasks[task];
        let all_in_memory = task.least < task.best && room >= task.best;
        if all_in_memory { Bound::Cores } else { task.bound }
    }

    /// Tasks that must end before others that wait for the disk can start.
    pub(super) fn lead_to_disk(&self) -> Vec<bool> {
        let mut lead = vec![false; self.tasks.len()];
        for (task, shape) in self.tasks.iter().enumerate().rev() {
            if lead[task] || shape.bound == Bound::Disk {
                for before in &shape.after {
                    lead[*before] = true;
                }
            }
        }
        lead
    }
}
