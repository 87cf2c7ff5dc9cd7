//! What a policy of eviction would move for a recorded run: nothing runs, a trace is played.
//!
//! ```text
//!   trace --steps--> touches of granules, deaths --played under a budget--> granules read, written
//!
//!   queue     the oldest granule leaves
//!   present   chunks, limbo and circles, as the pager does it without a plan
//!   best      the granule leaves that is wanted last: nobody can read less (Belady, 1966)
//!   planned   as the pager does it with the trace of another run as its plan
//! ```
//!
//! The pager's own vote and its own clock of a plan are played, not likenesses of them. Only a
//! touch of what is not in data is told them, as in a run. Huge pages are not played, nor what
//! stays in limbo since it is wanted soon.
//!
//! What a trace does not have: touches of what was in data, which a recording makes rare
//! (record.rs), and writes behind the first touch. So bytes written are at least what is counted
//! here.
//!
//! Invariant: best <= queue and best <= present, in granules read.

mod orders;

use std::ops::Range;

use orders::{AsPager, LastWanted, LeaveOrder, OldestFirst};
use plimsoll_arena::os::OsError;

use super::plan::Plan;
use super::replay::Replay;
use super::space::GRANULE_BYTES;
use super::trace::{Trace, TraceEvent};

/// Granules of a range, 4 TiB. A trace has none behind, unless it is damaged on purpose.
const GRANULES_MAX: u32 = 1 << 26;

/// Never again.
const NEVER: u64 = u64::MAX;

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
enum Step {
    Touch {
        granule: u32,
        write: bool,
        next: u64,
    },
    /// A block spans a range.
    Placed {
        granule: u64,
        bytes: u64,
    },
    Dead {
        first: u64,
        bytes: u64,
    },
}

/// Granules that a run would have moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// From the file.
    pub read: u64,
    /// To the file, at least.
    pub written: u64,
}

/// Who leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The oldest granule.
    Queue,
    /// As the pager does it without a plan.
    Present,
    /// What is wanted last.
    Best,
}

/// A run that can be played.
#[derive(Debug)]
pub struct Played {
    steps: Vec<Step>,
    granules: usize,
    touched: u64,
}

impl Played {
    /// The steps of a trace.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        let (mut steps, mut touched, mut most) = (Vec::new(), 0, 0);
        for event in &trace.events {
            match *event {
                TraceEvent::Touch { granule, granules, write, .. } => {
                    for granule in granule..granule + u64::from(granules) {
                        let known = u32::try_from(granule).ok().filter(|at| *at < GRANULES_MAX);
                        let Some(granule) = known else { continue };
                        steps.push(Step::Touch { granule, write, next: NEVER });
                        most = most.max(granule);
                        touched += 1;
                    }
                }
                TraceEvent::Freed { granule, bytes } => {
                    steps.push(Step::Dead { first: granule, bytes });
                }
                TraceEvent::Placed { granule, bytes } => {
                    steps.push(Step::Placed { granule, bytes });
                }
            }
        }
        let mut played = Self { steps, granules: most as usize + 1, touched };
        let mut wanted = vec![NEVER; played.granules];
        for (at, step) in played.steps.iter_mut().enumerate().rev() {
            match step {
                Step::Touch { granule, next, .. } => {
                    *next = std::mem::replace(&mut wanted[*granule as usize], at as u64);
                }
                Step::Dead { first, bytes } => {
                    wanted[dead_part(*first, *bytes, played.granules)].fill(NEVER);
                }
                Step::Placed { .. } => {}
            }
        }
        played
    }

    /// Granules that were touched, again and again.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touched
    }

    /// Plays the run under a budget of so many granules.
    ///
    /// # Errors
    ///
    /// The kernel refuses memory for tables.
    pub fn moves(&self, budget: u64, eviction: Eviction) -> Result<Moves, OsError> {
        let budget = budget.max(1);
        Ok(match eviction {
            Eviction::Queue => self.play(OldestFirst::default(), budget),
            Eviction::Best => self.play(LastWanted::default(), budget),
            Eviction::Present => self.play_pager(budget, Replay::new()?),
        })
    }

    /// Plays the run as the pager does it with another one as its plan.
    ///
    /// # Errors
    ///
    /// The kernel refuses memory for tables.
    pub fn moves_planned(&self, budget: u64, plan: &Trace) -> Result<Moves, OsError> {
        let mut replay = Replay::new()?;
        replay.follow(Plan::of(|| plan.events.iter().copied(), GRANULES_MAX)?);
        Ok(self.play_pager(budget.max(1), replay))
    }

    fn play_pager(&self, budget: u64, replay: Replay) -> Moves {
        self.play(AsPager::new(self.granules, budget, replay), budget)
    }

    fn play(&self, mut order: impl LeaveOrder, budget: u64) -> Moves {
        let mut moves = Moves::default();
        let mut known = vec![PlayedGranule::default(); self.granules];
        let mut resident = 0u64;
        for step in &self.steps {
            match *step {
                Step::Touch { granule, write, next } => {
                    let entry = &mut known[granule as usize];
                    let (was, in_file) = (entry.resident, entry.in_file);
                    // What comes for the first time is written when it leaves.
                    entry.dirty |= write || !in_file;
                    entry.resident = true;
                    moves.read += u64::from(!was && in_file);
                    resident += u64::from(!was);
                    order.touched(granule, next, was, in_file);
                    while resident > budget {
                        let Some(victim) = order.victim(granule) else { break };
                        let entry = &mut known[victim as usize];
                        if std::mem::take(&mut entry.resident) {
                            resident -= 1;
                            moves.written += u64::from(std::mem::take(&mut entry.dirty));
                            entry.in_file = true;
                        }
                    }
                }
                Step::Placed { granule, bytes } => order.placed(granule, bytes),
                Step::Dead { first, bytes } => {
                    order.freed(first);
                    for granule in dead_part(first, bytes, self.granules) {
                        let entry = std::mem::take(&mut known[granule]);
                        resident -= u64::from(entry.resident);
                        order.dead(granule as u32);
                    }
                }
            }
        }
        moves
    }
}

