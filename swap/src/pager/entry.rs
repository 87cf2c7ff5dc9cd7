//! What the pager knows of a chunk, and of a thread that waits.
//!
//! ```text
//!   Chunk   states of 32 granules, masks, its frame, its slot, 32 hashes, 32 repeated lanes and
//!           32 places on shelves: 1.9 KB a 2 MiB
//!   Seals   nonce and tag of 32 granules of an encrypted file: 768 bytes a 2 MiB
//! ```
//!
//! All zero bits say: never touched, nothing owned.
//! Tables of these begin as zero pages and cost memory only where the range is used.

use super::ids::{ChunkId, FrameId, SlotId};
use super::shelves::ShelfPlace;
use super::space::{GRANULES, Mask, runs};
use super::state::{Event, State, next};
use super::sys::die;
use super::tables::ZeroValid;
use crate::seal::Sealed;

/// What fills a granule, over and over: 32 bytes, the largest element of a field.
pub(crate) type Filler = [u128; 2];

/// What is known of a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Chunk {
    /// Changed by [`Chunk::step`] alone.
    states: [State; GRANULES],
    /// A thread waits for it.
    wanted: Mask,
    /// A demand for it is queued.
    queued: Mask,
    /// Somebody will soon ask for it, which is queued.
    coming: Mask,
    /// Its contents may be lost.
    dead: Mask,
    /// It is in data, and the kernel did not move it when it was to leave.
    fixed: Mask,
    /// The slot holds it as of `whereabouts.hashes`.
    copies: Mask,
    /// It is `whereabouts.lanes`, over and over, and in no file.
    repeats: Mask,
    frame: Option<FrameId>,
    /// It entered data as one huge page, and nothing was cut from it since.
    huge: bool,
    /// Blocks smaller than a chunk live here, so pages stay small.
    small: bool,
    /// It passes through, unless it is wanted while it is in limbo.
    passes: bool,
    /// Pages that were given one by one, since it was all dead or new; see sparse.rs.
    touches: u32,
    /// When it last entered data.
    entered_ns: u64,
    /// `Core`'s clock of evictions when they last left memory; the low bits tell enough.
    left_at: [u32; GRANULES],
    whereabouts: Whereabouts,
}

// SAFETY: integers, flags of which zero is `false`, numbers of which zero is `None`, and `State`,
// whose zero is `Zero`.
unsafe impl ZeroValid for Chunk {}

/// What was noted when granules last left their pages: where their contents went, and their
/// hashes. The states and masks say what of it counts.
#[derive(Clone, Copy)]
pub(crate) struct Whereabouts {
    /// Of the file.
    pub(crate) slot: Option<SlotId>,
    /// Where they are packed, if they are.
    pub(crate) places: [Option<ShelfPlace>; GRANULES],
    /// Hashes of what the slot or the shelf has.
    pub(crate) hashes: [u128; GRANULES],
    /// What fills those that repeat.
    pub(crate) lanes: [Filler; GRANULES],
}

/// Where a worker has put a granule's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Nowhere: they are zero, or the slot has them. The slot's copy stays as good as it was.
    Same,
    /// In the slot.
    Written { hash: u128 },
    /// On a shelf. The slot's copy is old.
    Packed { hash: u128, place: ShelfPlace },
    /// In the chunk's table: they are these 32 bytes, over and over. The slot's copy is old.
    Repeating(Filler),
}

/// How the granules of a chunk were sealed when they were last written.
#[derive(Clone, Copy)]
pub(crate) struct Seals(pub(crate) [Sealed; GRANULES]);

// SAFETY: integers and bytes.
unsafe impl ZeroValid for Seals {}

impl Chunk {
    /// Where a granule is.
    pub(crate) fn state(&self, granule: usize) -> State {
        self.states[granule]
    }

    /// The granules in one of `states`.
    pub(crate) fn mask(&self, states: &[State]) -> Mask {
        let mut mask = 0;
        for (granule, state) in self.states.iter().enumerate() {
            mask |= Mask::from(states.contains(state)) << granule;
        }
        mask
    }

    /// The frame of a chunk that has granules in one.
    pub(crate) fn its_frame(&self) -> FrameId {
        let Some(frame) = self.frame else { die(format_args!("a granule in limbo has no frame")) };
        frame
    }

