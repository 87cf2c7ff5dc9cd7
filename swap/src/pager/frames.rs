//! Frames: which is whose, and what becomes of pages in them that nobody uses.
//!
//! ```text
//!   free --own--> of a chunk --settle--> with spare pages --release--> free
//!                                             |    ^
//!                                        lend |    | take back: they have left for data
//!                                             v    |
//!                                             lent
//! ```
//!
//! Invariant: a frame of which pages are lent gets no owner.

use super::core::Core;
use super::held::Where;
use super::ids::{ChunkId, FrameId, Id};
use super::in_hand::Lent;
use super::queues::Framed;
use super::space::{ALL, Mask, Space};
use super::state::State;
use super::sys::die;

impl Core {
    /// The granules of a frame that its owner uses.
    fn used(&self, frame: FrameId) -> Mask {
        let Some(owner) = self.frames[frame.index()].owner() else { return 0 };
        use State::{Ahead, Limbo, Loading, Writing};
        self.chunks[owner.index()].mask(&[Limbo, Writing, Loading, Ahead])
    }

    /// The granules of a frame that have pages and no use.
    pub(crate) fn spare_of(&self, frame: FrameId) -> Mask {
        self.frames[frame.index()].present() & !self.used(frame)
    }

    /// Puts a frame on the list it belongs on, and takes it from an owner that has no more use
    /// for it.
    pub(crate) fn settle(&mut self, frame: FrameId) {
        if self.used(frame) == 0
            && let Some(chunk) = self.frame(frame).disown()
        {
            self.chunk(chunk).set_frame(None);
        }
        let spare = self.spare_of(frame);
        let entry = self.frame(frame);
        entry.settle();
        match (entry.owner(), entry.present(), spare) {
            (None, 0, _) if entry.lent() == 0 => self.framed.push_back(Framed::Free, frame),
            (None, ALL, _) if entry.is_huge() => self.framed.push_back(Framed::Blank, frame),
            (_, _, 0) => self.framed.remove(frame),
            // Those of no chunk first: one can be lent.
            (None, ..) => self.framed.push_front(Framed::Spare, frame),
            _ => self.framed.push_back(Framed::Spare, frame),
        }
    }

    /// The frame of `chunk`, which gets one if it has none.
    pub(crate) fn own_frame(&mut self, space: &Space, chunk: ChunkId) -> FrameId {
        if let Some(frame) = self.chunk(chunk).frame() {
            return frame;
        }
        if self.framed.len(Framed::Free) == 0 && self.frames_used < self.frames.len() {
            let frame = FrameId::of(self.frames_used);
            self.frames_used += 1;
            self.own(chunk, frame);
            return frame;
        }
        if self.framed.len(Framed::Free) == 0 {
            // Frames without an owner keep pages. There are more frames than chunks, so one of
            // them is free without.
            self.release_spares(space, u64::MAX);
        }
        let Some(frame) = self.framed.front(Framed::Free) else {
            die(format_args!("no frame is free"))
        };
        self.own(chunk, frame);
        frame
    }

    /// Gives `frame` to `chunk`.
    pub(crate) fn own(&mut self, chunk: ChunkId, frame: FrameId) {
        self.framed.remove(frame);
        self.frame(frame).own(chunk);
        self.chunk(chunk).set_frame(Some(frame));
    }

    /// Lends spare pages for one granule of a chunk, which stay where they are until they leave for
    /// data; nobody gets their frame meanwhile. `None` if all that is spare lies in frames of
    /// chunks, or some of it where the granule belongs.
    pub(crate) fn lend_for(&mut self, space: &Space, chunk: ChunkId, mask: Mask) -> Option<Lent> {
        if let Some(own) = self.chunk(chunk).frame()
            && self.frames[own.index()].present() & mask != 0
        {
            return None;
        }
        let nobodys = |frame: &FrameId| self.frames[frame.index()].owner().is_none();
        let frame = self.framed.front(Framed::Spare).filter(nobodys)?;
        let granule = self.spare_of(frame).trailing_zeros() as usize;
        self.take_apart(space, frame, 0);
        self.frame(frame).lend(granule);
        self.held.pass(Where::Spare, Where::InFlight, 1);
        self.settle(frame);
        Some(Lent { frame, place: granule })
    }

    /// Makes the spare pages of a frame's huge page, and those of `gained`, other than zero before
    /// some of its pages leave alone. Linux 6.12 and later would give back those that are all zero,
    /// and each would cost a fault once something is read into it. What is in use is left as it is.
    pub(crate) fn take_apart(&mut self, space: &Space, frame: FrameId, gained: Mask) {
        if self.frame(frame).take_compound() {
            // SAFETY: spare pages are nobody's, and whoever holds the lock may use them; the caller
            // has those of `gained`, and is about to fill them.
            unsafe { space.mark(frame, self.spare_of(frame) | gained) };
        }
    }

    /// The lent pages of a frame have left.
    pub(crate) fn take_back(&mut self, lent: Lent) {
        self.frame(lent.frame).take_back(lent.place);
        self.settle(lent.frame);
    }

    /// Notes that pages have left a frame.
    pub(crate) fn vacated(&mut self, frame: FrameId, mask: Mask) {
        let entry = self.frame(frame);
        entry.lose(mask);
        entry.split();
    }

    /// Gives spare pages of a frame back to the kernel.
    pub(crate) fn release_spare(&mut self, space: &Space, frame: FrameId, mask: Mask) {
        let count = u64::from(mask.count_ones());
        self.held.leaving(count);
        space.release(frame, mask);
        self.vacated(frame, mask);
        self.held.uncharge(Where::Spare, count);
        self.settle(frame);
    }

    /// Gives up to `granules` of spare pages back to the kernel, and returns how many.
    pub(crate) fn release_spares(&mut self, space: &Space, granules: u64) -> u64 {
        let mut released = 0;
        while released < granules {
            let Some(frame) =
                self.framed.front(Framed::Spare).or_else(|| self.framed.front(Framed::Blank))
            else {
                break;
            };
            let mask = self.spare_of(frame);
            self.release_spare(space, frame, mask);
            released += u64::from(mask.count_ones());
        }
        released
    }

    /// A frame whose granules are no longer used as one.
    pub(crate) fn cut(&mut self, frame: FrameId, mask: Mask) {
        if mask != ALL {
            self.frame(frame).split();
        }
    }
}
