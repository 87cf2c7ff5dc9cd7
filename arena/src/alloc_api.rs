//! The pool as an `Allocator` of allocator-api2 0.2, for hashbrown, bumpalo and others.
//!
//! Requests of 8 KiB and more become blocks and are charged softly. Smaller requests
//! go to the global allocator. The layout and the address of a pointer tell where to free it.

use crate::ledger::Charge;
use crate::pool::Pool;
use crate::size::POOLED_BYTES_MIN;
use allocator_api2::alloc::{AllocError, Allocator, Global, Layout};
use std::ptr::NonNull;

/// Blocks are aligned to an OS page; a larger alignment is the global allocator's.
fn is_block(layout: Layout) -> bool {
    layout.size() >= POOLED_BYTES_MIN && layout.align() <= 4096
}

// SAFETY: a block stays valid until it is released, clones share the pool, and a pool outlives its
// blocks' allocator handles because each holds a reference to it.
unsafe impl Allocator for Pool {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if !is_block(layout) {
            return Global.allocate(layout);
        }
        let block = self
            .inner
            .acquire(layout.size(), Charge::Soft, self.inner.prefault())
            .map_err(|_| AllocError)?;
        self.inner.note_allocated(layout.size());
        Ok(NonNull::slice_from_raw_parts(block.start, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if !is_block(layout) {
            return Global.allocate_zeroed(layout);
        }
        let block = self
            .inner
            .acquire(layout.size(), Charge::Soft, self.inner.prefault())
            .map_err(|_| AllocError)?;
        self.inner.note_allocated(layout.size());
        self.inner.zero(block, layout.size());
        Ok(NonNull::slice_from_raw_parts(block.start, layout.size()))
    }

    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if !is_block(layout) {
            if self.inner.wipes() {
                // SAFETY: the caller gives up these bytes, initialised or not.
                let bytes =
                    unsafe { std::slice::from_raw_parts_mut(start.cast().as_ptr(), layout.size()) };
                <[std::mem::MaybeUninit<u8>] as zeroize::Zeroize>::zeroize(bytes);
            }
            // SAFETY: the same test sent this layout to `Global` when it was allocated.
            return unsafe { Global.deallocate(start, layout) };
        }
        let block = self.inner.block_at(start).expect("deallocated where it was allocated");
        self.inner.note_freed(layout.size());
        self.inner.release(block, layout.size());
    }

    // SAFETY: the contract of the trait, kept as below.
    unsafe fn grow(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        if is_block(old) && is_block(new) {
            let block = self.inner.block_at(start).expect("grown where it was allocated");
            let grown = self.inner.grow_in_place(block, new.size(), Charge::Soft);
            if grown.map_err(|_| AllocError)? {
                self.inner.note_allocated(new.size() - old.size());
                return Ok(NonNull::slice_from_raw_parts(start, new.size()));
            }
        }
        let larger = self.allocate(new)?;
        // SAFETY: both are at least `old.size()` bytes, and two allocations never overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(start.as_ptr(), larger.cast().as_ptr(), old.size());
        }
        // SAFETY: the caller gives `start` up, with the layout it has.
        unsafe { self.deallocate(start, old) };
        Ok(larger)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::Fake;
    use allocator_api2::vec::Vec as ApiVec;
    use std::sync::Arc;

    const LEN: u64 = if cfg!(miri) { 20_000 } else { 300_000 };

    fn fake_pool() -> Pool {
        let builder = Pool::builder().os(Arc::new(Fake::new())).reserve_bytes(32 << 20);
        builder.build().expect("32 MiB")
    }

    #[test]
    fn a_vector_grows_through_heap_blocks_and_in_place() {
        let pool = fake_pool();
        let mut vector = ApiVec::new_in(pool.clone());
        for i in 0..LEN {
            vector.push(i);
        }
        assert!(pool.stats().live_bytes >= LEN as usize * 8);
        assert!(vector.iter().copied().eq(0..LEN));
        vector.shrink_to(1000);
        vector.truncate(1000);
        vector.shrink_to_fit();
        assert!(vector.iter().copied().eq(0..1000));
        drop(vector);
        assert_eq!((pool.stats().live_bytes, pool.stats().allocated_bytes), (0, 0));
        assert!(pool.check());
    }

    #[test]
    fn zeroed_memory_is_zero_after_reuse() {
        let pool = fake_pool();
        let layout = Layout::from_size_align(100_000, 64).expect("layout");
        for _ in 0..2 {
            let memory = pool.allocate_zeroed(layout).expect("memory").cast::<u8>();
            // SAFETY: 100 000 bytes were just allocated and zeroed.
            let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), 100_000) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(9);
            // SAFETY: allocated above with this layout.
            unsafe { pool.deallocate(memory, layout) };
        }
        assert!(pool.check());
    }
}
