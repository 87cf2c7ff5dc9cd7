//! The runtimes under the permits that a runtime granted: who they are, and what they hold.

use super::{Inner, Runtime};
use crate::reclaim::{Held, Moment, largest_first};
use plimsoll_arena::sync::unpoisoned;
use std::sync::Arc;

impl Runtime {
    /// Notes a runtime under a permit of this one.
    pub(super) fn note_beneath(&self, runtime: &Runtime) {
        let mut beneath = unpoisoned(self.inner.beneath.lock());
        beneath.retain(|known| known.strong_count() > 0);
        beneath.push(Arc::downgrade(&runtime.inner));
    }

    /// Returns the runtimes under permits of this one that are in force.
    pub(crate) fn beneath(&self) -> Vec<Runtime> {
        let live = |inner: &std::sync::Weak<Inner>| Some(Runtime { inner: inner.upgrade()? });
        unpoisoned(self.inner.beneath.lock()).iter().filter_map(live).collect()
    }

    /// Returns what the vectors of this runtime hold, those in its pools' caches included.
    pub(super) fn held_bytes(&self) -> u64 {
        self.inner.ledger.held_bytes() as u64
    }

    /// Returns the holders of memory, and each permit in force with its `bytes`.
    pub(super) fn with_permits(&self, bytes: impl Fn(&Runtime) -> u64) -> Vec<Held> {
        let mut holders = self.inner.ladder.held(Moment::Now);
        let permits = self.beneath();
        let held = |permit: &Runtime| {
            let name = format!("permit \"{}\"", permit.permit_name().unwrap_or_default());
            Held { name, bytes: bytes(permit) }
        };
        holders.extend(permits.iter().map(held).filter(|held| held.bytes > 0));
        largest_first(&mut holders);
        holders
    }
}
