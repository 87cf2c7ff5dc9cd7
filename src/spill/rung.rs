//! Spillable vectors on the reclaim ladder.

use super::Spill;
use crate::reclaim::rungs::CachedBlocks;
use crate::reclaim::{Cause, Climb, Frees, Held, Moment, Rung};
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

/// Unpinned vectors leave memory, the least wanted first; the blocks they leave behind are cached.
pub(crate) struct SpillableRung {
    spill: Weak<Spill>,
    /// Where those blocks are.
    blocks: CachedBlocks,
    /// What write-backs had freed when the climb began.
    departed_before: AtomicU64,
}

impl SpillableRung {
    pub(crate) fn new(spill: Weak<Spill>, blocks: CachedBlocks) -> Self {
        Self { spill, blocks, departed_before: AtomicU64::new(0) }
    }
}

impl Rung for SpillableRung {
    fn name(&self) -> &'static str {
        "spillable vectors"
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn frees(&self) -> Frees {
        Frees::Vectors
    }

    fn begin(&self) {
        let departed = self.spill.upgrade().map_or(0, |spill| spill.departed_bytes());
        self.departed_before.store(departed, Ordering::Relaxed);
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        let packed = self.spill.upgrade().map_or(0, |spill| spill.packed_bytes());
        vec![Held::new("packed vectors", packed)]
    }

    /// Returns what left memory, write-backs that ended since the climb began included: the rung of
    /// the cached blocks may have been passed before that. A difference of the ledger's would also
    /// count what other threads took meanwhile.
    fn reclaim(&self, target_bytes: usize, climb: &Climb) -> usize {
        let before = self.departed_before.load(Ordering::Relaxed);
        let freed = self.spill.upgrade().map_or(0, |spill| spill.reclaim(target_bytes, before));
        // A charge may be for a block like those that came free: if not, it asks again.
        if climb.cause != Cause::Charge {
            self.blocks.give_back(freed);
        }
        freed
    }
}
