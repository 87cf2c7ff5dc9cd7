//! A page source on heap memory, for tests and Miri.

use plimsoll_arena::os::OsError;
use plimsoll_arena::{Moved, PageSource, Pages};
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Heap memory that plays the kernel's: strict about order, and failing on request.
#[derive(Default)]
pub(crate) struct FakePages {
    pub(crate) base: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    pub(crate) table_bytes: AtomicUsize,
    pub(crate) table_stale: AtomicUsize,
    pub(crate) commits_left: Option<AtomicU64>,
    pub(crate) decommits: AtomicU64,
    pub(crate) decommits_fail: bool,
    pub(crate) moves: AtomicU64,
    pub(crate) moves_become: Option<Moved>,
    pub(crate) freed_bytes: AtomicUsize,
    pub(crate) reused_bytes: AtomicUsize,
    pub(crate) placed: Mutex<Vec<(usize, usize)>>,
    pub(crate) looks: AtomicU64,
    /// The limit of the process when addresses were reserved.
    pub(crate) limit: AtomicUsize,
    allocations: Mutex<Vec<(AtomicPtr<u8>, Layout)>>,
}

pub(crate) fn out_of_memory(bytes: usize) -> OsError {
    OsError { call: "fake", bytes, errno: libc::ENOMEM }
}

impl FakePages {
    fn heap(&self, bytes: usize, align: usize) -> Result<NonNull<u8>, OsError> {
        let layout = Layout::from_size_align(bytes, align).expect("a sound layout");
        // SAFETY: the layout has a size.
        let start = unsafe { System.alloc_zeroed(layout) };
        let mut allocations = self.allocations.lock().expect("no panic under this lock");
        allocations.push((AtomicPtr::new(start), layout));
        NonNull::new(start).ok_or(out_of_memory(bytes))
    }

    fn inside(&self, start: NonNull<u8>, bytes: usize) {
        let offset = start.as_ptr() as usize - self.base.load(Relaxed);
        assert!(offset + bytes <= self.bytes.load(Relaxed), "inside the range");
        assert_eq!((offset | bytes) % 4096, 0, "whole pages");
    }
}

impl Drop for FakePages {
    fn drop(&mut self) {
        let allocations = self.allocations.get_mut().expect("no panic under this lock");
        for (start, layout) in allocations.drain(..) {
            // SAFETY: allocated by `heap`, and the allocator that used it goes with its source.
            unsafe { System.dealloc(start.into_inner(), layout) };
        }
    }
}

// SAFETY: the range is one allocation that stays, zero at first and after `decommit`.
unsafe impl PageSource for FakePages {
    fn reserve(&self, bytes: usize, _: usize) -> Result<(NonNull<u8>, usize), OsError> {
        let base = self.heap(bytes, 2 << 20)?;
        self.base.store(base.as_ptr() as usize, Relaxed);
        self.bytes.store(bytes, Relaxed);
        self.limit.store(plimsoll_arena::process::process().limit_bytes(), Relaxed);
        Ok((base, bytes))
    }
    unsafe fn commit(&self, start: NonNull<u8>, bytes: usize, _: Pages) -> Result<(), OsError> {
        self.inside(start, bytes);
        let Some(left) = &self.commits_left else { return Ok(()) };
        let went = left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        went.map(|_| ()).map_err(|_| out_of_memory(bytes))
    }
    unsafe fn decommit(&self, start: NonNull<u8>, bytes: usize) -> Result<(), OsError> {
        self.inside(start, bytes);
        self.decommits.fetch_add(1, Relaxed);
        if self.decommits_fail {
            return Err(out_of_memory(bytes));
        }
        // SAFETY: the range is free, as the caller promised.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(())
    }
    unsafe fn freed(&self, start: NonNull<u8>, bytes: usize) {
        self.inside(start, bytes);
        self.freed_bytes.fetch_add(bytes, Relaxed);
    }
    unsafe fn reused(&self, start: NonNull<u8>, bytes: usize) {
        self.inside(start, bytes);
        self.reused_bytes.fetch_add(bytes, Relaxed);
    }
    fn placed(&self, start: NonNull<u8>, bytes: usize) {
        self.inside(start, bytes);
        let mut placed = self.placed.lock().expect("no panic under this lock");
        placed.push((start.as_ptr() as usize, bytes));
    }
    fn follow_limit(&self) -> usize {
        self.looks.fetch_add(1, Relaxed);
        0
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
        self.inside(from, from_bytes);
        self.inside(to, to_bytes);
        self.moves.fetch_add(1, Relaxed);
        let result = self.moves_become.unwrap_or(Moved::Done);
        if matches!(result, Moved::Done | Moved::OriginLost) {
            // SAFETY: two ranges of the caller's that do not overlap.
            unsafe { to.as_ptr().copy_from_nonoverlapping(from.as_ptr(), from_bytes) };
            // SAFETY: the rest of the destination.
            unsafe { to.as_ptr().add(from_bytes).write_bytes(0, to_bytes - from_bytes) };
            // SAFETY: the origin, which the caller gave up.
            unsafe { from.as_ptr().write_bytes(0, from_bytes) };
        }
        result
    }
    unsafe fn wipe_on_fork(&self, _: NonNull<u8>, _: usize) {}
    fn reserve_table(&self, bytes: usize) -> Result<NonNull<u8>, OsError> {
        self.table_bytes.fetch_add(bytes, Relaxed);
        self.heap(bytes, 4096)
    }
    unsafe fn commit_table(&self, _: NonNull<u8>, _: usize) -> Result<(), OsError> {
        Ok(())
    }
    unsafe fn decommit_table(&self, start: NonNull<u8>, bytes: usize) {
        self.table_stale.fetch_add(bytes, Relaxed);
        // Not what a table may read as: who reads it shows.
        // SAFETY: the range is a part of a table that nobody reads, as the caller promised.
        unsafe { start.as_ptr().write_bytes(0xa5, bytes) };
    }
}
