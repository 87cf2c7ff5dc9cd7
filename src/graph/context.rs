//! What a task may know and say while it runs.

use crate::runtime::Runtime;
use crate::vectors::Vectors;
use plimsoll_arena::Secrecy;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a run hears from its tasks.
pub(super) trait Control: Sync {
    fn tail(&self, task: usize);
    fn is_stopping(&self) -> bool;
}

/// A running task's side of its graph.
pub struct Context<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) control: &'a dyn Control,
    pub(super) task: usize,
    pub(super) name: &'a str,
    pub(super) room_bytes: u64,
    pub(super) best_bytes: u64,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("room_bytes", &self.room_bytes)
            .finish_non_exhaustive()
    }
}

impl Context<'_> {
    /// Returns the task's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        self.runtime
    }

    /// Returns what makes vectors of this secrecy; their errors name the task.
    #[must_use]
    pub fn vectors(&self, secrecy: Secrecy) -> Vectors<'_> {
        Vectors::new(self.runtime, self.name, secrecy)
    }

    /// Returns the bytes that the task may use beyond its values: at least its least need, at most
    /// its best.
    #[must_use]
    pub fn room_bytes(&self) -> u64 {
        self.room_bytes
    }

    /// Returns whether the task has all the room that it can use.
    #[must_use]
    pub fn has_best(&self) -> bool {
        self.room_bytes >= self.best_bytes
    }

    /// Says that the task uses one core from here on, so that the next task may start. Does nothing
    /// if the task was not declared to have a [tail](super::Task::tail).
    pub fn tail(&self) {
        self.control.tail(self.task);
    }

    /// Returns whether the run is ending early. A long task asks now and then, and returns.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.control.is_stopping()
    }
}

/// Cancels a run, from any thread: no task starts any more, and those that run may ask
/// [`Context::is_stopping`]. Clones cancel the same run.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    flag: Arc<AtomicBool>,
}

impl Cancel {
    /// Cancels the run.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Returns whether somebody has cancelled the run.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}
