//! The kinds of address ranges, and pages on the move between them.
//!
//! ```text
//!   data     what the program uses; a touch of an absent page is a message to the pager
//!   frames   where pages are while they are not in data; the program knows no address of it
//!   nursery  where new pages come from, one chunk of each page size a worker
//!   shelves  what is packed; these pages never move
//!
//!     nursery --adopt--> frame --enter--> data --leave--> frame --shift--> another frame
//! ```
//!
//! A page is in exactly one of them, and moving it neither copies nor allocates. Frames are as
//! large as a chunk, and a chunk's granule `i` is only ever at granule `i` of its frame. (One that
//! is read into lent pages is at any place of a frame of nobody's, until it enters.)
//!
//! Two facts of Linux that the shapes here follow, both measured
//! (docs/pager-internals.md):
//!
//! * a huge page stays huge only when the destination has no page table. A fault leaves one
//!   behind, so [`Space::enter`] drops it first: `MADV_DONTNEED` over a whole empty chunk frees
//!   the table since Linux 6.14, in 1 us. [`Space::leave`] of a whole chunk and
//!   [`Space::adopt_huge`] do the same to the frame. Asking for huge pages on `data` instead would
//!   make the kernel clear 2 MiB for every write fault before it tells us.
//! * a destination must be registered. Frames are registered for write protection, which is never
//!   used: so they give no messages.
//!
//! Must never: make a page resident outside nursery and shelves, or move one that somebody reads.
//! (`moves.rs` has the moves, and the exceptions: pages of data that the program locked, protected
//! or dropped.)

use std::ptr::NonNull;

use plimsoll_arena::os::{InChild, Linux, Os, OsError, page_bytes};
use plimsoll_arena::size;

use super::ids::{ChunkId, FrameId, Id, ShelfId};
use super::sys::die;
use super::tables::Mapping;
use super::uffd::{MODE_DESTINATION, MODE_MISSING, Uffd};

/// Bytes of a granule, the least that is brought or taken away: 64 KiB, where this disk's random
/// reads reach most of its bandwidth while a scattered row drags little along. It is the arena's
/// granule, in which the allocator deals out huge pages.
pub const GRANULE_BYTES: usize = size::GRANULE_BYTES;

/// Bytes of a chunk: a huge page.
pub const CHUNK_BYTES: usize = size::HUGE_BYTES;

/// Granules of a chunk.
pub(crate) const GRANULES: usize = CHUNK_BYTES / GRANULE_BYTES;

/// A set of granules of one chunk, the first in the lowest bit.
pub(crate) type Mask = u32;

/// All granules of a chunk.
pub(crate) const ALL: Mask = Mask::MAX;

const _: () = assert!(GRANULES == Mask::BITS as usize);

/// Runs of set bits: first granule and count.
pub(crate) fn runs(mask: Mask) -> impl Iterator<Item = (usize, usize)> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let first = rest.trailing_zeros();
            let count = (rest >> first).trailing_ones();
            rest &= !run(first as usize, count as usize);
            (first as usize, count as usize)
        })
    })
}

/// `count` granules from `first` on.
pub(crate) fn run(first: usize, count: usize) -> Mask {
    if count >= GRANULES { ALL << first } else { ((1 << count) - 1) << first }
}

/// The pager's address ranges, and the moves of pages between them.
pub(crate) struct Space {
    uffd: Uffd,
    data: Mapping,
    frames: Mapping,
    nursery_small: Mapping,
    nursery_huge: Mapping,
    shelves: Mapping,
    /// A page that nobody writes to.
    zeros: Mapping,
}