    /// Its frame, if it has one.
    pub(crate) fn frame(&self) -> Option<FrameId> {
        self.frame
    }

    /// Gives it a frame, or takes the frame away. `Core::own` and `Core::settle` alone call it:
    /// they change the frame's owner too.
    pub(crate) fn set_frame(&mut self, frame: Option<FrameId>) {
        self.frame = frame;
    }

    /// Whether it entered data as one huge page, and nothing was cut from it since.
    pub(crate) fn is_huge(&self) -> bool {
        self.huge
    }

    /// It is in data as one huge page, or not any more.
    pub(crate) fn set_huge(&mut self, huge: bool) {
        self.huge = huge;
    }

    /// Whether blocks smaller than a chunk live here.
    pub(crate) fn is_small(&self) -> bool {
        self.small
    }

    /// Blocks smaller than a chunk live here from now on.
    pub(crate) fn set_small(&mut self) {
        self.small = true;
    }

    /// Whether it passes through.
    pub(crate) fn passes(&self) -> bool {
        self.passes
    }

    /// It passes through from now on, or no longer does.
    pub(crate) fn set_passes(&mut self, passes: bool) {
        self.passes = passes;
    }

    /// Pages that were given one by one since it was all dead or new.
    pub(crate) fn touches(&self) -> u32 {
        self.touches
    }

    /// One more page was given by itself.
    pub(crate) fn touch(&mut self) {
        self.touches += 1;
    }

    /// All of it is dead: pages may be given one by one again.
    pub(crate) fn untouched(&mut self) {
        self.touches = 0;
    }

    /// When it last entered data.
    pub(crate) fn entered_ns(&self) -> u64 {
        self.entered_ns
    }

    /// Granules of it enter data now.
    pub(crate) fn entered(&mut self, now_ns: u64) {
        self.entered_ns = now_ns;
    }

    /// Where contents went when granules last left their pages.
    pub(crate) fn whereabouts(&self) -> &Whereabouts {
        &self.whereabouts
    }

    /// The chunk gets a slot.
    pub(crate) fn set_slot(&mut self, slot: SlotId) {
        self.whereabouts.slot = Some(slot);
    }

    /// Takes its slot, if it has one. `Core::free_slot` alone calls it, when the file holds nothing
    /// of the chunk.
    pub(crate) fn take_slot(&mut self) -> Option<SlotId> {
        self.whereabouts.slot.take()
    }

    /// Takes a granule's place on a shelf, if it has one.
    pub(crate) fn take_place(&mut self, granule: usize) -> Option<ShelfPlace> {
        self.whereabouts.places[granule].take()
    }

    /// Granules that threads wait for.
    pub(crate) fn wanted(&self) -> Mask {
        self.wanted
    }

    /// Granules for which a demand is queued.
    pub(crate) fn queued(&self) -> Mask {
        self.queued
    }

    /// Granules that somebody will soon ask for, which is queued.
    pub(crate) fn coming(&self) -> Mask {
        self.coming
    }

    /// Granules whose contents may be lost.
    pub(crate) fn dead(&self) -> Mask {
        self.dead
    }

    /// Granules in data that the kernel did not move when they were to leave.
    pub(crate) fn fixed(&self) -> Mask {
        self.fixed
    }

    /// Granules that the slot holds as of `whereabouts.hashes`.
    pub(crate) fn copies(&self) -> Mask {
        self.copies
    }

    /// Granules that are `whereabouts.lanes`, over and over, and in no file.
    pub(crate) fn repeats(&self) -> Mask {
        self.repeats
    }

    /// A thread waits for a granule that a worker has, until it is [`Chunk::served`].
    pub(crate) fn want(&mut self, granule: usize) {
        self.wanted |= 1 << granule;
    }

    /// Nobody waits for granules any more: they are there, or a demand for them is queued.
    pub(crate) fn served(&mut self, mask: Mask) {
        self.wanted &= !mask;
    }

    /// A demand for a granule goes into the queue. Returns whether none was in it.
    pub(crate) fn queue(&mut self, granule: usize) -> bool {
        let is_new = self.queued & 1 << granule == 0;
        self.queued |= 1 << granule;
        is_new
    }

    /// A demand for a granule has left the queue.
    pub(crate) fn unqueue(&mut self, granule: usize) {
        self.queued &= !(1 << granule);
    }

