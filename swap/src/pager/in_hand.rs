//! Granules in the hands of workers: who has them, and what that allows.
//!
//! ```text
//!   begin_load   -> Loading  --pages--> Pages, whose bytes are the worker's --end_load
//!   begin_write  -> Writing, which has the pages in the chunk's frame      --end_write
//!   begin_clear  -> Clearing, of which there are no pages                  --end_clear
//! ```
//!
//! A ticket is made where the states change, under the lock, and cannot be copied. Nobody else
//! touches the granules' pages until it is given back, so it alone gives out their bytes.
//!
//! Invariant: as many chunks are Loading as `loading` says, and Writing or Clearing as `writing`.
//!
//! Must never: give out bytes of a granule that the ticket does not have.

use super::entry::Chunk;
use super::ids::{ChunkId, FrameId};
use super::space::{Mask, Space, run};
use super::state::{Event, State};
use super::sys::die;

/// How many chunks workers have in hand.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    writing: usize,
    loading: usize,
    /// Of those loading, the ones that wait for memory.
    gaining: usize,
}

impl InHand {
    /// Chunks that are on their way to the file or to shelves, or from shelves to the file.
    pub(crate) fn writing(&self) -> usize {
        self.writing
    }

    /// Chunks that are being brought.
    #[cfg(test)]
    pub(crate) fn loading(&self) -> usize {
        self.loading
    }

    /// Whether somebody is at work who will give memory back, or bring what is waited for.
    pub(crate) fn is_anybody_at_work(&self) -> bool {
        self.writing > 0 || self.loading > self.gaining
    }

    /// A worker that loads begins to wait for memory.
    pub(crate) fn begin_to_gain(&mut self) {
        self.gaining += 1;
    }

    /// It has the memory.
    pub(crate) fn gained(&mut self) {
        self.gaining -= 1;
    }
}

/// Granules of a chunk that a worker brings.
#[must_use = "the granules would be Loading for ever"]
#[derive(Debug)]
pub(crate) struct Loading {
    chunk: ChunkId,
    mask: Mask,
}

/// Granules of a chunk, in its frame, that a worker compares and writes.
#[must_use = "the granules would be Writing for ever"]
#[derive(Debug)]
pub(crate) struct Writing {
    chunk: ChunkId,
    pages: Pages,
}

/// A packed granule that a worker writes to the file.
#[must_use = "the granule would be Clearing for ever"]
#[derive(Debug)]
pub(crate) struct Clearing {
    pub(crate) chunk: ChunkId,
    pub(crate) granule: usize,
}

/// Pages that were lent for one granule: a place of a frame of nobody's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lent {
    pub(crate) frame: FrameId,
    pub(crate) place: usize,
}

/// Where the pages of granules are that a worker has: each at its own place in the chunk's frame,
/// or a single one's at a place that was lent.
#[derive(Debug)]
pub(crate) struct Pages {
    frame: FrameId,
    mask: Mask,
    lent: Option<Lent>,
}

impl Pages {
    pub(crate) fn frame(&self) -> FrameId {
        self.frame
    }

    /// The place that was lent, if one was.
    pub(crate) fn lent(&self) -> Option<Lent> {
        self.lent
    }

    /// The bytes of `count` granules, which are the worker's.
    pub(crate) fn bytes<'a>(
        &'a mut self,
        space: &'a Space,
        first: usize,
        count: usize,
    ) -> &'a mut [u8] {
        assert!(run(first, count) & !self.mask == 0, "pages of granules that are not in hand");
        let place = self.lent.map_or(first, |lent| lent.place);
        // SAFETY: the granules are Loading or Writing, since a ticket was made of them, and it is
        // borrowed mutably: this worker owns their pages, and has no other slice of them.
        unsafe { space.frame_bytes(self.frame, place, count) }
    }
}

impl Loading {
    /// The pages that a load has got: the ones lent, or those in the chunk's frame.
    pub(crate) fn pages(&self, chunk: &Chunk, lent: Option<Lent>) -> Pages {
        let mask = self.mask;
        if let Some(lent) = lent {
            debug_assert!(mask.is_power_of_two(), "pages are lent for one granule");
            return Pages { frame: lent.frame, mask, lent: Some(lent) };
        }
        let Some(frame) = chunk.frame else { die(format_args!("what is brought has no frame")) };
        Pages { frame, mask, lent: None }
    }

    pub(crate) fn chunk(&self) -> ChunkId {
        self.chunk
    }

    pub(crate) fn mask(&self) -> Mask {
        self.mask
    }
}

impl Writing {
    pub(crate) fn chunk(&self) -> ChunkId {
        self.chunk
    }

    pub(crate) fn mask(&self) -> Mask {
        self.pages.mask
    }

    pub(crate) fn frame(&self) -> FrameId {
        self.pages.frame
    }

    /// The bytes of `count` granules, which are the worker's.
    pub(crate) fn bytes<'a>(
        &'a mut self,
        space: &'a Space,
        first: usize,
        count: usize,
    ) -> &'a mut [u8] {
        self.pages.bytes(space, first, count)
    }
}

impl InHand {
    /// A worker takes granules that are in no memory, to bring them.
    pub(crate) fn begin_load(&mut self, id: ChunkId, chunk: &mut Chunk, mask: Mask) -> Loading {
        chunk.step(mask, Event::Load);
        self.loading += 1;
        Loading { chunk: id, mask }
    }

    /// The granules are where `event` says.
    pub(crate) fn end_load(&mut self, loading: Loading, chunk: &mut Chunk, event: Event) {
        chunk.step(loading.mask, event);
        self.loading -= 1;
    }

    /// A worker takes granules of limbo, to compare and write them.
    pub(crate) fn begin_write(&mut self, id: ChunkId, chunk: &mut Chunk, mask: Mask) -> Writing {
        let Some(frame) = chunk.frame else { die(format_args!("what is in limbo has no frame")) };
        chunk.step(mask, Event::Write);
        self.writing += 1;
        Writing { chunk: id, pages: Pages { frame, mask, lent: None } }
    }

    /// The granules are at rest again; the caller has said where.
    pub(crate) fn end_write(&mut self, writing: Writing, chunk: &Chunk) {
        let left = chunk.mask(&[State::Writing]) & writing.pages.mask;
        debug_assert_eq!(left, 0, "granules that stay in hand");
        self.writing -= 1;
    }

    /// A worker takes a packed granule, to write it to the file.
    pub(crate) fn begin_clear(
        &mut self,
        id: ChunkId,
        chunk: &mut Chunk,
        granule: usize,
    ) -> Clearing {
        chunk.step(1 << granule, Event::Clear);
        self.writing += 1;
        Clearing { chunk: id, granule }
    }

    /// The file has it.
    pub(crate) fn end_clear(&mut self, clearing: Clearing, chunk: &mut Chunk) {
        chunk.step(1 << clearing.granule, Event::Cleared);
        self.writing -= 1;
    }
}
