//! The tables of the pager and what may be done to them under the lock.
//!
//! ```text
//!   chunk   2 MiB of the data range: a state for each of its 32 granules
//!   frame   2 MiB of addresses for pages that are not in data
//!   slot    2 MiB of the spill file
//!
//!   queues     chunks with pages in data                     -> see queues.rs
//!   limbo      chunks with pages in a frame, oldest first    -> the next to be written
//!   ahead      chunks that were read ahead, oldest first     -> the next to be dropped
//!   free       frames without pages
//!   blank      frames with an intact huge page and no owner
//!   spare      frames with other pages that nobody uses
//!   shelves    memory for packed granules
//! ```
//!
//! Invariants, in granules, whenever the lock is free:
//!
//! * what is held, which held.rs counts, is at most the budget, but for what is pinned by system
//!   calls;
//! * a chunk has a frame while a granule of it is in Limbo, Writing or Ahead, and then such a
//!   granule's pages are at its own place in that frame; those of a Loading one are too, or they
//!   are lent by a frame of nobody's;
//! * a frame's spare granules belong to nobody: their contents mean nothing;
//! * bit `i` of `copies` says that slot holds granule `i` as of its `hashes[i]`; the granule may
//!   have changed since, which comparing hashes will show;
//! * granule `i` has one of the `places` while it is Packed or Clearing, and while it is Loading
//!   from there, or Writing to there;
//! * bit `i` of `repeats` says that granule `i`, where it is Disk, is `lanes[i]` over and over; the
//!   file is not asked for it.
//!
//! Must never: wait, read or write a file, or allocate.

use plimsoll_arena::os::OsError;

use super::entry::{Ahead, Chunk, Demand, Seals};
use super::fixed::FixedGranules;
use super::following::Looked;
use super::frame::Frame;
use super::held::{Held, Where};
use super::ids::{ChunkId, FrameId, Id};
use super::in_hand::InHand;
use super::policy::{Mode, Policy};
use super::queues::{DataQueue, DataQueues, End, Framed, Waiting};
use super::record::Record;
use super::replay::Replay;
use super::reversed::Reversed;
use super::shelves::Shelves;
use super::slots::Slots;
use super::space::{ALL, CHUNK_BYTES, GRANULES, Mask, Space};
use super::state::{Event, State};
use super::streams::Streams;
use super::tables::{Lists, Ring, Table};
use super::thrash::{Count, Counters};
use super::trace::Seen;

/// Granules of a chunk, as a count.
pub(crate) const CHUNK: u64 = GRANULES as u64;

/// Faults that may wait for a worker at once. More threads than that are not fed by two disks.
const DEMANDS: usize = 1 << 16;

/// Chunks or parts of them that may wait to be read ahead; more are forgotten.
const AHEADS: usize = 1 << 12;

/// The pager's tables, which change under its one lock.
pub(crate) struct Core {
    pub(crate) chunks: Table<Chunk>,
    pub(crate) frames: Table<Frame>,
    /// One for each chunk, or none where the file is not encrypted.
    pub(crate) seals: Table<Seals>,
    pub(crate) queues: DataQueues,
    pub(crate) limbo: Lists<ChunkId, Waiting, 2>,
    pub(crate) framed: Lists<FrameId, Framed, 3>,
    pub(crate) demands: Ring<Demand>,
    pub(crate) aheads: Ring<Ahead>,
    pub(crate) slots: Slots,
    pub(crate) streams: Streams,
    pub(crate) reversed: Reversed,
    pub(crate) shelves: Shelves,
    /// Frames that were ever used; the rest is free too.
    pub(crate) frames_used: usize,
    /// All that is held, by place.
    pub(crate) held: Held,
    /// In granules, here and below.
    budget: u64,
    /// Of those in data, the ones that the kernel does not move.
    pub(crate) fixed: FixedGranules,
    /// Of the granules that are queued to be brought, those that go into data.
    rows_coming: u64,
    /// A clock of pressure: granules that ever left memory and were neither dead nor zero.
    evictions: u64,
    /// What workers have.
    pub(crate) in_hand: InHand,
    pub(crate) counters: Counters,
    pub(crate) policy: Policy,
    pub(crate) looked: Looked,
    /// What the run touches, if that is wanted.
    pub(crate) record: Record,
    /// What an earlier run wanted, if that is known.
    pub(crate) replay: Replay,
}

impl Core {
    pub(crate) fn new(chunks: usize, frames: usize, budget: u64) -> Result<Self, OsError> {
        let core = Self {
            chunks: Table::new(chunks)?,
            frames: Table::new(frames)?,
            seals: Table::new(0)?,
            queues: DataQueues::new(chunks)?,
            limbo: Lists::new(chunks)?,
            framed: Lists::new(frames)?,
            demands: Ring::new(DEMANDS)?,
            aheads: Ring::new(AHEADS)?,
            slots: Slots::new(chunks)?,
            streams: Streams::new(),
            reversed: Reversed::new(),
            shelves: Shelves::new(chunks * GRANULES)?,
            frames_used: 0,
            held: Held::default(),
            budget,
            fixed: FixedGranules::default(),
            rows_coming: 0,
            evictions: 0,
            in_hand: InHand::default(),
            counters: Counters::default(),
            policy: Policy::default(),
            looked: Looked::default(),
            record: Record::default(),
            replay: Replay::new()?,
        };
        debug_assert!(core.frames.len() > core.chunks.len(), "one frame must always be left");
        Ok(core)
    }

