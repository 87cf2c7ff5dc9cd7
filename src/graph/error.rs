//! What can be wrong with a graph, and how a run can end early.

use crate::error::Error;
use crate::limit::format_bytes;

/// What is wrong with a graph, or with what is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// A task was given a value of another graph.
    #[error("task \"{task}\" uses a value of another graph; make the task in that graph")]
    Foreign {
        /// The task.
        task: String,
    },

    /// A task was to use a value that an earlier one takes.
    #[error(
        "task \"{task}\" uses what \"{maker}\" made, and a task before it takes that; let the one \
         that takes come last"
    )]
    Taken {
        /// The task.
        task: String,
        /// What made the value.
        maker: String,
    },

    /// A task needs more at least than it can use at best.
    #[error(
        "task \"{task}\" needs {} at least and can use {} at best; name the smaller one first",
        format_bytes(*least_bytes),
        format_bytes(*best_bytes)
    )]
    Needs {
        /// The task.
        task: String,
        /// The least.
        least_bytes: u64,
        /// The best.
        best_bytes: u64,
    },

    /// A value is not of the graph that is asked for it.
    #[error("the value is not one of graph \"{graph}\"; ask the graph that it was made in")]
    Elsewhere {
        /// The graph.
        graph: String,
    },

    /// No order of the tasks is known that fits.
    #[error(
        "graph \"{graph}\" does not fit in {}; the smallest budget that would do is {}MiB",
        format_bytes(*budget_bytes),
        smallest_bytes.div_ceil(1 << 20)
    )]
    DoesNotFit {
        /// The graph.
        graph: String,
        /// The budget.
        budget_bytes: u64,
        /// The smallest budget that would do.
        smallest_bytes: u64,
    },

    /// A schedule is of another graph, or of this one before it was changed.
    #[error("the schedule is not of graph \"{graph}\" as it is now; schedule it again")]
    Stale {
        /// The graph.
        graph: String,
    },

    /// Values must leave memory, and the runtime has no spill tier.
    #[error(
        "graph \"{graph}\" fits only if {} leave memory, and the runtime has nowhere to spill to; \
         build it with spill options, or raise the budget",
        format_bytes(*leaving_bytes)
    )]
    NowhereToSpill {
        /// The graph.
        graph: String,
        /// Bytes that leave, over the whole run.
        leaving_bytes: u64,
    },
}

/// Why a run ended before all of its tasks had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError<E> {
    /// The run did not begin.
    #[error(transparent)]
    Graph(#[from] GraphError),

    /// A task's own error.
    #[error("task \"{task}\": {error}")]
    Task {
        /// The task.
        task: String,
        /// What it returned.
        error: E,
    },

    /// The stage of a task could not begin.
    #[error("task \"{task}\" could not begin: {error}")]
    Stage {
        /// The task.
        task: String,
        /// What the runtime said.
        error: Error,
    },

    /// A task panicked.
    #[error("task \"{task}\" panicked: {message}; this is a fault of the task's program")]
    Panicked {
        /// The task.
        task: String,
        /// The panic's message, where it is text.
        message: String,
    },

    /// Somebody cancelled the run.
    #[error("the run was cancelled before task \"{task}\"")]
    Cancelled {
        /// The first task that did not start, or did not end.
        task: String,
    },

    /// The threads that run tasks could not be made.
    #[error("no thread to run tasks: {error}; raise the limit on threads (ulimit -u)")]
    Threads {
        /// What the system said.
        error: std::io::Error,
    },
}
