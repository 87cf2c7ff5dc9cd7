//! Pages on the move, and what is done where the kernel refuses to move them.
//!
//! ```text
//!   frame -> data   moved | refused: copied, and the frame's pages given back
//!   data -> frame   moved | refused: they stay where they are, and are fixed
//! ```
//!
//! A program may do to its vectors what it may do to any memory. The kernel moves pages between
//! mappings of the same rights only, neither or both of them locked, and across no border between
//! two mappings. So what a program locked (mlock(2)), protected (mprotect(2)) or mapped anew cannot
//! leave; what it dropped (madvise(2)) leaves as a hole, which is zero wherever it is.
//!
//! Invariants: a page of a granule that enters is in data afterwards, or the program has unmapped
//! its address; of a granule that leaves, all pages have left or none has.
//!
//! Must never: take pages from an address that is not registered any more: a touch there would find
//! the kernel's zeros instead.
//!
//! Source: `UFFDIO_MOVE`(2const), `UFFDIO_COPY`(2const); `validate_move_areas` of mm/userfaultfd.c.

use std::time::Duration;

use nix::libc;
use plimsoll_arena::os::{Linux, page_bytes};
use plimsoll_arena::size::UNIT_BYTES;

use super::ids::{ChunkId, FrameId};
use super::in_hand::{Lent, Loading};
use super::space::{ALL, CHUNK_BYTES, GRANULE_BYTES, Mask, Space, run, runs};
use super::sys::die;

/// Fruitless tries before a page that must move is waited for with pauses.
const TRIES: u32 = 64;

/// Fruitless tries before it is copied: the kernel holds it for longer than for a request, such as
/// one that it shares (`MADV_MERGEABLE`).
const TRIES_MAX: u32 = 1024;

/// A pause between two tries.
const PAUSE: Duration = Duration::from_micros(20);

/// What became of granules that were to leave data.
pub(crate) struct Left {
    /// They are in the frame now.
    pub(crate) moved: Mask,
    /// The kernel does not move them: they are locked, protected, or mapped anew. What is in
    /// neither is in use by a system call at the moment.
    pub(crate) refused: Mask,
}

impl Space {
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
    /// the kernel still holds for a request just finished, or a list of pages being sorted. What is
    /// refused is copied.
    pub(super) fn move_all(&self, to: usize, from: usize, bytes: usize) -> u64 {
        let (mut done, mut tries) = (0, 0u32);
        while done < bytes {
            // SAFETY: both ranges are ours, and nobody has a reference into the origin.
            let (moved, error) =
                unsafe { self.uffd().move_pages(to + done, from + done, bytes - done) };
            done += moved;
            match error {
                None | Some(libc::EAGAIN | libc::EBUSY) if moved > 0 => {}
                Some(libc::EEXIST) => {
                    done += self.moved_in_silence(from + done, bytes - done);
                    self.uffd().wake(to, bytes);
                    tries += 1;
                }
                None | Some(libc::EAGAIN | libc::EBUSY) if tries < TRIES_MAX => {
                    tries += 1;
                    if tries > TRIES {
                        std::thread::sleep(PAUSE);
                    } else {
                        std::thread::yield_now();
                    }
                }
                None | Some(libc::EAGAIN | libc::EBUSY | libc::EINVAL | libc::ENOENT) => {
                    done += self.move_or_copy(to + done, from + done, bytes - done);
                    tries += 1;
                }
                Some(errno) => die(format_args!(
                    "moving {bytes} bytes of pages failed after {done} with OS error {errno}"
                )),
            }
        }
        u64::from(tries)
    }

    /// Moves the first granule of a range that cannot move as a whole, or copies what cannot move
    /// by itself. Returns the bytes that are done.
    #[cold]
    fn move_or_copy(&self, to: usize, from: usize, bytes: usize) -> usize {
        let part = (GRANULE_BYTES - from % GRANULE_BYTES).min(bytes);
        if part < bytes {
            self.move_all(to, from, part);
        } else {
            self.copy_all(to, from, part);
        }
        part
    }

    /// Copies pages of a frame, and gives the frame's back: as many are held as before.
    #[cold]
    fn copy_all(&self, to: usize, from: usize, bytes: usize) {
        for at in (0..bytes).step_by(page_bytes()) {
            self.copy_page(to + at, from + at);
        }
        self.drop_frame_pages(from, bytes);
        self.uffd().wake(to, bytes);
    }

    /// Copies a page to where none is. Returns whether there was none; where the program has
    /// unmapped the address, nobody can miss it.
    fn copy_page(&self, to: usize, from: usize) -> bool {
        loop {
            // SAFETY: the page is a frame's that is ours alone, or the one that stays zero; the
            // destination lies in data or in a frame.
            match unsafe { self.uffd().copy_page(to, from) } {
                Ok(()) => return true,
                // EFAULT: it is part of a huge page.
                Err(libc::EEXIST | libc::EFAULT | libc::EINVAL | libc::ENOENT) => return false,
                Err(libc::EAGAIN | libc::EINTR) => std::thread::yield_now(),
                Err(errno) => {
                    die(format_args!("a page cannot be copied: it failed with OS error {errno}"))
                }
            }
        }
    }

