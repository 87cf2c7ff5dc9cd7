//! What the pager knows of a frame: its owner, and which granules have pages.
//!
//! All zero bits say: nobody's, and empty. A table of these begins as zero pages.
//!
//! Imports numbers and masks alone.

use super::ids::ChunkId;
use super::space::Mask;
use super::tables::ZeroValid;

/// What is known of a frame.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    owner: Option<ChunkId>,
    /// Granules with pages.
    present: Mask,
    /// Granules whose pages a worker has, on their way into data.
    lent: Mask,
    /// Its pages are one huge page.
    huge: bool,
    /// They came as one huge page, and those that nobody uses may be all zero; see
    /// `Core::take_apart`.
    compound: bool,
}

// SAFETY: integers, flags of which zero is `false`, and a number of which zero is `None`.
unsafe impl ZeroValid for Frame {}

impl Frame {
    /// The chunk that it belongs to.
    pub(crate) fn owner(&self) -> Option<ChunkId> {
        self.owner
    }

    /// It belongs to a chunk. `Core::own` alone calls it, which tells the chunk.
    pub(crate) fn own(&mut self, chunk: ChunkId) {
        self.owner = Some(chunk);
    }

    /// It is nobody's. Returns whose it was; `Core::settle` alone calls it, which tells the chunk.
    pub(crate) fn disown(&mut self) -> Option<ChunkId> {
        self.owner.take()
    }

    /// Granules with pages.
    pub(crate) fn present(&self) -> Mask {
        self.present
    }

    /// Granules whose pages a worker has.
    pub(crate) fn lent(&self) -> Mask {
        self.lent
    }

    /// Whether its pages are one huge page.
    pub(crate) fn is_huge(&self) -> bool {
        self.huge
    }

    /// Granules have got pages. `huge`: all of them came as one huge page. Otherwise the pages of
    /// the frame are no longer one.
    pub(crate) fn receive(&mut self, mask: Mask, huge: bool) {
        self.present |= mask;
        self.huge = huge;
        self.compound |= huge;
    }

    /// Granules have got small pages.
    pub(crate) fn gain(&mut self, mask: Mask) {
        self.present |= mask;
    }

    /// The pages of granules have left the frame.
    pub(crate) fn lose(&mut self, mask: Mask) {
        self.present &= !mask;
    }

    /// A worker gets the pages of a granule.
    pub(crate) fn lend(&mut self, granule: usize) {
        self.lose(1 << granule);
        self.lent |= 1 << granule;
    }

    /// The pages that a worker got have gone into data.
    pub(crate) fn take_back(&mut self, granule: usize) {
        self.lent &= !(1 << granule);
    }

    /// Its pages are no longer used as one.
    pub(crate) fn split(&mut self) {
        self.huge = false;
    }

    /// Whether its pages came as one huge page of which nobody has looked after the zeros. It says
    /// so once.
    pub(crate) fn take_compound(&mut self) -> bool {
        std::mem::take(&mut self.compound)
    }

    /// Forgets how its pages came, if there are none left.
    pub(crate) fn settle(&mut self) {
        self.compound &= self.present != 0;
    }
}
