//! The rungs that are not ours to name elsewhere: pools, the global allocator, holders, the heap.
//!
//! Each holds weak references only: a pool has a reference to its ledger, and that one to the
//! ladder.

use super::held::Held;
use super::{Climb, Frees, Holder, Moment, Rung};
use plimsoll_arena::global::{Ask, reclaim_process};
use plimsoll_arena::process::{AccountRef, Owner};
use plimsoll_arena::sync::unpoisoned;
use plimsoll_arena::{Pool, os};
use std::sync::{Arc, Mutex, Weak};

/// A pool with a name for reports.
#[derive(Debug)]
pub(crate) struct NamedPool {
    pub(crate) name: &'static str,
    pub(crate) pool: Pool,
}

/// Free blocks of pools, largest and oldest first.
#[derive(Clone)]
pub(crate) struct CachedBlocks(pub(crate) Vec<Weak<NamedPool>>);

impl CachedBlocks {
    fn pools(&self) -> impl Iterator<Item = Arc<NamedPool>> {
        self.0.iter().filter_map(Weak::upgrade)
    }

    pub(crate) fn give_back(&self, target_bytes: usize) -> usize {
        let give = |freed: usize, named: Arc<NamedPool>| {
            freed + named.pool.reclaim(target_bytes.saturating_sub(freed))
        };
        self.pools().fold(0, give)
    }
}

impl Rung for CachedBlocks {
    fn name(&self) -> &'static str {
        "cached blocks"
    }

    fn frees(&self) -> Frees {
        Frees::Vectors
    }

    fn held(&self, moment: Moment) -> Vec<Held> {
        let of = |(number, named): (usize, Arc<NamedPool>)| {
            let stats = named.pool.stats();
            let in_use = match moment {
                Moment::Now => stats.live_bytes,
                Moment::Lap(most) => most.get(number).copied().unwrap_or(stats.live_bytes),
            };
            [
                Held::new(format!("{} in use", named.name), in_use),
                Held::new(format!("{} cached", named.name), stats.cached_bytes),
            ]
        };
        self.pools().enumerate().flat_map(of).collect()
    }

    fn reclaim(&self, target_bytes: usize, _climb: &Climb) -> usize {
        self.give_back(target_bytes)
    }
}

/// Cached pages of the program's global allocator, where that is ours.
pub(crate) struct AllocatorCache(pub(crate) AccountRef);

impl Rung for AllocatorCache {
    fn name(&self) -> &'static str {
        "allocator cache"
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        vec![Held::new("blocks of the global allocator", self.0.held_bytes(Owner::Blocks))]
    }

    fn reclaim(&self, target_bytes: usize, _climb: &Climb) -> usize {
        reclaim_process(Ask::Cached(target_bytes)).unwrap_or(0)
    }
}

/// Caches that a program registered.
#[derive(Default)]
pub(crate) struct Holders(Mutex<Vec<Weak<dyn Holder>>>);

impl Holders {
    /// Registers a holder; it leaves by being dropped.
    pub(crate) fn register(&self, holder: &Arc<dyn Holder>) {
        let mut holders = unpoisoned(self.0.lock());
        holders.retain(|weak| weak.strong_count() > 0);
        holders.push(Arc::downgrade(holder));
    }

    fn live(&self) -> Vec<Arc<dyn Holder>> {
        unpoisoned(self.0.lock()).iter().filter_map(Weak::upgrade).collect()
    }
}

impl Rung for Arc<Holders> {
    fn name(&self) -> &'static str {
        "holders"
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        let of = |holder: &Arc<dyn Holder>| Held::new(holder.name(), holder.held_bytes());
        self.live().iter().map(of).collect()
    }

    fn reclaim(&self, target_bytes: usize, _climb: &Climb) -> usize {
        let give = |freed: usize, holder: &Arc<dyn Holder>| match target_bytes.checked_sub(freed) {
            Some(left) if left > 0 => freed + holder.reclaim(left),
            _ => freed,
        };
        self.live().iter().fold(0, give)
    }
}

/// Free pages of the heap: of the allocator inside ours, or of the C library.
pub(crate) struct HeapTrim(pub(crate) AccountRef);

impl Rung for HeapTrim {
    fn name(&self) -> &'static str {
        "heap trim"
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn held(&self, _moment: Moment) -> Vec<Held> {
        let zram = self.0.zram_bytes();
        let resident = self.0.foreign_bytes().saturating_sub(zram);
        vec![
            Held::new("heap, program and mapped files", resident),
            Held::new("RAM that zram takes for what is spilled", zram),
        ]
    }

    /// Returns what others hold less than before the climb: what the climb itself left on the heap
    /// does not count as freed, or one that frees nothing else would look like one that does.
    fn reclaim(&self, _target_bytes: usize, climb: &Climb) -> usize {
        if reclaim_process(Ask::Everything).is_none() {
            os::trim_heap();
        }
        self.0.look();
        let less = climb.rest_before.saturating_sub(self.0.rest_bytes(Owner::Pools));
        less.saturating_sub(climb.rest_freed)
    }
}
