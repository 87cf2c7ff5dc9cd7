//! What the pager does to keep to the limit of the process, and what it tells the account.
//!
//! ```text
//!   charge -> pages are made -> born      ...      leaving -> pages are given back -> uncharge
//! ```
//!
//! The account knows of granules that are charged, and of these those that have their pages. What
//! the budget is then, following.rs says.
//!
//! Must never: allocate.

use std::sync::atomic::Ordering;

use plimsoll_arena::process::Owner;

use super::core::Core;
use super::engine::Engine;
use super::following::LOOK_NS;
use super::space::GRANULE_BYTES;
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
        core.budget = following.budget(&mut core.looked);
        core.over()
    }
}

impl Core {
    /// Counts granules whose pages are about to be made; [`Core::born`] says when they are there.
    pub(crate) fn charge(&mut self, granules: u64) {
        self.held += granules;
        self.unborn += granules;
        self.held_peak = self.held_peak.max(self.held);
        if let Some(account) = &self.account {
            account.add(Owner::Pager, bytes(granules));
        }
    }

    /// The pages of charged granules have been made.
    pub(crate) fn born(&mut self, granules: u64) {
        self.unborn -= granules;
        if let Some(account) = &self.account {
            account.arrived(Owner::Pager, bytes(granules));
        }
    }

    /// Granules whose pages are about to be given back; [`Core::uncharge`] says when they are.
    pub(crate) fn leaving(&self, granules: u64) {
        if let Some(account) = &self.account {
            account.leaving(Owner::Pager, bytes(granules));
        }
    }

    /// Takes off granules whose pages have been given back.
    pub(crate) fn uncharge(&mut self, granules: u64) {
        self.held -= granules;
        if let Some(account) = &self.account {
            account.sub(Owner::Pager, bytes(granules));
        }
    }
}

impl Drop for Core {
    /// What a pager held goes with it.
    fn drop(&mut self) {
        self.leaving(self.held - self.unborn);
        if let Some(account) = &self.account {
            account.sub(Owner::Pager, bytes(self.held));
        }
    }
}

fn bytes(granules: u64) -> usize {
    granules as usize * GRANULE_BYTES
}
