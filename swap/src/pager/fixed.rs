//! How much of data the kernel does not move, and what follows.
//!
//! ```text
//!   fixed up to 3/4   |---- fixed ----|------- the rest -------|           the budget in all
//!   more than that    |------------- fixed -------------|-- a quarter --|  more than the budget
//! ```
//!
//! What is locked or protected counts as held and never leaves, until the program unlocks it. The
//! rest has a quarter of the budget, or 2 MiB if that is more, whatever is fixed: a program that
//! locks more than its budget would otherwise move two pages back and forth for good. That
//! something is fixed is said once.
//!
//! Imports numbers of the address space alone.

use super::space::{GRANULES, Mask};

/// How often what is fixed is looked at again: nobody tells the pager of unlocking.
const LOOK_NS: u64 = 100_000_000;

/// Counts what is fixed, in granules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixedGranules {
    granules: u64,
    looked_ns: u64,
    told: bool,
}

impl FixedGranules {
    /// Granules in data that the kernel did not move when they were last to leave.
    pub(crate) fn granules(&self) -> u64 {
        self.granules
    }

    /// Of a chunk, `after` is fixed instead of `before`.
    pub(crate) fn recount(&mut self, before: Mask, after: Mask) {
        self.granules += u64::from(after.count_ones());
        self.granules -= u64::from(before.count_ones());
    }

    /// Granules that may be held: the budget, and more where what is fixed leaves too little of it.
    pub(crate) fn allowed(&self, budget: u64) -> u64 {
        match self.granules {
            0 => budget,
            fixed => budget.max(fixed + (budget / 4).max(GRANULES as u64)),
        }
    }

    /// Whether what is fixed is to be tried again now. If so, the next time is a while away.
    pub(crate) fn take_turn(&mut self, now_ns: u64) -> bool {
        let is_time = self.granules > 0 && now_ns >= self.looked_ns + LOOK_NS;
        if is_time {
            self.looked_ns = now_ns;
        }
        is_time
    }

    /// How many granules are fixed, the first time that this is asked while any are.
    pub(crate) fn untold(&mut self) -> Option<u64> {
        let tells = self.granules > 0 && !self.told;
        self.told |= tells;
        tells.then_some(self.granules)
    }
}