/// Why the ranges cannot be had.
pub(crate) enum Refused {
    Os(OsError),
    Call(&'static str, i32),
}

impl From<OsError> for Refused {
    fn from(why: OsError) -> Self {
        Self::Os(why)
    }
}

impl Space {
    /// Ranges of `chunks` and `frames` chunks and `shelves` granules, and a nursery for `workers`
    /// workers.
    pub(crate) fn new(
        uffd: Uffd,
        chunks: usize,
        frames: usize,
        shelves: usize,
        workers: usize,
    ) -> Result<Self, Refused> {
        let space = Self {
            uffd,
            data: Mapping::new(chunks * CHUNK_BYTES, CHUNK_BYTES)?,
            frames: Mapping::new(frames * CHUNK_BYTES, CHUNK_BYTES)?,
            nursery_small: Mapping::new(workers * CHUNK_BYTES, CHUNK_BYTES)?,
            nursery_huge: Mapping::new(workers * CHUNK_BYTES, CHUNK_BYTES)?,
            shelves: Mapping::new(shelves * GRANULE_BYTES, CHUNK_BYTES)?,
            zeros: Mapping::new(page_bytes(), page_bytes())?,
        };
        // SAFETY: the range is committed, in whole chunks.
        unsafe { Linux.advise_huge(space.nursery_huge.base(), space.nursery_huge.bytes()) };
        // A child must not see pages that nobody would bring: a touch there ends the child.
        let Self { data, frames, nursery_small, nursery_huge, shelves, .. } = &space;
        for mapping in [data, frames, nursery_small, nursery_huge, shelves] {
            // SAFETY: the range is committed, in whole chunks.
            unsafe { Linux.advise_fork(mapping.base(), mapping.bytes(), InChild::Absent)? };
        }
        for (mapping, mode) in [(&space.data, MODE_MISSING), (&space.frames, MODE_DESTINATION)] {
            space
                .uffd
                .register(mapping.start(), mapping.bytes(), mode)
                .map_err(|errno| Refused::Call("UFFDIO_REGISTER", errno))?;
        }
        Ok(space)
    }

    pub(crate) fn uffd(&self) -> &Uffd {
        &self.uffd
    }

    pub(crate) fn data(&self) -> &Mapping {
        &self.data
    }

    /// The address of a page that is zero.
    pub(super) fn zeros(&self) -> usize {
        self.zeros.start()
    }

    pub(super) fn data_at(&self, chunk: ChunkId, granule: usize) -> usize {
        self.data.at(chunk.index() * CHUNK_BYTES + granule * GRANULE_BYTES).as_ptr().addr()
    }

    pub(super) fn frame_at(&self, frame: FrameId, granule: usize) -> NonNull<u8> {
        self.frames.at(frame.index() * CHUNK_BYTES + granule * GRANULE_BYTES)
    }

    /// The bytes of `count` granules of a frame.
    ///
    /// # Safety
    ///
    /// They are resident, and the caller is their only owner while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "ownership is by the granule's state, not by borrow")]
    pub(crate) unsafe fn frame_bytes(
        &self,
        frame: FrameId,
        first: usize,
        count: usize,
    ) -> &mut [u8] {
        let start = self.frame_at(frame, first).as_ptr();
        assert!(first + count <= GRANULES, "granules outside their frame");
        // SAFETY: inside the frame, as checked; resident and owned, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(start, count * GRANULE_BYTES) }
    }

    /// Some bytes of the shelves.
    ///
    /// # Safety
    ///
    /// They are resident, and nobody writes to them while the slice lives.
    pub(crate) unsafe fn shelf_bytes(&self, offset: usize, bytes: usize) -> &[u8] {
        let start = self.shelves.at(offset).as_ptr();
        assert!(offset % GRANULE_BYTES + bytes <= GRANULE_BYTES, "a place outside its shelf");
        // SAFETY: inside one shelf, as checked; resident and at rest, as the caller says.
        unsafe { std::slice::from_raw_parts(start, bytes) }
    }

    /// The same, to be written to.
    ///
    /// # Safety
    ///
    /// They are resident, and the caller is their only owner while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "ownership is by the granule's state, not by borrow")]
    pub(crate) unsafe fn shelf_bytes_mut(&self, offset: usize, bytes: usize) -> &mut [u8] {
        let start = self.shelves.at(offset).as_ptr();
        assert!(offset % GRANULE_BYTES + bytes <= GRANULE_BYTES, "a place outside its shelf");
        // SAFETY: inside one shelf, as checked; resident and owned, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(start, bytes) }
    }

    /// Makes the pages of a shelf.
    pub(crate) fn bear_shelf(&self, shelf: ShelfId) {
        self.populate(self.shelves.at(shelf.index() * GRANULE_BYTES), GRANULE_BYTES);
    }

    /// Gives the pages of a shelf back to the kernel.
    pub(crate) fn release_shelf(&self, shelf: ShelfId) {
        self.drop_pages(self.shelves.at(shelf.index() * GRANULE_BYTES), GRANULE_BYTES);
    }

