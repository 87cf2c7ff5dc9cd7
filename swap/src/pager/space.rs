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
//!   the table since Linux 6.14, in 1 us. Asking for huge pages on `data` instead would make the
//!   kernel clear 2 MiB for every write fault before it tells us.
//! * a destination must be registered. Frames are registered for write protection, which is never
//!   used: so they give no messages.
//!
//! Must never: make a page resident outside nursery and shelves, or move one that somebody reads.

use std::ptr::NonNull;

use nix::libc;
use plimsoll_arena::os::{InChild, Linux, Os, OsError, page_bytes};
use plimsoll_arena::size::{self, UNIT_BYTES};

use super::shelves::Shelves;
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

/// Fruitless tries before a page that must move is waited for with pauses.
const TRIES: u32 = 64;

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
    /// Ranges of `chunks` and `frames` chunks, and a nursery for `workers` workers.
    pub(crate) fn new(
        uffd: Uffd,
        chunks: usize,
        frames: usize,
        workers: usize,
    ) -> Result<Self, Refused> {
        let space = Self {
            uffd,
            data: Mapping::new(chunks * CHUNK_BYTES, CHUNK_BYTES)?,
            frames: Mapping::new(frames * CHUNK_BYTES, CHUNK_BYTES)?,
            nursery_small: Mapping::new(workers * CHUNK_BYTES, CHUNK_BYTES)?,
            nursery_huge: Mapping::new(workers * CHUNK_BYTES, CHUNK_BYTES)?,
            shelves: Mapping::new(Shelves::most(chunks * GRANULES) * GRANULE_BYTES, CHUNK_BYTES)?,
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

    fn data_at(&self, chunk: u32, granule: usize) -> usize {
        self.data.at(chunk as usize * CHUNK_BYTES + granule * GRANULE_BYTES).as_ptr().addr()
    }

    fn frame_at(&self, frame: u32, granule: usize) -> NonNull<u8> {
        self.frames.at(frame as usize * CHUNK_BYTES + granule * GRANULE_BYTES)
    }

    /// The bytes of `count` granules of a frame.
    ///
    /// # Safety
    ///
    /// They are resident, and the caller is their only owner while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "ownership is by the granule's state, not by borrow")]
    pub(crate) unsafe fn frame_bytes(&self, frame: u32, first: usize, count: usize) -> &mut [u8] {
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
    pub(crate) fn bear_shelf(&self, shelf: u32) {
        self.populate(self.shelves.at(shelf as usize * GRANULE_BYTES), GRANULE_BYTES);
    }

    /// Gives the pages of a shelf back to the kernel.
    pub(crate) fn release_shelf(&self, shelf: u32) {
        self.drop_pages(self.shelves.at(shelf as usize * GRANULE_BYTES), GRANULE_BYTES);
    }

    /// Bytes that a failed move has moved all the same.
    ///
    /// Linux 6.18 moves many small pages at a time; when it is disturbed in between, it begins
    /// again where it began before, finds its own pages at the destination, and reports `EEXIST`
    /// and no progress. Nobody is woken then. What is gone at the origin has arrived, since both
    /// ranges are ours.
    #[cold]
    fn moved_in_silence(&self, from: usize, bytes: usize) -> usize {
        let mut pages = [0; CHUNK_BYTES / UNIT_BYTES];
        let start = std::ptr::without_provenance(from);
        let pages = match Linux.resident_pages(start, bytes, &mut pages) {
            Ok(pages) => pages,
            Err(why) => die(format_args!("{why}")),
        };
        let moved = pages.iter().take_while(|page| **page & 1 == 0).count() * page_bytes();
        if moved == 0 {
            die(format_args!("{bytes} bytes of pages cannot move: the destination is occupied"));
        }
        moved
    }

    /// Moves all of a range. The pages are ours alone, so what stops a move passes: a page that
    /// the kernel still holds for a request just finished, or a list of pages being sorted.
    fn move_all(&self, to: usize, from: usize, bytes: usize) -> u64 {
        let (mut done, mut tries) = (0, 0u32);
        while done < bytes {
            // SAFETY: both ranges are ours, and nobody has a reference into the origin.
            let (moved, error) =
                unsafe { self.uffd.move_pages(to + done, from + done, bytes - done) };
            done += moved;
            match error {
                None | Some(libc::EAGAIN | libc::EBUSY) if moved > 0 => {}
                Some(libc::EEXIST | libc::ENOENT) => {
                    done += self.moved_in_silence(from + done, bytes - done);
                    self.uffd.wake(to, bytes);
                    tries += 1;
                }
                None | Some(libc::EAGAIN | libc::EBUSY) => {
                    tries += 1;
                    if tries > TRIES {
                        std::thread::sleep(std::time::Duration::from_micros(20));
                    } else {
                        std::thread::yield_now();
                    }
                }
                Some(errno) => die(format_args!(
                    "moving {bytes} bytes of pages failed after {done} with OS error {errno}"
                )),
            }
        }
        u64::from(tries)
    }

    /// Moves granules of a frame into the data range, and wakes who waits there.
    pub(crate) fn enter(&self, chunk: u32, frame: u32, mask: Mask) -> u64 {
        if mask == ALL {
            self.drop_data_table(chunk);
        }
        let mut tries = 0;
        for (first, count) in runs(mask) {
            let (to, from) = (self.data_at(chunk, first), self.frame_at(frame, first));
            tries += self.move_all(to, from.as_ptr().addr(), count * GRANULE_BYTES);
        }
        tries
    }

    /// The same for one granule whose pages are at any place of a frame.
    pub(crate) fn enter_one(&self, to: (u32, usize), from: (u32, usize)) -> u64 {
        let (to, from) = (self.data_at(to.0, to.1), self.frame_at(from.0, from.1));
        self.move_all(to, from.as_ptr().addr(), GRANULE_BYTES)
    }

    /// Moves granules of the data range to a frame. Returns those that were moved; the others are
    /// in use by a system call at the moment.
    pub(crate) fn leave(&self, chunk: u32, frame: u32, mask: Mask) -> Mask {
        let mut left = 0;
        for (first, count) in runs(mask) {
            let (to, from) = (self.frame_at(frame, first), self.data_at(chunk, first));
            let done = self.leave_run(to.as_ptr().addr(), from, count * GRANULE_BYTES);
            left |= run(first, done / GRANULE_BYTES);
        }
        left
    }

    /// Moves from the start of a range as far as it goes; whole granules.
    fn leave_run(&self, to: usize, from: usize, bytes: usize) -> usize {
        let (mut done, mut tries) = (0, 0);
        while done < bytes && tries < 3 {
            // SAFETY: both ranges are ours; a thread that uses the origin faults and is served.
            let (moved, error) =
                unsafe { self.uffd.move_pages(to + done, from + done, bytes - done) };
            done += moved;
            match error {
                None | Some(libc::EAGAIN) => {}
                Some(libc::EBUSY) => tries += u32::from(moved == 0),
                Some(libc::EEXIST | libc::ENOENT) => {
                    done += self.moved_in_silence(from + done, bytes - done);
                }
                Some(errno) => die(format_args!(
                    "evicting {bytes} bytes failed after {done} with OS error {errno}"
                )),
            }
        }
        let rest = done % GRANULE_BYTES;
        let whole = done - rest;
        if rest > 0 {
            // Half a granule has moved: back with it.
            self.move_all(from + whole, to + whole, rest);
        }
        whole
    }

    /// Moves one granule between frames.
    pub(crate) fn shift(&self, to: (u32, usize), from: (u32, usize)) {
        let (to, from) = (self.frame_at(to.0, to.1), self.frame_at(from.0, from.1));
        self.move_all(to.as_ptr().addr(), from.as_ptr().addr(), GRANULE_BYTES);
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

    /// Moves a newborn chunk to a frame.
    pub(crate) fn adopt_huge(&self, frame: u32, worker: usize) {
        let from = self.nursery_huge.at(worker * CHUNK_BYTES).as_ptr().addr();
        self.move_all(self.frame_at(frame, 0).as_ptr().addr(), from, CHUNK_BYTES);
    }

    /// Moves newborn granules to places of a frame, in order.
    pub(crate) fn adopt_small(&self, frame: u32, mask: Mask, worker: usize) {
        let mut from = self.nursery_small.at(worker * CHUNK_BYTES).as_ptr().addr();
        for (first, count) in runs(mask) {
            let to = self.frame_at(frame, first).as_ptr().addr();
            self.move_all(to, from, count * GRANULE_BYTES);
            from += count * GRANULE_BYTES;
        }
    }

    /// Gives pages of a frame back to the kernel; over a whole frame, its page table too.
    pub(crate) fn release(&self, frame: u32, mask: Mask) {
        for (first, count) in runs(mask) {
            self.drop_pages(self.frame_at(frame, first), count * GRANULE_BYTES);
        }
    }

    /// Gives pages of the data range back to the kernel: their contents are dead.
    pub(crate) fn discard(&self, chunk: u32, mask: Mask) {
        for (first, count) in runs(mask) {
            let start = self.data.at(chunk as usize * CHUNK_BYTES + first * GRANULE_BYTES);
            self.drop_pages(start, count * GRANULE_BYTES);
        }
    }

    fn drop_data_table(&self, chunk: u32) {
        self.drop_pages(self.data.at(chunk as usize * CHUNK_BYTES), CHUNK_BYTES);
    }

    fn drop_pages(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: inside one of our ranges; the contents are dead or absent, as the callers say.
        if let Err(why) = unsafe { Linux.decommit(start, bytes) } {
            die(format_args!("pages cannot be given back: {why}"));
        }
    }
}
