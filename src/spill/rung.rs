//! Spillable vectors on the reclaim ladder.

use super::Spill;
use crate::reclaim::rungs::CachedBlocks;
use crate::reclaim::{Cause, Climb, Frees, Held, Moment, Rung};
use std::sync::Weak;

/// Unpinned vectors leave memory, the least wanted first; the blocks they leave behind are cached.
pub(crate) struct Vectors {
    pub(crate) spill: Weak<Spill>,
    /// Where those blocks are.
    pub(crate) blocks: CachedBlocks,
}

impl Rung for Vectors {
    fn name(&self) -> &'static str {
        "spillable vectors"
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn frees(&self) -> Frees {
        Frees::Vectors
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        let packed = self.spill.upgrade().map_or(0, |spill| spill.packed_bytes());
        vec![Held::new("packed vectors", packed)]
    }

    /// Returns what left memory: a difference of the ledger's would also count what other threads
    /// took meanwhile.
    fn reclaim(&self, target_bytes: usize, climb: &Climb) -> usize {
        let freed = self.spill.upgrade().map_or(0, |spill| spill.reclaim(target_bytes));
        // A charge may be for a block like those that came free: if not, it asks again.
        if climb.cause != Cause::Charge {
            self.blocks.give_back(freed);
        }
        freed
    }
}
