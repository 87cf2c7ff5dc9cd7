//! What the global allocator needs of the range it hands blocks out of, and nothing more.
//!
//! ```text
//!            reserve           commit           (handed out)        freed
//!   nothing --------> no access ------> zero, absent ------> in use ------> dead, resident
//!                                          ^                   ^               |     |
//!                                          |                   +---- reused ---+     |
//!                                          +-------------------- decommit -----------+
//! ```
//!
//! The allocator knows nothing about paging. A source that pages (the swap crate has one) drops
//! `freed` contents, and may take away pages of blocks in use as long as it brings them back at a
//! touch. [`PlainPages`] is the ordinary source: an anonymous mapping of the kernel.
//!
//! Rules every source keeps, because they are called from inside `malloc`:
//!
//! * no method but `reserve` allocates from the process's global allocator, takes a lock of `std`,
//!   formats, logs or panics; what must fail returns an error, and what must not go on aborts;
//! * `reserve` may: until it returns, every request of the process is the inner allocator's;
//! * every method may be called from any thread, before `main`, after thread-locals are gone;
//! * the contents of a range that is not in a block in use may be dropped at any time, but never
//!   come back changed: after `decommit` they are zero, otherwise they are what they were.
//!
//! A source must be const-constructible, since it lives in the `static` of the allocator.

use crate::os::{InChild, Linux, Moved, Os, OsError};
use std::ptr::NonNull;

/// The page size a range asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// OS pages: blocks below 2 MiB, where a huge page would make resident what nobody touched.
    Small,
    /// Huge pages: blocks of 2 MiB and more.
    Huge,
}

/// Where the global allocator gets its range of addresses and its pages.
///
/// # Safety
///
/// `reserve` gives a range that overlaps nothing else and stays for the life of the process; a
/// block in use keeps its contents; committed memory that was never written, or was decommitted,
/// reads as zero.
pub unsafe trait PageSource: Sync {
    /// Reserves addresses, aligned to 2 MiB, without memory: `bytes`, or where the kernel refuses
    /// as many, half of it and so on, down to `least_bytes`. Returns the first and how many there
    /// are. All three numbers are multiples of 2 MiB. The allocator calls it once.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the least, too.
    fn reserve(&self, bytes: usize, least_bytes: usize) -> Result<(NonNull<u8>, usize), OsError>;

    /// Allows access to a part of the range, before any block is handed out of it. Parts are
    /// multiples of 2 MiB; each is committed once, and parts of one page size lie side by side.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to account for it.
    ///
    /// # Safety
    ///
    /// The part lies inside the reserved range and was not committed before.
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize, pages: Pages) -> Result<(), OsError>;

    /// Gives the memory of a free range back; it reads as zero afterwards.
    ///
    /// # Errors
    ///
    /// When the kernel refuses (locked pages); the contents are unspecified then.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages, and no block in use touches it.
    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError>;

    /// A block was freed: its contents are dead, its pages stay for reuse. A source that pages
    /// need not write them out, and takes them first.
    ///
    /// # Safety
    ///
    /// The range is a block that nobody uses any more, in whole OS pages.
    unsafe fn freed(&self, start: NonNull<u8>, bytes: usize) {
        _ = (start, bytes);
    }

    /// A block is about to be handed out of memory that may have been `freed` before.
    ///
    /// # Safety
    ///
    /// The range is committed, in whole OS pages, and belongs to the caller alone.
    unsafe fn reused(&self, start: NonNull<u8>, bytes: usize) {
        _ = (start, bytes);
    }

    /// A block in use spans this range from now on: it was handed out, or was made longer or
    /// shorter where it is.
    fn placed(&self, start: NonNull<u8>, bytes: usize) {
        _ = (start, bytes);
    }

    /// Asks for pages of another size in a block, from the next touch on.
    fn advise(&self, start: NonNull<u8>, bytes: usize, pages: Pages) {
        _ = (start, bytes, pages);
    }

    /// Says whether [`PageSource::move_pages`] can move pages with one system call; where it
    /// cannot, a block that must move is copied.
    fn may_mremap(&self) -> bool {
        false
    }

    /// Moves the pages of `from..from + from_bytes` to `to`, and makes `to..to + to_bytes` one
    /// accessible range. All numbers are multiples of 2 MiB, `to_bytes >= from_bytes`.
    ///
    /// # Safety
    ///
    /// Both ranges are committed [`Pages::Huge`] parts, do not overlap and belong to the caller
    /// alone; nothing needs the contents of the destination.
    unsafe fn move_pages(
        &self,
        from: NonNull<u8>,
        from_bytes: usize,
        to: NonNull<u8>,
        to_bytes: usize,
    ) -> Moved {
        _ = (from, from_bytes, to, to_bytes);
        Moved::Refused
    }

    /// Says that the source tells the process's account itself what pages it holds: those of
    /// blocks are not counted again.
    fn counts_its_pages(&self) -> bool {
        false
    }

    /// The process is over its limit with every cached block given back, or what it holds beside
    /// the source has grown under one. A source that keeps to the limit of the process makes room,
    /// and returns the bytes that it gave back.
    fn follow_limit(&self) -> usize {
        0
    }

    /// Says, once in a child process of `fork`, whether the range can be used on. After false the
    /// allocator leaves it alone: what is allocated comes from the inner allocator, what is freed
    /// in the range stays as it is.
    fn usable_after_fork(&self) -> bool {
        true
    }

    /// Has the kernel clear a part of a table in children of `fork`. A source that cannot is not
    /// told apart: a child made while another thread was inside the allocator may then hang.
    ///
    /// # Safety
    ///
    /// The part was given to `commit_table`, in whole OS pages.
    unsafe fn wipe_on_fork(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller says that the part is committed.
        let _ = unsafe { Linux.advise_fork(start, bytes, InChild::Zero) };
    }

    /// Reserves `bytes` of addresses for the allocator's own tables: never paged, zero at first.
    ///
    /// # Errors
    ///
    /// When the kernel refuses that much address space.
    fn reserve_table(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        Linux.reserve(bytes, 4096)
    }

    /// Allows access to a part of a table.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to account for it.
    ///
    /// # Safety
    ///
    /// The part lies inside one `reserve_table`, in whole OS pages.
    unsafe fn commit_table(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller says that the part lies inside a live reservation.
        unsafe { Linux.commit(start, bytes) }
    }

    /// Gives the memory of a part of a table back; it reads as zero afterwards, or as before.
    ///
    /// # Safety
    ///
    /// The part was committed by `commit_table`, in whole OS pages, and nobody reads it meanwhile.
    unsafe fn decommit_table(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller says so.
        let _ = unsafe { Linux.decommit(start, bytes) };
    }
}