    /// Granules that may be held.
    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Sets how many granules may be held, and returns how many might be before.
    pub(crate) fn set_budget(&mut self, granules: u64) -> u64 {
        std::mem::replace(&mut self.budget, granules)
    }

    /// The clock of pressure: granules that ever left memory and were neither dead nor zero.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// Granules that are queued to be brought into data.
    pub(crate) fn rows_coming(&self) -> u64 {
        self.rows_coming
    }

    /// Granules have left memory, `counted` of them neither dead nor zero.
    pub(crate) fn gone(&mut self, chunk: ChunkId, mask: Mask, counted: u64) {
        let evictions = self.evictions;
        self.chunk(chunk).gone(mask, evictions);
        self.evictions += counted;
    }

    /// Queues granules that somebody will soon ask for. A full queue forgets them: faults will ask.
    pub(crate) fn expect(&mut self, ahead: Ahead) {
        let Some(chunk) = ahead.chunk else { return };
        let coming = self.chunk(chunk).coming();
        if ahead.mask & !coming != 0 && self.aheads.push(ahead) {
            self.chunk(chunk).queue_ahead(ahead.mask);
            self.rows_coming += ahead.rows();
        }
    }

    /// What was queued first.
    pub(crate) fn next_expected(&mut self) -> Option<(ChunkId, Ahead)> {
        let ahead = self.aheads.pop()?;
        let chunk = ahead.chunk?;
        self.rows_coming -= ahead.rows();
        self.chunk(chunk).unqueue_ahead(ahead.mask);
        Some((chunk, ahead))
    }

    pub(crate) fn chunk(&mut self, chunk: ChunkId) -> &mut Chunk {
        &mut self.chunks[chunk.index()]
    }

    pub(crate) fn frame(&mut self, frame: FrameId) -> &mut Frame {
        &mut self.frames[frame.index()]
    }

    /// Granules that could be used at once.
    pub(crate) fn available(&self) -> u64 {
        self.room() + self.held.at(Where::Spare)
    }

    /// Puts a chunk of which granules entered data at the end of its queue. What passes through
    /// goes on doing so while the program goes in circles.
    pub(crate) fn entered(&mut self, chunk: ChunkId, granules: u64, now_ns: u64) {
        self.chunk(chunk).entered(now_ns);
        let goes_on = self.chunk(chunk).passes() && self.policy.mode() == Mode::Circles;
        let queue = if goes_on { DataQueue::Passing } else { DataQueue::Resident };
        let now = self.in_data(chunk);
        self.queues.put(queue, chunk, End::Last, now - granules, now);
    }

    /// Granules of a chunk in data.
    fn in_data(&mut self, chunk: ChunkId) -> u64 {
        u64::from(self.chunk(chunk).mask(&[State::Resident]).count_ones())
    }

    /// Puts a chunk with granules in data on a queue.
    pub(crate) fn enlist(&mut self, queue: DataQueue, chunk: ChunkId, end: End) {
        let now = self.in_data(chunk);
        self.queues.put(queue, chunk, end, now, now);
    }

    /// Takes a chunk off the queue if nothing of it is in data.
    pub(crate) fn left(&mut self, chunk: ChunkId, granules: u64) {
        let is_empty = self.in_data(chunk) == 0;
        self.queues.left(chunk, granules, is_empty);
    }

    /// Moves granules of Limbo or Ahead back into data. With a huge page, all of them.
    pub(crate) fn rescue(&mut self, space: &Space, chunk: ChunkId, mask: Mask, now_ns: u64) {
        let frame = self.chunk(chunk).its_frame();
        let waiting = self.chunk(chunk).mask(&[State::Limbo, State::Ahead]);
        let ahead = self.chunk(chunk).mask(&[State::Ahead]);
        let mask = if self.frame(frame).is_huge() { waiting } else { mask & waiting };
        if self.chunk(chunk).mask(&[State::Limbo]) & mask != 0 {
            self.chunk(chunk).set_passes(false);
        }
        self.map(space, chunk, frame, mask, Event::Rescue, now_ns);
        self.held.pass(Where::Limbo, Where::Data, u64::from((mask & !ahead).count_ones()));
        self.held.pass(Where::Ahead, Where::Data, u64::from((mask & ahead).count_ones()));
        self.relist(chunk);
        self.settle(frame);
    }

    /// Puts a chunk on the list that its granules in frames ask for.
    pub(crate) fn relist(&mut self, chunk: ChunkId) {
        let entry = self.chunk(chunk);
        let limbo = entry.mask(&[State::Limbo]) != 0;
        let list = match (limbo, entry.mask(&[State::Ahead]) != 0) {
            (true, _) => Some(Waiting::Limbo),
            (false, true) => Some(Waiting::Ahead),
            (false, false) => None,
        };
        match list {
            None => self.limbo.remove(chunk),
            list if list == self.limbo.list_of(chunk) => {}
            Some(list) => self.limbo.push_back(list, chunk),
        }
    }

