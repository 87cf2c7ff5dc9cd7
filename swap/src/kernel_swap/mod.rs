//! Cold bytes in memory that is advised out to the kernel's swap: no file, and no privilege.
//!
//! ```text
//!   write   for each window: pages -> copy -> MADV_PAGEOUT -> what stayed?
//!   read    for each window: MADV_WILLNEED, pages -> copy -> MADV_PAGEOUT again: its swap stays
//!   forget  MADV_DONTNEED: pages and swap are the kernel's again
//!
//!   memory  | window | window | ..          one reservation, as long as all swap areas
//! ```
//!
//! **Why frames, and not the vector's own pages.** The kernel splits huge pages to page them out,
//! and they come back as small ones: the pool would hand such a block to vector after vector. A
//! frame leaves the block to the pool, pages and all, for the vector that needs the room. And the
//! bytes keep what every tier promises: checksum, seal, quota, a vector of any size.
//!
//! **What has left.** A window is done when at most a 16th of it stayed; what stayed is in the RSS
//! and counts there. Which count says so depends on the swap. A page that is being written to a
//! disk is in the kernel's swap cache: like the page cache of a file, it gives way when the disk
//! has it, so the RSS is the count (`pagemap`). zram is written before the call returns, and a page
//! in the swap cache is one that zram did not take: nobody would count it, so `mincore` is the
//! count. If more stayed, the swap is full: the write is undone, and the vector stays in memory.
//!
//! **What zram takes** is RAM, and the account counts it (`Account::note_swap`).
//!
//! Invariants: a request has a window at most in the RSS; what was forgotten, or released, takes no
//! swap; a page that cannot be read is an error, and a signal only if the kernel takes it out again
//! before it was copied.
//!
//! Must never: make a reference to the memory, or swap a secret to a disk in the clear: the store
//! asks [`Backend::kept`].
//!
//! Source: madvise(2), mincore(2) of the Linux man-pages; the kernel's admin-guide/mm/pagemap.

#![allow(unsafe_code, reason = "memory of its own, which is copied into and out of")]

mod look;

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use plimsoll_arena::os::{Linux, Os, OsError};
use plimsoll_arena::process::{AccountRef, Scratch, Swap, SwapKind};
use plimsoll_arena::sync::unpoisoned;

use crate::Error;
use crate::backend::{Backend, Kept};
use crate::extent::{BLOCK_BYTES, Extent};
use crate::file::check_aligned;
use look::{Look, look, may_swap, zram_per_1024};

/// Bytes that a request has in memory at once, in the RSS, once for each thread. Smaller ones cost
/// more calls: with 64 KiB zram took 0.6 of the bytes a second, with 4 MiB as many.
const WINDOW_BYTES: usize = 256 << 10;

/// A window may keep this share of its pages: some may be in use by the kernel for a moment.
const STAYING_DIVISOR: usize = 16;

/// How often a window is advised out: a page may be on a list of another processor's once.
const TRIES: u32 = 3;

/// The reservation is made of so many bytes.
const STEP_BYTES: usize = 64 << 20;

/// Bytes of the trial at the start.
const TRIAL_BYTES: usize = 64 << 10;

const _: () =
    assert!((WINDOW_BYTES as u64).is_multiple_of(BLOCK_BYTES), "a window is made of blocks");
const _: () = assert!(WINDOW_BYTES.is_multiple_of(TRIAL_BYTES) && TRIAL_BYTES >= 64 << 10);

/// Memory whose bytes are in the kernel's swap. Drop gives memory and swap back.
///
/// Of this crate only: two threads at one extent would be a data race, and the store's extents are
/// each one owner's.
pub(crate) struct KernelSwap {
    os: Arc<dyn Os>,
    look: Look,
    scratch: Mutex<Box<Scratch>>,
    account: Option<AccountRef>,
    base: NonNull<u8>,
    reserved_bytes: usize,
    committed_bytes: AtomicU64,
    /// What zram took of the RAM for 1024 bytes in the swap, when it was last looked at; nothing
    /// where the swap was not zram alone.
    zram_per_1024: AtomicU64,
}