/// Half of a range in whole huge pages, if that is no less than the least there may be.
#[must_use]
pub fn half_range(bytes: usize, least_bytes: usize) -> Option<usize> {
    let half = (bytes / 2).next_multiple_of(crate::size::HUGE_BYTES);
    (half < bytes && half >= least_bytes).then_some(half)
}

/// A source that a `static` can be made of.
pub trait StaticSource: PageSource + Sized {
    /// The source before anything was asked of it.
    const NEW: Self;
}

/// The ordinary source: an anonymous private mapping, huge pages where asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainPages;

impl StaticSource for PlainPages {
    const NEW: Self = Self;
}

// SAFETY: as `Linux` keeps the contract of `Os`; a reservation is never released.
unsafe impl PageSource for PlainPages {
    fn reserve(&self, bytes: usize, least_bytes: usize) -> Result<(NonNull<u8>, usize), OsError> {
        let mut bytes = bytes;
        loop {
            match Linux.reserve(bytes, crate::size::HUGE_BYTES) {
                Ok(base) => return Ok((base, bytes)),
                Err(why) => bytes = half_range(bytes, least_bytes).ok_or(why)?,
            }
        }
    }

    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize, pages: Pages) -> Result<(), OsError> {
        // SAFETY: the caller says that the part lies inside the reservation.
        unsafe { Linux.commit(start, bytes)? };
        if pages == Pages::Huge {
            // SAFETY: the part was committed by the line above, in whole huge pages.
            unsafe { Linux.advise_huge(start, bytes) };
        }
        Ok(())
    }

    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        // SAFETY: the caller says that the range is committed and free.
        unsafe { Linux.decommit(start, bytes) }
    }

    fn advise(&self, start: NonNull<u8>, bytes: usize, pages: Pages) {
        match pages {
            // SAFETY: a block is committed; the advice changes no contents.
            Pages::Small => unsafe { Linux.advise_small(start, bytes) },
            // SAFETY: as above.
            Pages::Huge => unsafe { Linux.advise_huge(start, bytes) },
        }
    }

    fn may_mremap(&self) -> bool {
        true
    }

    unsafe fn move_pages(
        &self,
        from: NonNull<u8>,
        from_bytes: usize,
        to: NonNull<u8>,
        to_bytes: usize,
    ) -> Moved {
        // SAFETY: as the caller promised.
        unsafe { Linux.move_pages(from, from_bytes, to, to_bytes) }
    }
}