    /// Moves granules of a frame into data and their states by `event`.
    pub(crate) fn map(
        &mut self,
        space: &Space,
        chunk: ChunkId,
        frame: FrameId,
        mask: Mask,
        event: Event,
        now_ns: u64,
    ) {
        let huge = mask == ALL && self.frame(frame).is_huge();
        if !huge {
            self.take_apart(space, frame, 0);
        }
        self.counters.add(Count::BusyRetries, space.enter(chunk, frame, mask));
        self.vacated(frame, mask);
        let entry = self.chunk(chunk);
        entry.set_huge(huge);
        entry.served(mask);
        self.chunk(chunk).step(mask, event);
        self.entered(chunk, u64::from(mask.count_ones()), now_ns);
    }

    /// The contents of `mask` are dead: drops what is at rest, and returns the granules that a
    /// worker has.
    pub(crate) fn discard(&mut self, space: &Space, chunk: ChunkId, mask: Mask) -> Mask {
        let entry = self.chunk(chunk);
        let busy = entry.mask(&[State::Writing, State::Loading, State::Clearing]) & mask;
        let resident = entry.mask(&[State::Resident]) & mask;
        let limbo = entry.mask(&[State::Limbo, State::Ahead]) & mask;
        let ahead = entry.mask(&[State::Ahead]) & mask;
        let frame = entry.frame();
        entry.step(mask & !busy, Event::Discard);
        if mask & !busy == ALL {
            entry.untouched();
        }
        entry.forget(mask & !busy);
        self.unshelve(space, chunk, mask & !busy);
        let entry = self.chunk(chunk);
        if resident != 0 {
            entry.set_huge(entry.is_huge() && resident == ALL);
            let count = u64::from(resident.count_ones());
            self.held.leaving(count);
            space.discard(chunk, resident);
            self.held.uncharge(Where::Data, count);
            self.unfix(chunk, resident);
            self.left(chunk, count);
        }
        if limbo != 0 {
            let count = |mask: Mask| u64::from(mask.count_ones());
            self.held.pass(Where::Limbo, Where::Spare, count(limbo & !ahead));
            self.held.pass(Where::Ahead, Where::Spare, count(ahead));
            self.relist(chunk);
            if let Some(frame) = frame {
                self.cut(frame, limbo);
                self.settle(frame);
            }
        }
        self.free_slot(chunk);
        busy
    }

    /// Gives a chunk's slot back if the file holds nothing of it.
    pub(crate) fn free_slot(&mut self, chunk: ChunkId) {
        let entry = self.chunk(chunk);
        let in_use = entry.mask(&[State::Writing, State::Clearing]) != 0;
        if entry.copies() == 0
            && !in_use
            && let Some(slot) = entry.take_slot()
        {
            self.slots.give_back(slot);
        }
    }

    /// Notes that granules that were in the file are wanted again.
    pub(crate) fn note_refault(&mut self, chunk: ChunkId, mask: Mask) {
        for granule in (0..GRANULES).filter(|granule| mask & 1 << granule != 0) {
            let distance = self.chunks[chunk.index()].distance(granule, self.evictions);
            self.counters.refault(1, distance);
            // What a queue would still have.
            let wasted = self.replay.is_on() && distance < self.budget / 2;
            self.counters.add(Count::PlanWaste, u64::from(wasted));
            self.policy.refault(1, distance, self.budget);
        }
    }

    /// Notes that somebody came to granules of a chunk.
    pub(crate) fn touched(&mut self, chunk: ChunkId, mask: Mask, seen: Seen, write: bool) {
        self.record.touch(chunk, mask, seen, write);
        self.replay.touched(chunk.index(), mask, self.budget);
    }

    /// Notes that somebody came for what was read ahead, which is in data now.
    pub(crate) fn came_ahead(&mut self, chunk: ChunkId, mask: Mask) {
        self.counters.add(Count::ReadAheadUsed, u64::from(mask.count_ones()));
        self.touched(chunk, mask, Seen::Ahead, false);
        self.note_refault(chunk, mask);
        self.streamed(chunk);
    }

    /// Lets a chunk that was streamed in pass through, if that is the policy.
    pub(crate) fn streamed(&mut self, chunk: ChunkId) {
        let passes = self.policy.passes_through() && !self.replay.is_on();
        self.chunk(chunk).set_passes(passes);
        if passes {
            self.enlist(DataQueue::Passing, chunk, End::Last);
        }
    }

    /// What workers have, and a chunk of which they take or give back granules.
    pub(crate) fn hands(&mut self, chunk: ChunkId) -> (&mut InHand, &mut Chunk) {
        (&mut self.in_hand, &mut self.chunks[chunk.index()])
    }

    /// The chunk and granule of an offset into the data range.
    pub(crate) fn place(offset: usize) -> (ChunkId, usize) {
        (ChunkId::of(offset / CHUNK_BYTES), offset % CHUNK_BYTES / super::space::GRANULE_BYTES)
    }
}
