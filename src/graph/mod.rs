//! A graph of stages: tasks say what they take, read, make and need, and run in an order that is
//! known beforehand.
//!
//! ```text
//!   Graph     given, task..makes -> Token     what there is, who makes what, with sizes
//!     | schedule(budget)                      pure: order, overlaps, rooms, peak, who leaves when
//!   Schedule  prints itself; recordings and their pages have it, too
//!     | run(schedule, runtime)                starts in that order, each task in a stage
//!   Ran       reports, wanted values
//! ```
//!
//! ```
//! use plimsoll::graph::{Graph, Size};
//! use plimsoll::{Error, Runtime, Secrecy};
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let mut graph: Graph<'_, Error> = Graph::new("sums");
//! let column = graph.task("column", ()).makes(Size::stays(8 << 20), |task, ()| {
//!     task.vectors(Secrecy::Public).filled(1 << 20, 3u64)
//! })?;
//! let sum = graph
//!     .task("sum", column.read())
//!     .needs(4 << 10)
//!     .makes(Size::stays(8), |_, column| Ok(column.iter().sum::<u64>()))?;
//! let len = graph.task("len", column.take()).makes(Size::stays(8), |_, column| Ok(column.len()))?;
//! let (sum, len) = (graph.want(sum)?, graph.want(len)?);
//!
//! let schedule = graph.schedule(64 << 20)?;
//! println!("{schedule}");
//! let ran = graph.run(&schedule, &runtime)?;
//! assert_eq!((ran.take(sum)?, ran.take(len)?), (3 << 20, 1 << 20));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is booked for a task: its room, what it makes, and what it uses whole. Values that can
//! leave memory take what the budget has left. The rules of the order are in `booking`, and
//! docs/graph.md says when a graph is worth it.
//!
//! What cannot be written: a second taker, a circle, a reader after the taker (unless its right to
//! read is older, which is [`GraphError::Taken`]).

mod booking;
mod build;
mod context;
mod error;
mod explore;
mod idle;
mod leave;
mod order;
mod plan;
mod run;
mod schedule;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub use crate::stage::planned::{MovedValue, Planned, Step};
pub use build::{Graph, Task, Wanted};
pub use context::{Cancel, Context};
pub use error::{GraphError, RunError};
pub use run::Ran;
pub use schedule::Schedule;
pub use token::{Declared, Inputs, Leaves, Read, Size, Take, Token};

/// The page's program is a test.
#[cfg(doctest)]
#[doc = include_str!("../../docs/graph.md")]
struct Page;
