//! What the program's global allocator and its pager say, read at the ends of each stage.
//!
//! ```text
//!   span entered --- reading ---+
//!   samples ------- live bytes --+--> AllocatorUse, and what was packed, written, brought back
//!   span left ------ reading ---+
//! ```
//!
//! A reading is some atomic loads, and, where there is a pager, its lock twice. It allocates
//! nothing, and nothing is read on the allocator's own paths.
//!
//! Invariants: counters only grow, so that a stage's part is what lies between two readings; of
//! stages that run at once each has all of it, as each has the whole process's CPU time.
//!
//! Must never: be called from inside the allocator.

use super::sample::Sample;
use crate::alloc::{Allocator, GlobalStats, InnerPurge, PagerStats};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

/// Stages of a runtime that may be open at once; of more, the oldest are not accounted.
const OPEN_MAX: usize = 64;

/// What the allocator and its pager had and did in the stages of one name. Bytes, but for the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AllocatorUse {
    /// Blocks in use at the end of the last of them, in memory or not.
    pub live_bytes: u64,
    /// Most bytes of blocks in use at once. Exact where it is more than ever before in the process,
    /// otherwise the most at the ends and at the samples.
    pub live_peak_bytes: u64,
    /// Free pages that were kept, at the end of the last.
    pub cached_bytes: u64,
    /// Pages of blocks that may be resident, at the end of the last; with a pager, those it held.
    pub held_bytes: u64,
    /// Touches that waited for the pager.
    pub faults: u64,
}

impl AllocatorUse {
    pub(super) fn add(&mut self, next: &Self) {
        *self = Self {
            live_peak_bytes: self.live_peak_bytes.max(next.live_peak_bytes),
            faults: self.faults.saturating_add(next.faults),
            ..*next
        };
    }
}

/// The allocator and the pager at an instant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AllocatorReading {
    blocks: GlobalStats,
    pager: Option<(PagerStats, Duration)>,
}

/// What a stage did between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(super) gauges: AllocatorUse,
    pub(super) packed_bytes: u64,
    pub(super) spilled_bytes: u64,
    pub(super) loaded_bytes: u64,
    pub(super) stalled_seconds: f64,
}

/// Reads an allocator of whatever type.
pub(super) struct AllocatorReader(Box<dyn Fn() -> AllocatorReading + Send + Sync>);

impl fmt::Debug for AllocatorReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AllocatorReader")
    }
}

impl AllocatorReader {
    pub(super) fn of<A>(allocator: &'static Allocator<A>) -> Self
    where
        A: InnerPurge + Sync,
    {
        Self(Box::new(move || AllocatorReading {
            blocks: allocator.stats(),
            pager: allocator.pages().pager().map(|pager| (pager.stats(), pager.thrash().stalled)),
        }))
    }

    pub(super) fn read(&self) -> AllocatorReading {
        (self.0)()
    }
}

impl AllocatorReading {
    pub(super) fn has_limit(&self) -> bool {
        self.blocks.limit_bytes != usize::MAX
    }

    /// Pages of blocks that may be resident.
    fn held_bytes(&self) -> u64 {
        self.pager.map_or(self.blocks.held_bytes as u64, |(pager, _)| pager.held_bytes)
    }

