//! Granules in the hands of workers: who has them, and what that allows.
//!
//! ```text
//!   begin_load   -> Loading  --got_pages--> has pages  --take_pages--> has none  --end_load
//!   begin_write  -> Writing, which has the pages in the chunk's frame        --end_write
//!   begin_clear  -> Clearing, of which there are no pages                    --end_clear
//! ```
//!
//! A ticket is made where the states change, under the lock, and cannot be copied. Nobody else
//! touches the granules' pages until they are moved or the ticket is given back, so the ticket
//! alone gives out their bytes. (sparse.rs brings single pages under the lock, without a ticket.)
//!
//! Invariant: `loading` tickets are out for granules that are Loading, and `writing` for those that
//! are Writing or Clearing. A chunk may have several.
//!
//! Must never: give out bytes of a granule that the ticket does not have.

use super::entry::Chunk;
use super::ids::{ChunkId, FrameId};
use super::space::{GRANULES, Mask, Space, run};
use super::state::{Event, State};
use super::sys::die;

/// How many tickets are out.
#[derive(Debug, Default)]
pub(crate) struct InHand {
    writing: usize,
    loading: usize,
    /// Of those loading, the ones that wait for memory.
    gaining: usize,
}

impl InHand {
    /// Tickets for what is on its way to the file or to shelves, or from shelves to the file.
    pub(crate) fn writing(&self) -> usize {
        self.writing
    }

    /// Tickets for what is being brought.
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
    pages: Option<Pages>,
}

/// Granules of a chunk, in its frame, that a worker compares and writes.
#[must_use = "the granules would be Writing for ever"]
#[derive(Debug)]
pub(crate) struct Writing {
    chunk: ChunkId,
    mask: Mask,
    pages: Pages,
}

/// A packed granule that a worker writes to the file.
#[must_use = "the granule would be Clearing for ever"]
#[derive(Debug)]
pub(crate) struct Clearing {
    chunk: ChunkId,
    granule: usize,
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
    lent: Option<Lent>,
}

impl Pages {
    pub(crate) fn frame(&self) -> FrameId {
        self.frame
    }

    /// What was lent, if it was.
    pub(crate) fn lent(&self) -> Option<Lent> {
        self.lent
    }

    /// The bytes of `count` granules from `first` on, of the `mask` that a ticket has.
    fn bytes<'a>(
        &'a mut self,
        space: &'a Space,
        mask: Mask,
        first: usize,
        count: usize,
    ) -> &'a mut [u8] {
        let inside = first < GRANULES && count <= GRANULES - first;
        assert!(inside && run(first, count) & !mask == 0, "granules that are not in hand");
        assert!(count == 1 || self.lent.is_none(), "pages are lent for one granule");
        let place = self.lent.map_or(first, |lent| lent.place);
        // SAFETY: the granules are Loading or Writing, since there is a ticket for them, and it has
        // these pages and is borrowed mutably: this worker owns them and has no other slice.
        unsafe { space.frame_bytes(self.frame, place, count) }
    }
}

impl Loading {
    pub(crate) fn chunk(&self) -> ChunkId {
        self.chunk
    }

    pub(crate) fn mask(&self) -> Mask {
        self.mask
    }

    /// The load has got its pages: the ones lent, or those in the chunk's frame.
    pub(crate) fn got_pages(&mut self, chunk: &Chunk, lent: Option<Lent>) {
        let frame = lent.map_or_else(|| chunk.its_frame(), |lent| lent.frame);
        self.pages = Some(Pages { frame, lent });
    }

    /// The bytes of `count` granules, which are the worker's.
    pub(crate) fn bytes<'a>(
        &'a mut self,
        space: &'a Space,
        first: usize,
        count: usize,
    ) -> &'a mut [u8] {
        let Some(pages) = &mut self.pages else { die(format_args!("a load has no pages")) };
        pages.bytes(space, self.mask, first, count)
    }

    /// Where the pages are, which are about to be anybody's: the ticket has them no more.
    pub(crate) fn take_pages(&mut self) -> Pages {
        let Some(pages) = self.pages.take() else { die(format_args!("a load has no pages")) };
        pages
    }
}

impl Writing {
    pub(crate) fn chunk(&self) -> ChunkId {
        self.chunk
    }

    pub(crate) fn mask(&self) -> Mask {
        self.mask
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
        self.pages.bytes(space, self.mask, first, count)
    }
}

impl Clearing {
    /// The chunk and its granule.
    pub(crate) fn place(&self) -> (ChunkId, usize) {
        (self.chunk, self.granule)
    }
}

impl InHand {
    /// A worker takes granules that are in no memory, to bring them.
    pub(crate) fn begin_load(&mut self, id: ChunkId, chunk: &mut Chunk, mask: Mask) -> Loading {
        chunk.step(mask, Event::Load);
        self.loading += 1;
        Loading { chunk: id, mask, pages: None }
    }

    /// The granules are where `event` says.
    pub(crate) fn end_load(&mut self, loading: Loading, chunk: &mut Chunk, event: Event) {
        chunk.step(loading.mask, event);
        self.loading -= 1;
    }

    /// A worker takes granules of limbo, to compare and write them.
    pub(crate) fn begin_write(&mut self, id: ChunkId, chunk: &mut Chunk, mask: Mask) -> Writing {
        let frame = chunk.its_frame();
        chunk.step(mask, Event::Write);
        self.writing += 1;
        Writing { chunk: id, mask, pages: Pages { frame, lent: None } }
    }

    /// The granules are at rest again; the caller has said where.
    pub(crate) fn end_write(&mut self, writing: Writing, chunk: &Chunk) {
        let left = chunk.mask(&[State::Writing]) & writing.mask;
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
