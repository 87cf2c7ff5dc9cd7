//! Who leaves: the oldest, as the pager does it with or without a plan, or who is wanted last.
//!
//! ```text
//!   touched(granule, next) --> queue | chunks, limbo, circles or a plan | heap by next --> victim
//! ```
//!
//! An order hands out granules that are in memory, or were: the caller passes over the latter.
//!
//! Pure: no clock, no system call.

use std::collections::{BinaryHeap, HashMap, VecDeque};

use crate::pager::policy::{Mode, Policy as Vote};
use crate::pager::replay::Replay;
use crate::pager::space::{GRANULES, Mask, run, runs};

/// Which granule leaves.
pub(super) trait LeaveOrder {
    /// Somebody came to a granule, which is in memory now, and is wanted again at `next`.
    fn touched(&mut self, granule: u32, next: u64, was_there: bool, was_in_file: bool);
    /// A block spans a range.
    fn placed(&mut self, granule: u64, bytes: u64) {
        _ = (granule, bytes);
    }
    /// A block that begins at a granule is gone.
    fn freed(&mut self, granule: u64) {
        _ = granule;
    }
    /// Its contents are dead.
    fn dead(&mut self, granule: u32);
    /// A granule that leaves, not the one that was just touched. One that is not there is passed
    /// over.
    fn victim(&mut self, but: u32) -> Option<u32>;
}

/// The order of arrival.
#[derive(Default)]
pub(super) struct OldestFirst(VecDeque<u32>);

impl LeaveOrder for OldestFirst {
    fn touched(&mut self, granule: u32, _: u64, was_there: bool, _: bool) {
        if !was_there {
            self.0.push_back(granule);
        }
    }

    fn dead(&mut self, _: u32) {}

    fn victim(&mut self, _: u32) -> Option<u32> {
        self.0.pop_front()
    }
}

/// The latest next use first; an entry that is out of date is passed over.
#[derive(Default)]
pub(super) struct LastWanted {
    heap: BinaryHeap<(u64, u32)>,
    next: HashMap<u32, u64>,
}

impl LeaveOrder for LastWanted {
    fn touched(&mut self, granule: u32, next: u64, _: bool, _: bool) {
        self.next.insert(granule, next);
        self.heap.push((next, granule));
    }

    fn dead(&mut self, granule: u32) {
        self.next.remove(&granule);
    }

    fn victim(&mut self, but: u32) -> Option<u32> {
        let mut passed = None;
        let found = loop {
            let (next, granule) = self.heap.pop()?;
            if self.next.get(&granule) != Some(&next) {
                continue;
            }
            if granule == but {
                passed = Some((next, granule));
                continue;
            }
            break granule;
        };
        self.heap.extend(passed);
        self.next.remove(&found);
        Some(found)
    }
}

/// Chunks in data and in limbo, as core.rs, evict.rs and launder.rs do it.
pub(super) struct AsPager {
    budget: u64,
    vote: Vote,
    replay: Replay,
    chunks: Vec<PlayedChunk>,
    /// Chunks in order of arrival, with the number of the arrival; the latest counts.
    stays: VecDeque<(u32, u64)>,
    passes: VecDeque<(u32, u64)>,
    limbo: VecDeque<(u32, u64)>,
    arrivals: u64,
    in_passing: u64,
    in_limbo: u64,
    evictions: u64,
    left_at: Vec<u64>,
    leaving: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct PlayedChunk {
    data: Mask,
    limbo: Mask,
    arrived: u64,
    entered_limbo: u64,
    passes: bool,
    is_passing: bool,
}

impl AsPager {
    pub(super) fn new(granules: usize, budget: u64, replay: Replay) -> Self {
        Self {
            budget,
            vote: Vote::default(),
            replay,
            chunks: vec![PlayedChunk::default(); granules / GRANULES + 1],
            stays: VecDeque::new(),
            passes: VecDeque::new(),
            limbo: VecDeque::new(),
            arrivals: 0,
            in_passing: 0,
            in_limbo: 0,
            evictions: 0,
            left_at: vec![0; granules],
            leaving: Vec::new(),
        }
    }

    /// Puts a chunk at the end of the queue that it belongs on.
    fn enlist(&mut self, chunk: u32) {
        self.arrivals += 1;
        let circles = self.vote.mode() == Mode::Circles;
        let entry = &mut self.chunks[chunk as usize];
        let count = u64::from(entry.data.count_ones());
        self.in_passing -= if entry.is_passing { count.min(self.in_passing) } else { 0 };
        entry.is_passing = entry.passes && circles;
        entry.arrived = self.arrivals;
        self.in_passing += if entry.is_passing { count } else { 0 };
        let queue = if entry.is_passing { &mut self.passes } else { &mut self.stays };
        queue.push_back((chunk, self.arrivals));
    }

