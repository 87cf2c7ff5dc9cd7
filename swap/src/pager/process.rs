//! What the pager does to keep to the limit of the process: it looks, and gives back what is over.
//! following.rs computes the budget from the limit, and held.rs tells the account what is held.
//!
//! Must never: allocate.

use std::sync::atomic::Ordering;

use super::engine::Engine;
use super::following::LOOK_NS;
use super::sys;

impl Engine {
    /// Follows the limit if that was last done some milliseconds ago, and gives back what is over.
    /// A worker's.
    pub(crate) fn follow_limit_closely(&self, worker: usize) {
        let Some(following) = &self.following else { return };
        let (now, looked) = (sys::now_ns(), following.looked_ns.load(Ordering::Relaxed));
        if now < looked + LOOK_NS {
            return;
        }
        // Relaxed: two threads that look at once do no harm.
        following.looked_ns.store(now, Ordering::Relaxed);
        if self.follow_limit() > 0 {
            self.keep_to_budget(Some(worker));
        }
    }

    /// Sets the budget by the limit of the process, if there is one. Returns how many granules more
    /// are held than it allows.
    pub(crate) fn follow_limit(&self) -> u64 {
        let Some(following) = &self.following else { return 0 };
        following.account.look();
        let mut core = self.core.lock();
        let budget = following.budget(&mut core.looked);
        core.set_budget(budget);
        core.over()
    }
}