    /// Granules are queued to be brought. `Core::expect` alone calls it, which counts them.
    pub(crate) fn queue_ahead(&mut self, mask: Mask) {
        self.coming |= mask;
    }

    /// Granules have left that queue. `Core::next_expected` alone calls it.
    pub(crate) fn unqueue_ahead(&mut self, mask: Mask) {
        self.coming &= !mask;
    }

    /// The contents of granules may be lost, until [`Chunk::set_live`].
    pub(crate) fn set_dead(&mut self, mask: Mask) {
        self.dead |= mask;
    }

    /// Granules are in use again. Returns those of them that were dead.
    pub(crate) fn set_live(&mut self, mask: Mask) -> Mask {
        let dead = self.dead & mask;
        self.dead &= !mask;
        dead
    }

    /// Replaces the granules that the kernel does not move, and returns those that were so before.
    /// `Core::note_fixed` alone calls it, which counts them.
    pub(crate) fn replace_fixed(&mut self, refused: Mask) -> Mask {
        std::mem::replace(&mut self.fixed, refused)
    }

    /// The slot's copies of granules are about to be overwritten.
    pub(crate) fn set_stale(&mut self, mask: Mask) {
        self.copies &= !mask;
    }

    /// Granules are dead: what the slot or the lanes say of their contents no longer counts.
    pub(crate) fn forget(&mut self, mask: Mask) {
        self.copies &= !mask;
        self.repeats &= !mask;
    }

    /// Notes where a granule's contents were put. A place on a shelf that it had stays its own
    /// until [`Chunk::take_place`].
    pub(crate) fn keep(&mut self, granule: usize, contents: Contents) {
        let bit = 1 << granule;
        self.repeats &= !bit;
        match contents {
            Contents::Same => {}
            Contents::Written { hash } => {
                self.copies |= bit;
                self.whereabouts.hashes[granule] = hash;
            }
            Contents::Packed { hash, place } => {
                self.copies &= !bit;
                self.whereabouts.hashes[granule] = hash;
                self.whereabouts.places[granule] = Some(place);
            }
            Contents::Repeating(lane) => {
                self.copies &= !bit;
                self.repeats |= bit;
                self.whereabouts.lanes[granule] = lane;
            }
        }
    }

    /// Granules leave memory when the clock of evictions shows so much. `Core::gone` alone calls
    /// it.
    pub(crate) fn gone(&mut self, mask: Mask, evictions: u64) {
        for (first, count) in runs(mask) {
            self.left_at[first..first + count].fill(evictions as u32);
        }
    }

    /// How far the clock of evictions, which now shows so much, went since a granule left memory.
    pub(crate) fn distance(&self, granule: usize, evictions: u64) -> u64 {
        u64::from((evictions as u32).wrapping_sub(self.left_at[granule]))
    }

    /// Moves every granule of `mask` by `event`.
    pub(crate) fn step(&mut self, mask: Mask, event: Event) {
        for (first, count) in runs(mask) {
            for state in &mut self.states[first..first + count] {
                match next(*state, event) {
                    Some(after) => *state = after,
                    None => die(format_args!("{event:?} of a granule that is {state:?}")),
                }
            }
        }
    }
}

/// A thread waits for a page.
#[derive(Clone, Copy)]
pub(crate) struct Demand {
    /// Bytes from the start of the data range.
    pub(crate) offset: usize,
    pub(crate) since_ns: u64,
    /// 1: it is about to write.
    pub(crate) write: u32,
}

// SAFETY: integers.
unsafe impl ZeroValid for Demand {}

/// A part of an encoded event of a recorded run.
#[derive(Clone, Copy)]
pub(crate) struct Word(pub(crate) u64);

// SAFETY: an integer.
unsafe impl ZeroValid for Word {}

/// Granules that somebody will soon ask for.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub(crate) chunk: Option<ChunkId>,
    pub(crate) mask: Mask,
    /// 1: they go on into data; 0: they stay in the chunk's frame until touched.
    pub(crate) enters: u32,
}

impl Ahead {
    /// Granules that go on into data.
    pub(crate) fn rows(&self) -> u64 {
        u64::from(self.enters * self.mask.count_ones())
    }
}

// SAFETY: integers, and a number of which zero is `None`.
unsafe impl ZeroValid for Ahead {}