    /// The oldest chunk of data goes to limbo, or what of one is not wanted for long. Returns
    /// whether there was one.
    fn evict(&mut self) -> bool {
        let mut passed = 0;
        let enough = match self.vote.mode() {
            Mode::Circles => Vote::transit(self.budget),
            Mode::Queue => 0,
        };
        let passing = self.in_passing > enough && self.vote.takes_passing();
        for from_passing in [passing, !passing] {
            loop {
                let queue = if from_passing { &mut self.passes } else { &mut self.stays };
                let Some((chunk, arrived)) = queue.pop_front() else { break };
                let entry = &mut self.chunks[chunk as usize];
                let current = arrived == entry.arrived && entry.is_passing == from_passing;
                if !current || entry.data == 0 {
                    continue;
                }
                let left = self.replay.leaving(chunk as usize, entry.data, false, passed);
                passed += 1;
                entry.data &= !left;
                self.in_passing -= if from_passing { u64::from(left.count_ones()) } else { 0 };
                self.in_limbo += u64::from(left.count_ones());
                if left != 0 && entry.limbo == 0 {
                    self.arrivals += 1;
                    entry.entered_limbo = self.arrivals;
                    self.limbo.push_back((chunk, self.arrivals));
                }
                entry.limbo |= left;
                if entry.data != 0 {
                    self.enlist(chunk);
                }
                if left != 0 {
                    return true;
                }
            }
        }
        false
    }

    /// The oldest chunk of limbo leaves memory. Returns whether there was one.
    fn launder(&mut self) -> bool {
        while let Some((chunk, entered)) = self.limbo.pop_front() {
            let entry = &mut self.chunks[chunk as usize];
            if entered != entry.entered_limbo || entry.limbo == 0 {
                continue;
            }
            let gone = std::mem::take(&mut entry.limbo);
            self.in_limbo -= u64::from(gone.count_ones());
            for granule in runs(gone).flat_map(|(first, count)| first..first + count) {
                let granule = chunk * GRANULES as u32 + granule as u32;
                self.left_at[granule as usize] = self.evictions;
                self.leaving.push(granule);
            }
            self.evictions += u64::from(gone.count_ones());
            return true;
        }
        false
    }
}

impl LeaveOrder for AsPager {
    fn touched(&mut self, granule: u32, _: u64, was_there: bool, was_in_file: bool) {
        let (chunk, bit) = (granule / GRANULES as u32, run(granule as usize % GRANULES, 1));
        if self.chunks[chunk as usize].data & bit != 0 {
            return;
        }
        self.replay.touched(chunk as usize, bit, self.budget);
        let entry = &mut self.chunks[chunk as usize];
        if entry.is_passing {
            self.in_passing += 1;
        }
        entry.data |= bit;
        if was_there {
            self.in_limbo -= u64::from(entry.limbo & bit != 0);
            entry.limbo &= !bit;
            entry.passes = false;
            // One that was about to leave with its chunk stays.
            self.leaving.retain(|leaving| *leaving != granule);
        } else if was_in_file {
            let distance = self.evictions - self.left_at[granule as usize];
            self.vote.refault(1, distance, self.budget);
            let is_new = entry.data == bit;
            if is_new {
                entry.passes = self.vote.passes_through() && !self.replay.is_on();
            }
        }
        self.enlist(chunk);
    }

    fn placed(&mut self, granule: u64, bytes: u64) {
        self.replay.placed(granule, bytes);
    }

    fn freed(&mut self, granule: u64) {
        self.replay.freed(granule);
    }

    fn dead(&mut self, granule: u32) {
        let bit = run(granule as usize % GRANULES, 1);
        let entry = &mut self.chunks[granule as usize / GRANULES];
        self.in_limbo -= u64::from(entry.limbo & bit != 0);
        self.in_passing -= u64::from(entry.is_passing && entry.data & bit != 0);
        (entry.data, entry.limbo) = (entry.data & !bit, entry.limbo & !bit);
    }

    fn victim(&mut self, _: u32) -> Option<u32> {
        while self.leaving.is_empty() {
            if self.in_limbo <= self.budget / 8 && self.evict() {
                continue;
            }
            if !self.launder() {
                return None;
            }
        }
        self.leaving.pop()
    }
}