// SAFETY: the pointer is to a reservation of its own; the bytes in it are copied, by the contract
// of `Backend`, by one thread for each extent.
unsafe impl Send for KernelSwap {}
// SAFETY: as above.
unsafe impl Sync for KernelSwap {}

impl std::fmt::Debug for KernelSwap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelSwap").field("len_bytes", &self.len_bytes()).finish_non_exhaustive()
    }
}

impl KernelSwap {
    /// Memory for as many bytes as the kernel's swap has, none of them in use. A trial shows that
    /// pages do leave. What zram takes is counted by `account`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSwap`], with the reason.
    pub(crate) fn open(account: Option<AccountRef>) -> Result<Self, Error> {
        may_swap().map_err(|why| Error::NoSwap { why })?;
        Self::open_on(Arc::new(Linux), look, account)
    }

    /// Opens one, and says what has its bytes.
    ///
    /// # Errors
    ///
    /// As [`KernelSwap::open`].
    pub(crate) fn trial() -> Result<Kept, Error> {
        Self::open(None).map(|opened| opened.kept())
    }

    fn open_on(os: Arc<dyn Os>, look: Look, account: Option<AccountRef>) -> Result<Self, Error> {
        let no_swap = |why: String| Error::NoSwap { why };
        let mut scratch = Box::new(Scratch::new());
        let swap = look(&mut scratch).map_err(no_swap)?;
        let asked = usize::try_from(swap.size_bytes).unwrap_or(usize::MAX / 4);
        let mut bytes = asked.min(usize::MAX / 4).next_multiple_of(STEP_BYTES);
        let base = loop {
            match os.reserve(bytes, os.page_bytes()) {
                Ok(base) => break base,
                // As much as `ulimit -v` leaves.
                Err(_) if bytes > STEP_BYTES => {
                    bytes = (bytes / 2).next_multiple_of(STEP_BYTES);
                }
                Err(why) => return Err(no_swap(why.to_string())),
            }
        };
        let opened = Self {
            os,
            look,
            scratch: Mutex::new(scratch),
            account,
            base,
            reserved_bytes: bytes,
            committed_bytes: AtomicU64::new(0),
            zram_per_1024: AtomicU64::new(0),
        };
        opened.note(&swap);
        opened.try_out(&swap)?;
        Ok(opened)
    }

    /// Sees whether pages leave, of memory that nobody has written to yet.
    fn try_out(&self, swap: &Swap) -> Result<(), Error> {
        let no_swap = |why: String| Error::NoSwap { why };
        let refused = |why: OsError| no_swap(why.to_string());
        // SAFETY: the range is inside the reservation, in whole pages, and nobody else has it yet.
        unsafe { self.os.commit(self.base, TRIAL_BYTES) }.map_err(refused)?;
        // SAFETY: committed above.
        unsafe { self.os.populate(self.base, TRIAL_BYTES) }.map_err(refused)?;
        // SAFETY: populated above.
        unsafe { self.base.as_ptr().write_bytes(1, TRIAL_BYTES) };
        let staying = self.advise_out(0, TRIAL_BYTES, swap).map_err(refused)?;
        // SAFETY: as above; nothing needs the bytes.
        unsafe { self.os.decommit(self.base, TRIAL_BYTES) }.map_err(refused)?;
        match staying <= TRIAL_BYTES / STAYING_DIVISOR {
            true => Ok(()),
            false => Err(no_swap("the kernel took no page in a trial: it is full".to_owned())),
        }
    }

    /// The first byte and the length of the pages that have a range of the reservation.
    fn pages(&self, offset_bytes: usize, bytes: usize) -> (NonNull<u8>, usize) {
        let page = self.os.page_bytes();
        let start = offset_bytes / page * page;
        debug_assert!(offset_bytes + bytes <= self.reserved_bytes, "past the reservation");
        // SAFETY: the start is inside the reservation, as asserted; its callers have looked.
        let first = unsafe { self.base.add(start) };
        (first, (offset_bytes + bytes).next_multiple_of(page) - start)
    }

