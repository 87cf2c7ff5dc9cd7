//! What the pager knows of a chunk, of a frame, and of a thread that waits.
//!
//! ```text
//!   Chunk   states of 32 granules, masks, its frame, its slot, 32 hashes, 32 repeated lanes and
//!           32 places on shelves: 1.9 KB a 2 MiB
//!   Seals   nonce and tag of 32 granules of an encrypted file: 768 bytes a 2 MiB
//!   Frame   its owner, and which granules have pages
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
    /// The slot holds it as of `hashes`.
    copies: Mask,
    /// It is `lanes`, over and over, and in no file.
    repeats: Mask,
    pub(crate) frame: Option<FrameId>,
    /// Of the file.
    pub(crate) slot: Option<SlotId>,
    /// 1: entered data as one huge page, and nothing was cut from it since.
    pub(crate) huge: u32,
    /// 1: blocks smaller than a chunk live here, so pages stay small.
    pub(crate) small: u32,
    /// 1: it passes through, unless it is wanted while it is in limbo.
    pub(crate) passes: u32,
    /// Pages that were given one by one, since it was all dead or new; see sparse.rs.
    pub(crate) touches: u32,
    /// When it last entered data.
    pub(crate) entered_ns: u64,
    /// Where they are packed, if they are.
    pub(crate) places: [Option<ShelfPlace>; GRANULES],
    /// `Core`'s clock of evictions when they last left memory; the low bits tell enough.
    left_at: [u32; GRANULES],
    pub(crate) hashes: [u128; GRANULES],
    pub(crate) lanes: [Filler; GRANULES],
}

// SAFETY: integers, numbers of which zero is `None`, and `State`, whose zero is `Zero`.
unsafe impl ZeroValid for Chunk {}

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

    /// Granules that the slot holds as of `hashes`.
    pub(crate) fn copies(&self) -> Mask {
        self.copies
    }

    /// Granules that are `lanes`, over and over, and in no file.
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

    /// Of the granules of `mask`, those of `written` were written to the slot, those of `repeats`
    /// repeat, and those of `packed` are packed. The slot's copies of the last two are old ones;
    /// those of the rest stay as good as they were.
    pub(crate) fn note(&mut self, mask: Mask, written: Mask, repeats: Mask, packed: Mask) {
        self.copies = (self.copies | written) & !(repeats | packed);
        self.repeats = self.repeats & !mask | repeats;
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

/// What is known of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) owner: Option<ChunkId>,
    /// Granules with pages.
    pub(crate) present: Mask,
    /// Granules whose pages a worker has, on their way into data.
    pub(crate) lent: Mask,
    /// 1: its pages are one huge page.
    pub(crate) huge: u32,
    /// 1: they came as one huge page, and those that nobody uses may be all zero; see
    /// `Core::take_apart`.
    pub(crate) compound: u32,
}

// SAFETY: integers, and a number of which zero is `None`.
unsafe impl ZeroValid for Frame {}

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