    /// Adds what is known of the allocator to a sample.
    pub(super) fn note(&self, sample: &mut Sample) {
        let (live, cached) = (self.blocks.live_bytes as u64, self.blocks.cached_bytes as u64);
        sample.allocated_bytes = live;
        if sample.limit_bytes.is_none() && self.has_limit() {
            sample.limit_bytes = Some(self.blocks.limit_bytes as u64);
        }
        let Some((pager, _)) = self.pager else {
            sample.live_bytes += live;
            sample.cached_bytes += cached;
            return;
        };
        // Which of its pages are a live block's the pager does not say: as many as may be.
        let present = pager.held_bytes.saturating_sub(pager.spare_bytes + pager.shelf_bytes);
        let live = live.min(present);
        sample.live_bytes += live;
        sample.cached_bytes += present - live + pager.spare_bytes;
        sample.packed_bytes += pager.shelf_bytes;
        sample.spilled_bytes += pager.file_bytes;
        sample.spilled_total_bytes += pager.written_bytes;
        sample.loaded_total_bytes += pager.read_bytes + pager.unpacked_bytes;
    }
}

impl Account {
    /// The account of a stage from the readings at its ends and the most that was sampled.
    pub(super) fn between(
        before: &AllocatorReading,
        after: &AllocatorReading,
        sampled_bytes: u64,
    ) -> Self {
        let (was, is) = (&before.blocks, &after.blocks);
        let peak = if is.live_peak_bytes > was.live_peak_bytes {
            is.live_peak_bytes as u64
        } else {
            sampled_bytes.max(was.live_bytes.max(is.live_bytes) as u64)
        };
        // A pager that was made meanwhile had done nothing before.
        let (was, waited) = before.pager.unwrap_or_default();
        let (is, waits) = after.pager.unwrap_or_default();
        let brought = |pager: &PagerStats| pager.read_bytes + pager.unpacked_bytes;
        Self {
            gauges: AllocatorUse {
                live_bytes: after.blocks.live_bytes as u64,
                live_peak_bytes: peak,
                cached_bytes: after.blocks.cached_bytes as u64,
                held_bytes: after.held_bytes(),
                faults: is.faults.saturating_sub(was.faults),
            },
            packed_bytes: is.packed_bytes.saturating_sub(was.packed_bytes),
            spilled_bytes: is.written_bytes.saturating_sub(was.written_bytes),
            loaded_bytes: brought(&is).saturating_sub(brought(&was)),
            stalled_seconds: waits.saturating_sub(waited).as_secs_f64(),
        }
    }
}

/// Readings at the start of a runtime's stages, which say when they began and nothing more.
#[derive(Debug, Default)]
pub(super) struct Open(Vec<(Instant, AllocatorReading)>);

impl Open {
    pub(super) fn begin(&mut self, began: Instant, reading: AllocatorReading) {
        if self.0.len() == OPEN_MAX {
            self.0.remove(0);
        }
        self.0.push((began, reading));
    }

    pub(super) fn end(&mut self, began: Instant) -> Option<AllocatorReading> {
        let index = self.0.iter().rposition(|(at, _)| *at == began)?;
        Some(self.0.remove(index).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(live: usize, peak: usize, pager: Option<PagerStats>) -> AllocatorReading {
        let mut blocks = GlobalStats::default();
        (blocks.live_bytes, blocks.live_peak_bytes) = (live, peak);
        blocks.limit_bytes = usize::MAX;
        AllocatorReading {
            blocks,
            pager: pager.map(|pager| (pager, Duration::from_secs(pager.faults))),
        }
    }

    #[test]
    fn a_peak_is_exact_where_it_rose_and_sampled_otherwise() {
        let peak = |before: &AllocatorReading, after: &AllocatorReading, sampled| {
            Account::between(before, after, sampled).gauges.live_peak_bytes
        };
        assert_eq!(peak(&reading(5, 9, None), &reading(6, 12, None), 7), 12);
        assert_eq!(peak(&reading(5, 9, None), &reading(6, 9, None), 8), 8);
        assert_eq!(peak(&reading(5, 9, None), &reading(6, 9, None), 0), 6);
    }

    #[test]
    fn a_pager_is_accounted_from_its_start() {
        let stats = PagerStats {
            held_bytes: 70,
            spare_bytes: 10,
            shelf_bytes: 20,
            faults: 3,
            packed_bytes: 64,
            written_bytes: 32,
            read_bytes: 8,
            unpacked_bytes: 16,
            ..PagerStats::default()
        };
        let after = reading(100, 100, Some(stats));
        let account = Account::between(&reading(0, 0, None), &after, 0);
        assert_eq!((account.packed_bytes, account.spilled_bytes), (64, 32));
        assert_eq!((account.loaded_bytes, account.gauges.faults), (24, 3));
        assert_eq!((account.gauges.held_bytes, account.stalled_seconds), (70, 3.0));
        let mut sample = Sample::default();
        after.note(&mut sample);
        assert_eq!((sample.live_bytes, sample.cached_bytes, sample.packed_bytes), (40, 10, 20));
        assert_eq!((sample.allocated_bytes, sample.limit_bytes), (100, None));
        // Nothing is taken away from a child of fork, whose pager says nothing.
        let child = Account::between(&after, &reading(100, 100, Some(PagerStats::default())), 0);
        assert_eq!((child.spilled_bytes, child.stalled_seconds), (0, 0.0));
    }

    #[test]
    fn open_stages_are_bounded_and_found_by_their_start() {
        let mut open = Open::default();
        let origin = Instant::now();
        let at = |i: usize| origin + Duration::from_micros(i as u64);
        for i in 0..OPEN_MAX + 2 {
            open.begin(at(i), reading(i, i, None));
        }
        assert!(open.end(at(1)).is_none(), "the oldest were let go");
        for i in (2..OPEN_MAX + 2).rev() {
            assert_eq!(open.end(at(i)).map(|reading| reading.blocks.live_bytes), Some(i));
        }
        assert!(open.0.is_empty());
    }
}