    /// Advises a range out; returns the bytes that stayed.
    fn advise_out(&self, offset: usize, bytes: usize, swap: &Swap) -> Result<usize, OsError> {
        let (first, bytes) = self.pages(offset, bytes);
        let mut staying = bytes;
        for _ in 0..TRIES {
            // SAFETY: committed when it was reserved, in whole pages; the advice keeps contents.
            unsafe { self.os.page_out(first, bytes) }?;
            staying = match swap.kind {
                // SAFETY: a range of the reservation, in whole pages.
                SwapKind::Zram => unsafe { self.os.resident_bytes(first, bytes) },
                // SAFETY: as above.
                SwapKind::Disk | SwapKind::None => unsafe { self.os.mapped_bytes(first, bytes) },
            }?;
            if staying == 0 {
                break;
            }
        }
        Ok(staying)
    }

    /// Fills a window from `bytes`, and advises it out.
    fn write_window(&self, offset: usize, bytes: &[u8], swap: &Swap) -> Result<(), Error> {
        let failed = |why: OsError| trouble("page out", bytes.len(), why);
        let (first, len) = self.pages(offset, bytes.len());
        // SAFETY: committed when it was reserved, in whole pages.
        unsafe { self.os.populate(first, len) }.map_err(failed)?;
        // SAFETY: inside the reservation, as `check` has seen.
        let to = unsafe { self.base.add(offset) };
        // SAFETY: `to` has `bytes.len()` committed bytes, which are no part of `bytes`: a slice is
        // never of this memory. No other thread copies into the extent meanwhile, by the contract.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        let staying = self.advise_out(offset, bytes.len(), swap).map_err(failed)?;
        if staying > len / STAYING_DIVISOR {
            return Err(Error::SwapFull { asked_bytes: bytes.len() as u64 });
        }
        Ok(())
    }

    /// Fills `out` from a window, and advises it out again: where the swap has kept its copy, that
    /// costs no writing.
    fn read_window(&self, offset: usize, out: &mut [u8]) -> Result<(), Error> {
        let failed = |why: OsError| trouble("page in", out.len(), why);
        let (first, len) = self.pages(offset, out.len());
        // SAFETY: committed when it was reserved, in whole pages.
        unsafe { self.os.page_in(first, len) }.map_err(failed)?;
        // SAFETY: inside the reservation, as `check` has seen.
        let from = unsafe { self.base.add(offset) };
        // SAFETY: `from` has `out.len()` committed bytes, which are no part of `out`. Nobody writes
        // to the extent meanwhile, by the contract; it was written before, or is zero.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), out.as_mut_ptr(), out.len()) };
        // Refused, or kept, the pages are in the RSS, and count there.
        // SAFETY: committed, in whole pages; the advice keeps contents.
        let _ = unsafe { self.os.page_out(first, len) };
        Ok(())
    }

    /// Says that the range is in what was reserved.
    fn check(&self, what: &'static str, offset_bytes: u64, bytes: &[u8]) -> Result<usize, Error> {
        check_aligned(offset_bytes, bytes)?;
        let len = bytes.len() as u64;
        match offset_bytes.checked_add(len).is_some_and(|end| end <= self.len_bytes()) {
            true => Ok(offset_bytes as usize),
            false => Err(Error::Short { what, offset_bytes, bytes: len }),
        }
    }

    /// Gives the pages of a range back, with their swap: whole ones, for neighbours keep theirs.
    fn drop_pages(&self, offset: u64, end: u64) -> Result<(), Error> {
        let page = self.os.page_bytes() as u64;
        let (first, last) =
            (offset.next_multiple_of(page), end.min(self.len_bytes()) / page * page);
        if first >= last {
            return Ok(());
        }
        let (first, bytes) = (first as usize, (last - first) as usize);
        // SAFETY: inside the reservation: below what was committed of it.
        let start = unsafe { self.base.add(first) };
        // SAFETY: committed, in whole pages, and the caller says that nothing needs it.
        let dropped = unsafe { self.os.decommit(start, bytes) };
        self.changed();
        dropped.map_err(|why| trouble("drop", bytes, why))
    }