    /// Makes the page at `offset` into the data range, of a granule that is there, if it is a hole:
    /// it was never touched, or the program dropped it, so it is zero. With it come the holes of
    /// `pages` from it on, or all of the granule's. Returns whether it was one.
    pub(crate) fn fill_hole(&self, offset: usize, pages: usize) -> bool {
        let base = self.data().start();
        let page = offset - offset % page_bytes();
        if !self.copy_page(base + page, self.zeros()) {
            return false;
        }
        let granule = offset - offset % GRANULE_BYTES;
        let all = pages * page_bytes() >= GRANULE_BYTES;
        let past = (page + pages * page_bytes()).min(granule + GRANULE_BYTES);
        let range = if all { granule..granule + GRANULE_BYTES } else { page..past };
        for at in range.step_by(page_bytes()) {
            self.copy_page(base + at, self.zeros());
        }
        true
    }

    /// Moves granules of a frame into the data range, and wakes who waits there.
    pub(crate) fn enter(&self, chunk: ChunkId, frame: FrameId, mask: Mask) -> u64 {
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
    pub(crate) fn enter_one(&self, loading: &Loading, lent: Lent) -> u64 {
        let granule = loading.mask().trailing_zeros() as usize;
        let to = self.data_at(loading.chunk(), granule);
        let from = self.frame_at(lent.frame, lent.place);
        self.move_all(to, from.as_ptr().addr(), GRANULE_BYTES)
    }

    /// Moves granules of the data range to a frame, as far as they go.
    pub(crate) fn leave(&self, chunk: ChunkId, frame: FrameId, mask: Mask) -> Left {
        if mask == ALL {
            // Its page table, if it has one.
            self.release(frame, ALL);
        }
        let mut left = Left { moved: 0, refused: 0 };
        for (first, count) in runs(mask) {
            match self.leave_run(chunk, frame, first, count) {
                Some(moved) => left.moved |= run(first, moved),
                None => self.leave_singly(chunk, frame, run(first, count), &mut left),
            }
        }
        left
    }

    /// One granule after the other: some of them can move.
    #[cold]
    fn leave_singly(&self, chunk: ChunkId, frame: FrameId, mask: Mask, left: &mut Left) {
        for granule in runs(mask).flat_map(|(first, count)| first..first + count) {
            match self.leave_run(chunk, frame, granule, 1) {
                Some(moved) => left.moved |= run(granule, moved),
                None => left.refused |= run(granule, 1),
            }
        }
    }

    /// Moves granules of the data range, from the first as far as it goes, and returns how many;
    /// `None` where the kernel refuses.
    fn leave_run(
        &self,
        chunk: ChunkId,
        frame: FrameId,
        first: usize,
        count: usize,
    ) -> Option<usize> {
        let (to, from) = (self.frame_at(frame, first), self.data_at(chunk, first));
        let (to, bytes) = (to.as_ptr().addr(), count * GRANULE_BYTES);
        if !self.is_registered(from) {
            return None;
        }
        let (mut done, mut tries) = (0, 0);
        while done < bytes && tries < 3 {
            // SAFETY: both ranges are ours; a thread that uses the origin faults and is served.
            let (moved, error) =
                unsafe { self.uffd().move_pages(to + done, from + done, bytes - done) };
            done += moved;
            match error {
                None | Some(libc::EAGAIN) => {}
                Some(libc::EBUSY) => tries += u32::from(moved == 0),
                Some(libc::EEXIST) => done += self.moved_in_silence(from + done, bytes - done),
                // EFAULT: guards of `MADV_GUARD_INSTALL`.
                Some(libc::EINVAL | libc::ENOENT | libc::EFAULT) if done == 0 => return None,
                Some(libc::EINVAL | libc::ENOENT | libc::EFAULT) => break,
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
        Some(whole / GRANULE_BYTES)
    }

    /// Whether a page of data is still in the range that gives messages: the program may have
    /// mapped something else there. (What of a run is in one mapping with its first page, the move
    /// itself finds out.)
    fn is_registered(&self, page: usize) -> bool {
        // SAFETY: the page that is copied stays zero. Where there is a page, nothing happens; where
        // there is none, the program has dropped it and it is zero.
        let copied = unsafe { self.uffd().copy_page(page, self.zeros()) };
        !matches!(copied, Err(libc::EINVAL | libc::ENOENT))
    }

    /// Moves one granule between frames.
    pub(crate) fn shift(&self, to: (FrameId, usize), from: (FrameId, usize)) {
        let (to, from) = (self.frame_at(to.0, to.1), self.frame_at(from.0, from.1));
        self.move_all(to.as_ptr().addr(), from.as_ptr().addr(), GRANULE_BYTES);
    }
}
