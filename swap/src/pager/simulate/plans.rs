//! What a plan says of a run: blocks by name, and when each of their granules was wanted.
//!
//! ```text
//!   events of one run   --> Uses:  block, granule -> times
//!   events of another   --> Clock: now -> when each granule is wanted next
//! ```
//!
//! Must never: be needed. A plan of another program says that nothing is wanted again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::pager::space::GRANULE_BYTES;
use crate::pager::trace::{Trace, TraceEvent};

/// Never again.
pub(super) const NEVER: u64 = u64::MAX;

/// A touch draws the clock to where the plan has it by one part in so many.
const PULL: u64 = 32;

/// A block by name: its bytes, and how many of that size came before it.
pub(super) type BlockName = (u64, u32);

/// A granule by name: its block, and which of the block's granules it is.
pub(super) type GranuleName = (BlockName, u64);

/// The blocks of a run, as they come and go.
#[derive(Default)]
pub(super) struct Blocks {
    /// By the first granule: how many granules, and the name.
    live: BTreeMap<u64, (u64, BlockName)>,
    counts: HashMap<u64, u32>,
}

impl Blocks {
    /// Follows an event; the name of a block that came.
    pub(super) fn see(&mut self, event: &TraceEvent) -> Option<BlockName> {
        match *event {
            TraceEvent::Placed { granule, bytes } => {
                let count = self.counts.entry(bytes).or_insert(0);
                let name = (bytes, *count);
                *count += 1;
                self.live.insert(granule, (bytes.div_ceil(GRANULE_BYTES as u64), name));
                return Some(name);
            }
            TraceEvent::Freed { granule, .. } => _ = self.live.remove(&granule),
            TraceEvent::Touch { .. } => {}
        }
        None
    }

    /// The block of a granule, and which of its granules that is; outside of blocks none.
    pub(super) fn name(&self, granule: u64) -> Option<GranuleName> {
        let (first, (granules, name)) = self.live.range(..=granule).next_back()?;
        (granule - first < *granules).then_some((*name, granule - first))
    }
}

/// When each granule of each block was touched, and when blocks came: in touches since the start.
pub(super) struct Uses {
    touches: HashMap<GranuleName, Vec<u64>>,
    placed: HashMap<BlockName, u64>,
    len: u64,
}

impl Uses {
    /// Those of a run that nobody knows.
    pub(super) fn none() -> Self {
        Self { touches: HashMap::new(), placed: HashMap::new(), len: 0 }
    }

    pub(super) fn of(trace: &Trace) -> Self {
        let (mut uses, mut blocks) = (Self::none(), Blocks::default());
        for event in &trace.events {
            if let Some(name) = blocks.see(event) {
                uses.placed.insert(name, uses.len);
            }
            let TraceEvent::Touch { granule, granules, .. } = *event else { continue };
            for granule in granule..granule + u64::from(granules) {
                uses.len += 1;
                if let Some(place) = blocks.name(granule) {
                    uses.touches.entry(place).or_default().push(uses.len);
                }
            }
        }
        uses
    }

    /// When a granule is touched after `now`.
    fn after(&self, place: Option<GranuleName>, now: u64) -> u64 {
        let Some(times) = place.and_then(|place| self.touches.get(&place)) else { return NEVER };
        times.get(times.partition_point(|time| *time <= now)).copied().unwrap_or(NEVER)
    }

    /// The touch of a granule that is nearest to `now`.
    fn nearest(&self, place: Option<GranuleName>, now: u64) -> Option<u64> {
        let times = self.touches.get(&place?)?;
        let at = times.partition_point(|time| *time < now);
        let around = times.get(at).into_iter().chain(times.get(at.wrapping_sub(1)));
        around.copied().min_by_key(|time| time.abs_diff(now))
    }
}

/// Where in its plan a run is: it is set by blocks that come, and drawn along by touches. Threads
/// and what a run finds in memory change the order of touches and their number.
pub(super) struct Clock<'a> {
    uses: &'a Uses,
    now: u64,
    /// Granules that are wanted, soonest first; an entry that is out of date is passed over.
    wanted: BinaryHeap<Reverse<(u64, u32)>>,
    next: HashMap<u32, (u64, Option<GranuleName>)>,
}

impl<'a> Clock<'a> {
    pub(super) fn new(uses: &'a Uses) -> Self {
        Self { uses, now: 0, wanted: BinaryHeap::new(), next: HashMap::new() }
    }

    /// How far a touch may be from where the plan has it.
    fn window(&self) -> u64 {
        self.uses.len / 32
    }

    pub(super) fn placed(&mut self, name: Option<BlockName>) {
        if let Some(at) = name.and_then(|name| self.uses.placed.get(&name)) {
            self.now = *at;
        }
    }

    /// Somebody came to a granule: when the plan wants it next.
    pub(super) fn touch(&mut self, place: Option<GranuleName>) -> u64 {
        self.now += 1;
        let near = self.uses.nearest(place, self.now);
        let Some(at) = near.filter(|at| at.abs_diff(self.now) <= self.window()) else {
            return self.uses.after(place, self.now);
        };
        let step = at.abs_diff(self.now) / PULL;
        self.now = if at > self.now { self.now + step } else { self.now - step };
        self.uses.after(place, at)
    }

    pub(super) fn expect(&mut self, granule: u32, place: Option<GranuleName>, next: u64) {
        if next != NEVER {
            self.wanted.push(Reverse((next, granule)));
        }
        self.next.insert(granule, (next, place));
    }

    /// A granule that was wanted for a while and did not come, and when it is wanted instead.
    pub(super) fn overdue(&mut self) -> Option<(u32, u64)> {
        while let Some(Reverse((next, granule))) = self.wanted.peek().copied()
            && next + self.window() < self.now
        {
            self.wanted.pop();
            let Some((known, place)) = self.next.get(&granule).copied() else { continue };
            if known == next {
                let next = self.uses.after(place, self.now);
                self.expect(granule, place, next);
                return Some((granule, next));
            }
        }
        None
    }
}
