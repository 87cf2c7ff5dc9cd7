//! Who is evicted next: the oldest, or around a fixed part when the program goes in circles.
//!
//! ```text
//!   queue     every chunk enters at the end, the oldest goes            a working set that shifts
//!   circles   streamed chunks pass through a short queue of their own;  a range larger than the
//!             the rest stays, and is renewed by one in sixteen          budget, over and over
//! ```
//!
//! A queue is at its worst when a range of N is read in order again and again with a budget of
//! C < N: each chunk leaves just before it is needed, and all of N is read each time. With a fixed
//! part only N - C is; see Chou and DeWitt, VLDB 1985 (most recently used), Johnson and Shasha,
//! "2Q", VLDB 1994, and Qureshi et al., ISCA 2007 (renewal at a low rate).
//!
//! There are no access bits to see which pages are in use, but every refault tells how much was
//! evicted since its chunk left. In the queue, a budget larger by that distance would have kept it;
//! in circles, a chunk whose distance and stay together are below half of the budget would have
//! been kept by the queue.
//!
//! Invariant: the mode changes only after as much was refaulted as the budget holds, so a change of
//! stage costs at most one budget of reads. Pure.

/// In circles, one streamed chunk in so many joins the part that stays, and one victim in so many
/// is taken from it: it is renewed after sixteen budgets of reads.
const RENEWAL: u64 = 16;

/// Refaults are taken for a circle up to this many budgets of distance.
const CIRCLE_BUDGETS_MAX: u64 = 6;

/// How victims are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The oldest.
    #[default]
    Queue,
    /// The oldest of what streamed through.
    Circles,
}

/// The mode, and the votes of this window. In granules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    mode: Mode,
    votes: u64,
    for_circles: u64,
    streamed: u64,
    victims: u64,
}

impl Policy {
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// In circles: granules that may be passing through at a time.
    pub(crate) fn transit(budget: u64) -> u64 {
        budget / 16
    }

    /// A refault of `granules`, `distance` evictions after they left, with a budget of `budget`.
    pub(crate) fn refault(&mut self, granules: u64, distance: u64, budget: u64) {
        let for_circles = match self.mode {
            Mode::Queue => distance < budget.saturating_mul(CIRCLE_BUDGETS_MAX),
            // An eighth of the budget is limbo.
            Mode::Circles => distance + Self::transit(budget) + budget / 8 >= budget / 2,
        };
        self.votes += granules;
        self.for_circles += if for_circles { granules } else { 0 };
        if self.votes >= budget {
            self.mode =
                if self.for_circles * 4 >= self.votes * 3 { Mode::Circles } else { Mode::Queue };
            (self.votes, self.for_circles) = (0, 0);
        }
    }

    /// Whether a chunk that was streamed in only passes through.
    pub(crate) fn passes_through(&mut self) -> bool {
        self.streamed += 1;
        self.mode == Mode::Circles && !self.streamed.is_multiple_of(RENEWAL)
    }

    /// Whether the next victim is taken from what passes through, if there is enough of it.
    pub(crate) fn takes_passing(&mut self) -> bool {
        self.victims += 1;
        !self.victims.is_multiple_of(RENEWAL)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Chunks read for a trace with a budget of `budget` chunks; the mode is fixed or chosen.
    fn read(trace: impl Iterator<Item = usize>, budget: u64, fixed: Option<Mode>) -> usize {
        let mut policy = Policy::default();
        let (mut stays, mut passes) = (VecDeque::new(), VecDeque::new());
        let (mut left_at, mut evictions, mut misses) = (vec![None; 1 << 12], 0u64, 0);
        for chunk in trace {
            policy.mode = fixed.unwrap_or(policy.mode);
            if stays.contains(&chunk) || passes.contains(&chunk) {
                continue;
            }
            misses += 1;
            if let Some(left) = left_at[chunk] {
                policy.refault(1, evictions - left, budget);
            }
            if stays.len() + passes.len() >= budget as usize {
                let passing = policy.mode == Mode::Circles
                    && passes.len() as u64 > budget / 8 + Policy::transit(budget)
                    && policy.takes_passing();
                let victim = if passing || stays.is_empty() {
                    passes.pop_front()
                } else {
                    stays.pop_front()
                };
                left_at[victim.expect("one of them has it")] = Some(evictions);
                evictions += 1;
            }
            if policy.passes_through() {
                passes.push_back(chunk);
            } else {
                stays.push_back(chunk);
            }
        }
        misses
    }

    #[test]
    fn circles_keep_what_a_queue_would_lose() {
        for (range, most) in [(160, 0.60), (256, 0.75), (512, 0.90)] {
            let trace = || (0..range * 20).map(|i| i % range);
            let queue = read(trace(), 128, Some(Mode::Queue));
            let chosen = read(trace(), 128, None);
            eprintln!("range {range}, budget 128: queue {queue}, chosen {chosen}");
            assert_eq!(queue, range * 20);
            assert!((chosen as f64) < queue as f64 * most);
        }
    }

    #[test]
    fn working_sets_that_fit_are_learnt_again_after_a_circle() {
        // Circles over 300, then a set of 100 that fits, for long.
        let trace = || (0..6000).map(|i| i % 300).chain((0..6000).map(|i| 1000 + i % 100));
        let chosen = read(trace(), 128, None);
        let only_first = read((0..6000).map(|i| i % 300), 128, None);
        eprintln!("{} reads of the second stage", chosen - only_first);
        assert!(chosen - only_first < 1000);
    }
}
