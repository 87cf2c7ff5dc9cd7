//! A limit for the whole process: what the rest of it leaves is the pager's budget.
//!
//! ```text
//!   budget = min(the most there may be, limit - others - growth - margin), at least 2 MiB
//! ```
//!
//! The limit, and what others hold, are of the process's account, which the pager tells what it
//! holds itself: granules that are charged, and of these those that have their pages. The kernel's
//! count lags behind by some pages a processor since Linux 6.2; the pager's own does not, so only
//! what is foreign is uncertain.
//!
//! Growth is what others gained since a look 2 ms ago or more, and may gain before the next.
//!
//! Invariant: following the limit changes the budget and nothing else; reclaiming is the caller's.
//!
//! Must never: allocate.

use std::sync::atomic::AtomicU64;

use plimsoll_arena::process::{AccountRef, Owner};

use super::space::{CHUNK_BYTES, GRANULE_BYTES};
use super::sys;
use super::thrash::Told;

/// What may come between two looks: stacks, and small blocks of many threads. With it goes a 256th
/// of the limit.
const MARGIN_BYTES: usize = 8 << 20;

/// Time between two looks while pages come and go: 2 ms, of which a look takes 2 us.
pub(crate) const LOOK_NS: u64 = 2_000_000;

/// The account whose limit is followed.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) account: AccountRef,
    budget_bytes_max: usize,
    /// When somebody last looked because time had come.
    pub(crate) looked_ns: AtomicU64,
    /// What of the time that threads have spent the account's guard has been told.
    pub(crate) told: Told,
}

/// What looks at the limit have left behind, under the lock.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// What others held at a look, and when that was.
    others_bytes: Option<usize>,
    others_ns: u64,
}

impl Looked {
    /// What others gained since a look `LOOK_NS` ago or more.
    fn growth(&mut self, others_bytes: usize, now_ns: u64) -> usize {
        let before = self.others_bytes.unwrap_or(others_bytes);
        if self.others_bytes.is_none() || now_ns >= self.others_ns + LOOK_NS {
            (self.others_bytes, self.others_ns) = (Some(others_bytes), now_ns);
        }
        others_bytes.saturating_sub(before)
    }
}

impl Following {
    pub(crate) fn new(account: AccountRef, budget_bytes_max: usize) -> Self {
        Self { account, budget_bytes_max, looked_ns: AtomicU64::new(0), told: Told::default() }
    }

    /// Granules that others leave.
    pub(crate) fn budget(&self, looked: &mut Looked) -> u64 {
        let limit = self.account.limit_bytes();
        let others = self.account.rest_bytes(Owner::Pager);
        let growth = looked.growth(others, sys::now_ns()).min(MARGIN_BYTES);
        let margin = (limit / 16).min(MARGIN_BYTES) + limit / 256;
        let taken = others.saturating_add(growth).saturating_add(margin);
        let room = limit.saturating_sub(taken).min(self.budget_bytes_max);
        (room.max(CHUNK_BYTES) / GRANULE_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_arena::process::Source;

    #[test]
    fn growth_is_over_some_time_however_often_threads_look() {
        let mut looked = Looked::default();
        assert_eq!(looked.growth(100, 0), 0);
        // Three threads in a row: none takes the others' growth away.
        assert_eq!(looked.growth(130, 1000), 30);
        assert_eq!(looked.growth(160, 2000), 60);
        assert_eq!(looked.growth(150, LOOK_NS), 50);
        assert_eq!(looked.growth(140, LOOK_NS + 1), 0);
        assert_eq!(looked.growth(155, LOOK_NS + 2), 5);
    }

    #[test]
    fn the_budget_is_what_others_leave() {
        let following = Following::new(AccountRef::told(), 1 << 30);
        let granules = |bytes: usize| (bytes / GRANULE_BYTES) as u64;
        let budget = || following.budget(&mut Looked::default());
        assert_eq!(budget(), granules(1 << 30), "no limit: the most there may be");
        following.account.set_limit(128 << 20, Source::Allocator);
        following.account.note_foreign(20 << 20);
        following.account.add(Owner::Pools, 30 << 20);
        following.account.add(Owner::Pager, 40 << 20);
        let margin = (8 << 20) + (128 << 20) / 256;
        assert_eq!(budget(), granules((128 << 20) - (50 << 20) - margin));
        following.account.note_foreign(200 << 20);
        assert_eq!(budget(), granules(CHUNK_BYTES), "some progress is always possible");
    }
}
