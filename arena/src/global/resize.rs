//! `realloc`: in place, else pages move, else bytes.
//!
//! ```text
//!   longer   what follows is free            take it
//!            >= 16 MiB on huge pages         a new block at the same offset within a huge page;
//!                                            whole huge pages move there, the two ends are copied
//!            otherwise                       a new block, a copy
//!   shorter  a quarter or less is left       a new block if that is a smaller kind, a copy
//!            otherwise                       the tail becomes free, with its pages
//! ```
//!
//! Copying a gigabyte takes 0.1 s and has it resident twice. Moving its pages takes a millisecond
//! and has it resident once. The old addresses stay in the range: they are mapped again at once.
//!
//! Invariant: the first `min(old, new)` bytes are what they were. On failure the old block is
//! untouched, and the result is null.
//!
//! Source: mremap(2).

use super::heap::{Heap, HeapBlock, Place};
use super::inner::InnerPurge;
use super::{BLOCK_BYTES_MIN, Global, HUGE_BLOCK_BYTES_MIN, Runs, count};
use crate::os::{Errno, Moved};
use crate::page_source::PageSource;
use crate::size::HUGE_BYTES;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{self, NonNull};

/// Smaller blocks are copied. For 16 MiB that takes 1.6 ms, little more than moving them.
const MOVE_BYTES_MIN: usize = 16 << 20;

/// A block that shrinks stays in place, unless it shrinks to this share and is then of a smaller
/// kind.
const SHRINK_DIVISOR: usize = 4;

impl<A: GlobalAlloc + InnerPurge, P: PageSource> Global<A, P> {
    /// Resizes memory that is a block, or that is to become one.
    ///
    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`].
    pub(super) unsafe fn resize(&self, start: NonNull<u8>, old: Layout, bytes: usize) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(bytes, old.align()) else {
            return ptr::null_mut();
        };
        if !self.owns(start.as_ptr()) || !self.is_ready() {
            // SAFETY: as the caller promised.
            return unsafe { self.copy_to_new(start, old, new) };
        }
        let errno = Errno::save();
        let heap = self.heap_of(start);
        // Growing a moved mapping in place would make two mappings of it, and those cannot be moved
        // in one call.
        let moves = self.may_move(heap, old) && bytes > old.size() && heap.was_moved(start);
        let in_place = || self.resize_in_place(heap, start, new);
        // SAFETY: as the caller promised.
        let to_new = || unsafe { self.move_to_new(heap, start, old, new) };
        let moved = if moves { to_new().or_else(in_place) } else { in_place().or_else(to_new) };
        errno.restore();
        match moved {
            Some(start) => start.as_ptr(),
            // SAFETY: as the caller promised.
            None => unsafe { self.copy_to_new(start, old, new) },
        }
    }

    fn resize_in_place(&self, heap: &Heap, start: NonNull<u8>, new: Layout) -> Option<NonNull<u8>> {
        if !self.stays(heap, new) {
            return None;
        }
        let block = heap.resize(&self.pages, start, new.size())?;
        self.settle(block.fresh_bytes);
        Some(start)
    }

    fn may_move(&self, heap: &Heap, old: Layout) -> bool {
        ptr::eq(heap, &self.huge)
            && old.align() <= HUGE_BYTES
            && old.size() >= MOVE_BYTES_MIN
            && self.pages.may_mremap()
    }

    /// Says whether a block of this heap may be of the new size.
    fn stays(&self, heap: &Heap, new: Layout) -> bool {
        if ptr::eq(heap, &self.huge) {
            new.size() > HUGE_BLOCK_BYTES_MIN / SHRINK_DIVISOR
        } else {
            new.size() > BLOCK_BYTES_MIN / SHRINK_DIVISOR && new.size() < HUGE_BLOCK_BYTES_MIN
        }
    }

    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`].
    unsafe fn copy_to_new(&self, start: NonNull<u8>, old: Layout, new: Layout) -> *mut u8 {
        // SAFETY: the new size is above zero, as the caller of `realloc` promised.
        let to = unsafe { self.alloc(new) };
        if !to.is_null() {
            let bytes = old.size().min(new.size());
            count(&self.counters.copied, bytes);
            // SAFETY: both are allocations of at least `bytes`, and the new one overlaps nothing.
            unsafe { ptr::copy_nonoverlapping(start.as_ptr(), to, bytes) };
            // SAFETY: the old allocation with its layout; nobody uses it any more.
            unsafe { self.dealloc(start.as_ptr(), old) };
        }
        to
    }

    /// Moves the pages of a large block to a new one, or returns `None` when it must be copied.
    ///
    /// # Safety
    ///
    /// As [`GlobalAlloc::realloc`]; `start` is a block of `heap`.
    unsafe fn move_to_new(
        &self,
        heap: &Heap,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Option<NonNull<u8>> {
        if !self.may_move(heap, old) || new.size() <= old.size() {
            return None;
        }
        let old_bytes = heap.block_bytes(start)?;
        let (_, to) = self.block(new, Place::LikeForMove(start), &mut Runs::default())?;
        // SAFETY: both blocks are the caller's, of the huge heap, and the new one was asked for at
        // the same offset within a huge page.
        if !unsafe { self.move_inner(heap, start, old_bytes, to) } {
            return None;
        }
        self.settle(to.fresh_bytes);
        Some(to.start)
    }

    /// Moves the contents of a block to a longer one and gives the first one up. Returns false when
    /// nothing was moved; the new block is then given up instead.
    ///
    /// # Safety
    ///
    /// Both are blocks of `heap` that belong to the caller, at the same offset within a huge page.
    unsafe fn move_inner(
        &self,
        heap: &Heap,
        from: NonNull<u8>,
        from_bytes: usize,
        to: HeapBlock,
    ) -> bool {
        let (pages, head) = heap.inner_pages(from, from_bytes);
        let (to_pages, _) = heap.inner_pages(to.start, to.bytes);
        let (bytes, to_bytes) = (pages.len() * HUGE_BYTES, to_pages.len() * HUGE_BYTES);
        let tail = head + bytes;
        // SAFETY: the first inner page lies `head` bytes after the start, in both blocks.
        let from_inner = unsafe { from.add(head) };
        // SAFETY: as above.
        let to_inner = unsafe { to.start.add(head) };
        // SAFETY: whole huge pages inside two blocks of ours.
        let moved = unsafe { self.pages.move_pages(from_inner, bytes, to_inner, to_bytes) };
        match moved {
            Moved::Done | Moved::OriginLost => {}
            Moved::Refused => {
                heap.release(&self.pages, to.start);
                return false;
            }
            Moved::DestinationLost => {
                heap.forfeit(to.start);
                return false;
            }
        }
        // SAFETY: the part before the inner pages, in both blocks.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.start.as_ptr(), head) };
        // SAFETY: the inner pages end inside the block, or at its end.
        let from_tail = unsafe { from.add(tail) };
        // SAFETY: as above; the new block is the longer one.
        let to_tail = unsafe { to.start.add(tail) };
        // SAFETY: the part after the inner pages, in both blocks.
        unsafe {
            ptr::copy_nonoverlapping(from_tail.as_ptr(), to_tail.as_ptr(), from_bytes - tail);
        }
        count(&self.counters.moved, bytes);
        count(&self.counters.copied, head + from_bytes - tail);
        heap.note_moved(from, from_bytes, to);
        if moved == Moved::OriginLost {
            heap.forfeit(from);
        } else {
            heap.release(&self.pages, from);
        }
        true
    }
}