    /// Makes a chunk of new pages in a worker's nursery, huge if the kernel has one.
    pub(crate) fn bear_huge(&self, worker: usize) {
        // A page table left from small pages would make these small as well.
        self.drop_pages(self.nursery_huge.at(worker * CHUNK_BYTES), CHUNK_BYTES);
        self.bear(&self.nursery_huge, worker, CHUNK_BYTES);
    }

    /// Makes `count` granules of new small pages in a worker's nursery.
    pub(crate) fn bear_small(&self, worker: usize, count: usize) {
        self.bear(&self.nursery_small, worker, count * GRANULE_BYTES);
    }

    fn bear(&self, nursery: &Mapping, worker: usize, bytes: usize) {
        self.populate(nursery.at(worker * CHUNK_BYTES), bytes);
    }

    fn populate(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: a part of the nursery or of the shelves, committed, and the caller's own.
        if let Err(why) = unsafe { Linux.populate(start, bytes) } {
            die(format_args!("no memory for {bytes} bytes under the budget: {why}"));
        }
    }

    /// Moves a newborn chunk to a frame. A page table there would take the huge page apart, and of
    /// one that is all zero the kernel would keep nothing.
    pub(crate) fn adopt_huge(&self, frame: FrameId, worker: usize) {
        let from = self.nursery_huge.at(worker * CHUNK_BYTES).as_ptr().addr();
        self.release(frame, ALL);
        self.move_all(self.frame_at(frame, 0).as_ptr().addr(), from, CHUNK_BYTES);
    }

    /// Moves newborn granules to places of a frame, in order.
    pub(crate) fn adopt_small(&self, frame: FrameId, mask: Mask, worker: usize) {
        let mut from = self.nursery_small.at(worker * CHUNK_BYTES).as_ptr().addr();
        for (first, count) in runs(mask) {
            let to = self.frame_at(frame, first).as_ptr().addr();
            self.move_all(to, from, count * GRANULE_BYTES);
            from += count * GRANULE_BYTES;
        }
    }

    /// Makes every page of some granules of a frame other than zero.
    ///
    /// # Safety
    ///
    /// Nobody needs their contents, and nobody else has a slice of them.
    pub(crate) unsafe fn mark(&self, frame: FrameId, mask: Mask) {
        for (first, count) in runs(mask) {
            // SAFETY: as the caller promised.
            let bytes = unsafe { self.frame_bytes(frame, first, count) };
            for page in bytes.chunks_mut(page_bytes()) {
                page[0] = 1;
            }
        }
    }

    /// Gives pages of a frame back to the kernel; over a whole frame, its page table too.
    pub(crate) fn release(&self, frame: FrameId, mask: Mask) {
        for (first, count) in runs(mask) {
            self.drop_pages(self.frame_at(frame, first), count * GRANULE_BYTES);
        }
    }

    /// Gives pages of the data range back to the kernel: their contents are dead.
    pub(crate) fn discard(&self, chunk: ChunkId, mask: Mask) {
        for (first, count) in runs(mask) {
            self.drop_data(chunk, first, count);
        }
    }

    /// Gives some pages of the data range back: they are holes of a granule that is there.
    pub(crate) fn drop_part(&self, offset: usize, bytes: usize) {
        // SAFETY: inside the data range; the program has dropped the contents. What the kernel
        // refuses is no longer ours, as below.
        let _ = unsafe { Linux.decommit(self.data.at(offset), bytes) };
    }

    /// Drops what data has of a whole chunk that is empty: its page table.
    pub(super) fn drop_data_table(&self, chunk: ChunkId) {
        self.drop_data(chunk, 0, GRANULES);
    }

    /// What the kernel refuses to drop is no longer ours: the program has unmapped it, or mapped
    /// something else there.
    fn drop_data(&self, chunk: ChunkId, first: usize, count: usize) {
        let start = self.data.at(chunk.index() * CHUNK_BYTES + first * GRANULE_BYTES);
        // SAFETY: inside the data range; the contents are dead or absent, as the callers say.
        let _ = unsafe { Linux.decommit(start, count * GRANULE_BYTES) };
    }

    /// Gives pages of a frame back, by address.
    pub(super) fn drop_frame_pages(&self, start: usize, bytes: usize) {
        self.drop_pages(self.frames.at(start.wrapping_sub(self.frames.start())), bytes);
    }

    fn drop_pages(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: inside one of our ranges; the contents are dead or absent, as the callers say.
        if let Err(why) = unsafe { Linux.decommit(start, bytes) } {
            die(format_args!("pages cannot be given back: {why}"));
        }
    }
}