/// The granules of a range that is dead, of so many.
fn dead_part(first: u64, bytes: u64, granules: usize) -> Range<usize> {
    let bound = |granule: u64| usize::try_from(granule).unwrap_or(granules).min(granules);
    bound(first)..bound(first.saturating_add(bytes / GRANULE_BYTES as u64))
}

#[derive(Clone, Copy, Debug, Default)]
struct PlayedGranule {
    resident: bool,
    dirty: bool,
    in_file: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pager::trace::Seen;

    /// A block of so many granules, read in this order.
    fn read(granules: u64, order: impl Iterator<Item = u64>) -> Trace {
        let placed = TraceEvent::Placed { granule: 0, bytes: granules * GRANULE_BYTES as u64 };
        let touch =
            |granule| TraceEvent::Touch { granule, granules: 1, seen: Seen::Demand, write: false };
        let events = std::iter::once(placed).chain(order.map(touch)).collect();
        Trace { events, ..Trace::default() }
    }

    #[test]
    fn the_best_reads_least_and_circles_lie_between() {
        let (range, rounds, budget) = (8192, 20, 4096);
        let trace = read(range, (0..range * rounds).map(|i| i % range));
        let played = Played::new(&trace);
        let [queue, present, best] = [Eviction::Queue, Eviction::Present, Eviction::Best]
            .map(|how| played.moves(budget, how).expect("pages"));
        assert_eq!(queue.read, range * (rounds - 1), "each granule, each round but the first");
        // Of each round what does not fit.
        assert_eq!(best.read, (range - budget) * (rounds - 1));
        assert!(best.read < present.read && present.read < queue.read * 4 / 5, "{present:?}");
        let written = [queue.written, present.written, best.written];
        assert!(written.iter().all(|granules| *granules <= range), "{written:?}: each once");
    }

    #[test]
    fn the_plan_of_an_equal_run_reads_little_more_than_who_knows() {
        let order = || (0..200_000u64).map(|i| i * i % 3001);
        let (one, two) = (read(3001, order()), read(3001, order()));
        let played = Played::new(&one);
        let [present, best] = [Eviction::Present, Eviction::Best]
            .map(|how| played.moves(1000, how).expect("pages").read);
        let planned = played.moves_planned(1000, &two).expect("pages").read;
        assert!(best <= planned && planned < present * 9 / 10, "{best} {planned} {present}");
        let stranger = read(77, 0..77);
        let lost = played.moves_planned(1000, &stranger).expect("pages").read;
        assert!(lost < present * 103 / 100, "{lost} {present}");
    }

    #[test]
    fn what_is_dead_is_neither_written_nor_read() {
        let mut trace = read(100, 0..100);
        trace.events.push(TraceEvent::Freed { granule: 0, bytes: 100 * GRANULE_BYTES as u64 });
        trace.events.extend(read(100, 0..100).events);
        let moves = Played::new(&trace).moves(100, Eviction::Best).expect("pages");
        assert_eq!(moves, Moves::default());
    }
}
