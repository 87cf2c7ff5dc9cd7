//! The pager: memory that looks ordinary, keeps to a budget, and goes to a file when it must.
//!
//! ```text
//!   program touches data      resident: nothing happens, ever
//!                             absent:   userfaultfd tells the leader; the thread waits
//!
//!            evict             write, or drop if clean
//!   data ----------> limbo ----------------------------> spill file
//!        <----------       <--------- read ahead -------
//!           rescue            \                         \
//!        <-------- demand ---- packed memory             |
//!        <------------------------- demand --------------+
//! ```
//!
//! A page is never copied on its way: it is *moved* between ranges of addresses (`UFFDIO_MOVE`,
//! Linux 6.8), which is atomic, takes 1 us for a huge page and keeps it huge.
//!
//! # Words
//!
//! | word | meaning |
//! |---|---|
//! | granule | 64 KiB, the least that is moved |
//! | chunk | 2 MiB of the data range, 32 granules, a huge page where possible |
//! | frame | 2 MiB of addresses for pages that are not in data |
//! | limbo | frames whose contents were evicted a short while ago: a touch brings them back |
//! | shelf | 64 KiB of memory for granules that pack to half or less |
//! | slot | 2 MiB of the spill file |
//! | dead | contents that nobody needs any more: dropped, not written |
//!
//! # Invariants
//!
//! * `data + limbo + in flight + spare + shelves = held <= budget`, counted before pages are made
//!   and after they are given back. The one exception is counted as an overdraft: all pages
//!   pinned by system calls of which one waits for another page, or a few granules under a
//!   smaller budget still, that come from shelves which cannot be given back before they are there.
//! * what a thread reads is what was last written there, or zero where nothing was; if that cannot
//!   be had, the process ends with a message. It never goes on with other bytes.
//! * nothing on the way of a fault allocates, takes a lock of `std`, or writes a log.
//!
//! The rooms: `state` the legal moves, `in_hand` who has a granule meanwhile, `space` the ranges,
//! `core` the tables with `queues`, `slots` and `ids`, `engine` memory,
//! `launder` and `load` the two directions, `packed` the memory on the way, of which `shelves` is
//! the table and `press` the codec, `streams` and `reversed` who reads on, `worker` the
//! threads, `watch` who sees that one is gone, `following` and `process` the limit, `held` what is
//! held, `stats` what is told of it. docs/pager-internals.md has the details.

mod advised;
mod blocks;
mod build_error;
mod builder;
mod core;
mod crew;
mod engine;
mod entry;
mod evict;
mod face;
mod fixed;
mod following;
mod frame;
mod frames;
mod held;
mod hints;
mod ids;
mod in_hand;
mod launder;
mod load;
mod moves;
mod packed;
mod paged;
mod plan;
mod planning;
mod policy;
mod press;
mod probe;
mod process;
mod proofs;
mod queues;
mod record;
mod replay;
mod reversed;
mod shelves;
mod simulate;
mod slots;
mod space;
mod sparse;
mod state;
mod stats;
mod streams;
mod sync;
mod sys;
mod tables;
mod thrash;
mod trace;
mod uffd;
mod watch;
mod worker;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_check;
#[cfg(test)]
mod tests_contents;
#[cfg(test)]
mod tests_end;
#[cfg(test)]
mod tests_huge;
#[cfg(test)]
mod tests_kernel;
#[cfg(test)]
mod tests_packed;
#[cfg(test)]
mod tests_plan;
#[cfg(test)]
mod tests_rows;
#[cfg(test)]
mod tests_trace;

pub use build_error::BuildError;
pub use builder::PagerBuilder;
pub use face::Pager;
pub use hints::{cold, process, will_need};
pub use paged::Paged;
pub use planning::{PlanError, PlanUse};
pub use probe::{Obstacle, Probe, UserMode, probe};
pub use simulate::{Eviction, Moves, Played};
pub use space::{CHUNK_BYTES, GRANULE_BYTES};
pub use stats::PagerStats;
pub use thrash::{FailFast, Thrash};
pub use trace::{Seen, Trace, TraceEvent, TraceFault};
pub use uffd::Door;
