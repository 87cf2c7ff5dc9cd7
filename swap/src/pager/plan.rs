//! What an earlier run wanted, and when: the times of each granule of each large block.
//!
//! ```text
//!   trace of a run --twice--> count, then fill        times    of place 0 | of place 1 | ...
//!                                                     starts   where those of each begin
//! ```
//!
//! Time is the number of touches. A *place* is a granule of a block that has a name (blocks.rs);
//! what lies in no large block is not planned. A run that makes several proofs has the blocks of a
//! plan of one proof again and again: the n-th block of a size is taken for the plan's n-th of that
//! size, counted round.
//!
//! All of it lies in tables of its own: 4 bytes for a touch, and 4 for a place.
//!
//! Must never: trust a number of the trace, or allocate elsewhere.

use plimsoll_arena::os::OsError;

use super::blocks::{BlockName, Blocks};
use super::space::GRANULE_BYTES;
use super::tables::{Table, ZeroValid};
use super::trace::TraceEvent;

/// Blocks that a plan may have; it ends before later ones.
const BLOCKS_MAX: usize = 1 << 16;

/// When a granule is wanted that nobody wants again, or of which nothing is known.
pub(crate) const NEVER: u32 = u32::MAX;

/// A block of the run that the plan is made from.
#[derive(Clone, Copy)]
struct PlannedBlock {
    bytes: u64,
    /// Its first place, and how many it has: none where there was no room.
    place: u32,
    granules: u32,
    /// When it came.
    came: u32,
}

// SAFETY: integers.
unsafe impl ZeroValid for PlannedBlock {}

/// What an earlier run wanted.
pub(crate) struct Plan {
    /// By size, and those of a size as they came.
    blocks: Table<PlannedBlock>,
    /// For each place, where its times begin, and one more where the last one's end.
    starts: Table<u32>,
    /// Ascending, for each place.
    times: Table<u32>,
    /// Of the last touch.
    end: u32,
}

impl Plan {
    /// The plan of a run's first proof. `events` gives all its events, each time it is asked. What
    /// is behind the first `most` touches, or in blocks behind the first `most` granules of blocks,
    /// is not planned.
    pub(crate) fn of<E: Iterator<Item = TraceEvent>>(
        events: impl Fn() -> E,
        most: u32,
    ) -> Result<Self, OsError> {
        let count = first_proof(events())?;
        let events = || events().take(count);
        let blocks = Table::new(sizes(events()).count())?;
        let mut plan = Self { blocks, starts: Table::new(0)?, times: Table::new(0)?, end: 0 };
        let mut places = 0;
        for (block, bytes) in plan.blocks.iter_mut().zip(sizes(events())) {
            let granules = granules_of(bytes, places, most);
            *block = PlannedBlock { bytes, place: places, granules, came: 0 };
            places += granules;
        }
        plan.starts = Table::new(places as usize + 1)?;
        plan.each_touch(events(), most, |plan, place, time| {
            plan.starts[place + 1] += 1;
            plan.end = time;
        })?;
        for place in 1..plan.starts.len() {
            plan.starts[place] += plan.starts[place - 1];
        }
        plan.times = Table::new(plan.starts[places as usize] as usize)?;
        let mut filled = Table::<u32>::new(places as usize)?;
        plan.each_touch(events(), most, |plan, place, time| {
            plan.times[(plan.starts[place] + filled[place]) as usize] = time;
            filled[place] += 1;
        })?;
        plan.blocks.sort_unstable_by_key(|block| (block.bytes, block.place));
        Ok(plan)
    }

    /// Goes through the run that this is made from, and says which place is touched, and when.
    fn each_touch(
        &mut self,
        events: impl Iterator<Item = TraceEvent>,
        most: u32,
        mut each: impl FnMut(&mut Self, usize, u32),
    ) -> Result<(), OsError> {
        let (mut live, mut time, mut count) = (Blocks::new()?, 0, 0);
        for event in events {
            match event {
                TraceEvent::Placed { granule, bytes } => {
                    let live = live.placed(granule, bytes);
                    let Some(block) = self.blocks.get_mut(count) else { continue };
                    block.came = time;
                    count += 1;
                    if let Some(live) = live
                        && block.granules > 0
                    {
                        live.plan_at(block.place);
                    }
                }
                TraceEvent::Freed { granule, .. } => live.freed(granule),
                TraceEvent::Touch { granule, granules, .. } => {
                    for granule in granule..granule + u64::from(granules) {
                        if time == most {
                            return Ok(());
                        }
                        time += 1;
                        if let Some(place) = live.place(granule) {
                            each(self, place as usize, time);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Touches that are planned, or were when it ended: no time is later.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// The first place of a block, and when the plan has it come.
    pub(crate) fn block(&self, name: BlockName) -> Option<(u32, u32)> {
        let first = self.blocks.partition_point(|block| block.bytes < name.bytes);
        let of_size = &self.blocks[first..];
        let count = of_size.partition_point(|block| block.bytes == name.bytes);
        let block = of_size[..count].get((name.nth as usize).checked_rem(count)?)?;
        (block.granules > 0).then_some((block.place, block.came))
    }

    /// When a place is touched, ascending.
    pub(crate) fn times(&self, place: u32) -> &[u32] {
        let Some([first, past]) = self.starts.get(place as usize..place as usize + 2) else {
            return &[];
        };
        self.times.get(*first as usize..*past as usize).unwrap_or(&[])
    }

    /// When a place is touched after `now`.
    pub(crate) fn after(&self, place: u32, now: u32) -> u32 {
        let times = self.times(place);
        times.get(times.partition_point(|time| *time <= now)).copied().unwrap_or(NEVER)
    }

    /// The touch of a place that is nearest to `now`: at most `behind` before it, and at most
    /// `ahead` after it.
    pub(crate) fn nearest(&self, place: u32, now: u32, behind: u32, ahead: u32) -> Option<u32> {
        let times = self.times(place);
        let at = times.partition_point(|time| *time < now);
        let after = times.get(at).copied().filter(|time| time - now <= ahead);
        let before = times[..at].last().copied().filter(|time| now - time <= behind);
        match (before, after) {
            (Some(before), Some(after)) if now - before < after - now => Some(before),
            (before, after) => after.or(before),
        }
    }
}

/// How many events a run's first proof has, or what of it has no more blocks than a plan may.
fn first_proof(events: impl Iterator<Item = TraceEvent>) -> Result<usize, OsError> {
    let (mut blocks, mut placed, mut count) = (Blocks::new()?, 0, 0);
    for event in events {
        match event {
            TraceEvent::Placed { granule, bytes } => {
                blocks.placed(granule, bytes);
                placed += 1;
            }
            TraceEvent::Freed { granule, .. } => blocks.freed(granule),
            TraceEvent::Touch { .. } => {}
        }
        if blocks.proofs().has_next() || placed > BLOCKS_MAX {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// The sizes of the blocks of a run, as they came.
fn sizes(events: impl Iterator<Item = TraceEvent>) -> impl Iterator<Item = u64> {
    let sizes = events.filter_map(|event| match event {
        TraceEvent::Placed { bytes, .. } => Some(bytes),
        _ => None,
    });
    sizes.take(BLOCKS_MAX)
}

/// How many places a block has that begins at `place`, of `most`: none where there is no room.
fn granules_of(bytes: u64, place: u32, most: u32) -> u32 {
    let granules = bytes.div_ceil(GRANULE_BYTES as u64);
    if u64::from(place) + granules <= u64::from(most) { granules as u32 } else { 0 }
}
