//! What a policy of eviction would move for a recorded run: nothing runs, a trace is played.
//!
//! ```text
//!   trace --steps--> touches of granules, deaths --played under a budget--> granules read, written
//!
//!   queue     the oldest granule leaves
//!   present   chunks, limbo and circles, as the pager does it
//!   best      the granule leaves that is wanted last: nobody can read less (Belady, 1966)
//!   planned   the same, but what is wanted next is what another run wanted
//! ```
//!
//! A block is named by its size and how many of that size came before it, so that two runs of one
//! program agree on it wherever it lies. Time is the number of touches. A run follows the plan of
//! another by a clock that blocks set and touches draw along.
//!
//! What a trace does not have: touches of what was in data, which a recording makes rare
//! (record.rs), and writes behind the first touch. So bytes written are at least what is counted
//! here.
//!
//! Invariant: best <= queue and best <= present, in granules read.

mod orders;
mod plans;

use orders::{AsPresent, LastWanted, LeaveOrder, OldestFirst};
use plans::{Blocks, Clock, NEVER, Uses};

use super::space::GRANULE_BYTES;
use super::trace::{Trace, TraceEvent};

/// What happens to granules of a range.
#[derive(Clone, Copy, Debug)]
enum Step {
    Touch {
        granule: u32,
        write: bool,
        next: u64,
    },
    /// It was wanted by the plan, and nobody came: from now on it is wanted at `next`.
    Renew {
        granule: u32,
        next: u64,
    },
    Dead {
        first: u32,
        past: u32,
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
    /// As the pager does it.
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
    /// The steps of a trace; what is wanted next is what this run wanted.
    #[must_use]
    pub fn new(trace: &Trace) -> Self {
        let mut played = Self::with(trace, &Uses::none());
        let mut wanted = vec![NEVER; played.granules];
        for (at, step) in played.steps.iter_mut().enumerate().rev() {
            match step {
                Step::Touch { granule, next, .. } => {
                    *next = std::mem::replace(&mut wanted[*granule as usize], at as u64);
                }
                Step::Dead { first, past } => {
                    let past = (*past as usize).min(wanted.len());
                    wanted[(*first as usize).min(past)..past].fill(NEVER);
                }
                Step::Renew { .. } => {}
            }
        }
        played
    }

    /// The same, but what is wanted next is what `plan` wanted.
    #[must_use]
    pub fn planned(trace: &Trace, plan: &Trace) -> Self {
        Self::with(trace, &Uses::of(plan))
    }

    /// Granules that were touched, again and again.
    #[must_use]
    pub fn touched(&self) -> u64 {
        self.touched
    }

    fn with(trace: &Trace, uses: &Uses) -> Self {
        let (mut steps, mut touched, mut most) = (Vec::new(), 0, 0);
        let (mut blocks, mut clock) = (Blocks::default(), Clock::new(uses));
        for event in &trace.events {
            let placed = blocks.see(event);
            match *event {
                TraceEvent::Touch { granule, granules, write, .. } => {
                    for granule in granule..granule + u64::from(granules) {
                        let next = clock.touch(blocks.name(granule));
                        let Ok(granule) = u32::try_from(granule) else { continue };
                        clock.expect(granule, blocks.name(u64::from(granule)), next);
                        steps.push(Step::Touch { granule, write, next });
                        most = most.max(granule);
                        touched += 1;
                    }
                    while let Some((granule, next)) = clock.overdue() {
                        steps.push(Step::Renew { granule, next });
                    }
                }
                TraceEvent::Freed { granule, bytes } => {
                    let past = granule.saturating_add(bytes / GRANULE_BYTES as u64);
                    let bound = |granule: u64| u32::try_from(granule).unwrap_or(u32::MAX);
                    steps.push(Step::Dead { first: bound(granule), past: bound(past) });
                }
                TraceEvent::Placed { .. } => clock.placed(placed),
            }
        }
        Self { steps, granules: most as usize + 1, touched }
    }

    /// Plays the run under a budget of so many granules.
    #[must_use]
    pub fn moves(&self, budget: u64, eviction: Eviction) -> Moves {
        let budget = budget.max(1);
        match eviction {
            Eviction::Queue => self.play(OldestFirst::default(), budget),
            Eviction::Best => self.play(LastWanted::default(), budget),
            Eviction::Present => self.play(AsPresent::new(self.granules, budget), budget),
        }
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
                Step::Renew { granule, next } => {
                    if known[granule as usize].resident {
                        order.renewed(granule, next);
                    }
                }
                Step::Dead { first, past } => {
                    for granule in first..past.min(self.granules as u32) {
                        let entry = std::mem::take(&mut known[granule as usize]);
                        resident -= u64::from(entry.resident);
                        order.dead(granule);
                    }
                }
            }
        }
        moves
    }
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
            .map(|how| played.moves(budget, how));
        assert_eq!(queue.read, range * (rounds - 1), "each granule, each round but the first");
        // Of each round what does not fit.
        assert_eq!(best.read, (range - budget) * (rounds - 1));
        assert!(best.read < present.read && present.read < queue.read * 4 / 5, "{present:?}");
        let written = [queue.written, present.written, best.written];
        assert!(written.iter().all(|granules| *granules <= range), "{written:?}: each once");
    }

    #[test]
    fn the_plan_of_an_equal_run_is_as_good_as_knowing() {
        let order = || (0..40_000u64).map(|i| i * i % 3001);
        let (one, two) = (read(3001, order()), read(3001, order()));
        let known = Played::new(&one).moves(1000, Eviction::Best);
        assert_eq!(Played::planned(&two, &one).moves(1000, Eviction::Best), known);
        let stranger = read(77, 0..77);
        let lost = Played::planned(&two, &stranger).moves(1000, Eviction::Best);
        assert!(lost.read > known.read);
    }

    #[test]
    fn what_is_dead_is_neither_written_nor_read() {
        let mut trace = read(100, 0..100);
        trace.events.push(TraceEvent::Freed { granule: 0, bytes: 100 * GRANULE_BYTES as u64 });
        trace.events.extend(read(100, 0..100).events);
        let moves = Played::new(&trace).moves(100, Eviction::Best);
        assert_eq!(moves, Moves::default());
    }
}