    fn changed(&self) {
        if let Some(account) = &self.account {
            account.note_swap();
        }
    }

    /// Remembers what bytes in the swap take of the RAM.
    fn note(&self, swap: &Swap) {
        let per_1024 = zram_per_1024(swap);
        self.zram_per_1024.store(per_1024, Ordering::Relaxed);
    }

    /// The swap as it is now: the operator may have changed it.
    fn now(&self) -> Result<Swap, Error> {
        let mut scratch = unpoisoned(self.scratch.lock());
        let swap = (self.look)(&mut scratch);
        drop(scratch);
        let swap = swap.map_err(|why| Error::NoSwap { why })?;
        self.note(&swap);
        Ok(swap)
    }
}

fn trouble(what: &'static str, bytes: usize, why: OsError) -> Error {
    Error::Swap { what, bytes: bytes as u64, os_error: why.errno }
}

impl Drop for KernelSwap {
    fn drop(&mut self) {
        // SAFETY: made by `reserve` with these numbers; nobody has it any more.
        unsafe { self.os.release(self.base, self.reserved_bytes) };
        self.changed();
    }
}

impl Backend for KernelSwap {
    fn read_at(&self, offset_bytes: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut at = self.check("read", offset_bytes, out)?;
        for part in out.chunks_mut(WINDOW_BYTES) {
            let read = self.read_window(at, part);
            self.changed();
            read?;
            at += part.len();
        }
        Ok(())
    }

    fn write_at(&self, offset_bytes: u64, bytes: &[u8]) -> Result<(), Error> {
        let start = self.check("write", offset_bytes, bytes)?;
        let (swap, asked_bytes) = (self.now()?, bytes.len() as u64);
        if swap.room_bytes() < asked_bytes {
            return Err(Error::SwapFull { asked_bytes });
        }
        let mut at = start;
        for part in bytes.chunks(WINDOW_BYTES) {
            let written = self.write_window(at, part, &swap);
            self.changed();
            if let Err(why) = written {
                // What did not leave would be in memory twice.
                self.drop_pages(offset_bytes, offset_bytes + asked_bytes)?;
                return Err(why);
            }
            at += part.len();
        }
        Ok(())
    }

    fn reserve(&self, extent: Extent) -> Result<(), Error> {
        let (end, asked_bytes) = (extent.end_bytes(), extent.bytes());
        if end > self.reserved_bytes as u64 {
            return Err(Error::SwapFull { asked_bytes });
        }
        let (first, bytes) = self.pages(extent.offset_bytes() as usize, asked_bytes as usize);
        // SAFETY: inside the reservation, in whole pages.
        let committed = unsafe { self.os.commit(first, bytes) };
        committed.map_err(|why| trouble("take", bytes, why))?;
        self.committed_bytes.fetch_max(end, Ordering::Relaxed);
        Ok(())
    }

    fn release(&self, extent: Extent) -> Result<(), Error> {
        self.drop_pages(extent.offset_bytes(), extent.end_bytes())
    }

    fn forget(&self, extent: Extent) {
        // Refused, the pages stay until they are written anew, or until the end, and count as what
        // they are.
        let _ = self.drop_pages(extent.offset_bytes(), extent.end_bytes());
    }

    fn kept(&self) -> Kept {
        // What cannot be read is taken for the worse of the two.
        match self.now().map(|swap| swap.kind) {
            Ok(SwapKind::Zram) => Kept::Zram,
            _ => Kept::SwapDisk,
        }
    }

    fn memory_bytes(&self, stored_bytes: u64) -> u64 {
        stored_bytes.saturating_mul(self.zram_per_1024.load(Ordering::Relaxed)) >> 10
    }

    fn len_bytes(&self) -> u64 {
        self.committed_bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
