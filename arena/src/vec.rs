//! `PoolVec`: a vector in a block of a pool. When it is dropped, the block returns to the pool.
//!
//! It is a `Vec` for `Copy` elements. It derefs to a slice and grows by doubling, in place where
//! the block has room. Below 8 KiB ([`POOLED_BYTES_MIN`](crate::size::POOLED_BYTES_MIN)) it uses
//! the ordinary heap, because a small vector gains nothing from a block.
//!
//! Invariants: `len <= capacity`; the first `len` elements are initialised; `written` is the
//! largest `len` so far, and this vector has written nothing past it (so the pool learns which
//! bytes of the block may be other than zero).
//!
//! Methods named `try_` keep to the limit and return [`Error`]. The few methods named `over_limit`,
//! and the traits that cannot return an error ([`Clone`], [`Extend`]), exceed the limit where they
//! must, and the ledger counts a miss. They abort, as `Vec` does, when the machine has no memory.

mod make;
#[cfg(test)]
mod tests;
mod traits;

pub use traits::IntoIter;

use crate::error::Error;
use crate::ledger::Charge;
use crate::plain::Plain;
use crate::pool::{Block, Inner, Pool, Prefault, Secrecy, fill_zero};
use crate::size::{BLOCK_BYTES_MAX, POOLED_BYTES_MIN};
use std::alloc::Layout;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

#[derive(Clone, Copy)]
enum Home {
    /// No memory yet.
    Nowhere,
    /// The ordinary heap.
    Heap,
    /// A block of the pool.
    Block(u32),
}

/// A vector of `Copy` elements in a block of a pool. Dropping it returns the block to the pool.
///
/// It derefs to a slice. Holding one proves that its block is charged to the pool's ledger.
pub struct PoolVec<T: Copy + 'static> {
    pool: Arc<Inner>,
    start: NonNull<T>,
    len: usize,
    capacity: usize,
    written: usize,
    home: Home,
}

// SAFETY: the vector owns its elements; the pool behind it is shared by design.
unsafe impl<T: Copy + Send> Send for PoolVec<T> {}
// SAFETY: a shared vector gives out shared slices only.
unsafe impl<T: Copy + Sync> Sync for PoolVec<T> {}

fn or_abort<T, V>(result: Result<V, Error>, capacity: usize) -> V {
    result.unwrap_or_else(|_| {
        let layout = Layout::array::<T>(capacity).unwrap_or(Layout::new::<T>());
        std::alloc::handle_alloc_error(layout)
    })
}

impl<T: Copy> PoolVec<T> {
    const SHAPE: () = {
        assert!(size_of::<T>() > 0, "zero-sized elements need no pool");
        assert!(align_of::<T>() <= 4096, "a block is aligned to an OS page");
    };

    fn too_large(len: usize) -> Error {
        Error::TooLarge { len, element_bytes: size_of::<T>(), max_bytes: BLOCK_BYTES_MAX }
    }

    fn bytes_of(len: usize) -> Result<usize, Error> {
        len.checked_mul(size_of::<T>())
            .filter(|bytes| *bytes <= BLOCK_BYTES_MAX)
            .ok_or_else(|| Self::too_large(len))
    }

    fn allocate(pool: &Arc<Inner>, capacity: usize, charge: Charge) -> Result<Self, Error> {
        Self::allocate_with(pool, capacity, charge, pool.prefault())
    }

    fn allocate_with(
        pool: &Arc<Inner>,
        capacity: usize,
        charge: Charge,
        prefault: Prefault,
    ) -> Result<Self, Error> {
        let () = Self::SHAPE;
        let bytes = Self::bytes_of(capacity)?;
        let (start, home) = if bytes == 0 {
            (NonNull::dangling(), Home::Nowhere)
        } else if bytes < POOLED_BYTES_MIN {
            (heap_alloc(Self::layout(capacity))?.cast(), Home::Heap)
        } else {
            let block = pool.acquire(bytes, charge, prefault)?;
            pool.note_allocated(bytes);
            (block.start.cast(), Home::Block(block.index))
        };
        Ok(Self { pool: Arc::clone(pool), start, len: 0, capacity, written: 0, home })
    }

    /// The layout of `capacity` elements, whose bytes were checked before.
    fn layout(capacity: usize) -> Layout {
        let bytes = capacity * size_of::<T>();
        Layout::from_size_align(bytes, align_of::<T>()).expect("at most one block, aligned")
    }

    fn block(&self) -> Option<Block> {
        match self.home {
            Home::Block(index) => Some(Block { start: self.start.cast(), index }),
            Home::Heap | Home::Nowhere => None,
        }
    }

    /// Returns the pool that the vector comes from. Its memory returns there.
    #[must_use]
    pub fn pool(&self) -> Pool {
        Pool { inner: Arc::clone(&self.pool) }
    }

    /// Returns whether the pool wipes the vector's memory when the vector is dropped or moves.
    #[must_use]
    pub fn secrecy(&self) -> Secrecy {
        self.pool.secrecy()
    }

    /// Returns how many elements fit without growing.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the elements.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the first `len` elements are initialised and owned by this vector.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Returns the elements, to write.
    #[inline]
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and the vector is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Shortens to `len` elements; does nothing when there are fewer.
    pub fn truncate(&mut self, len: usize) {
        self.written = self.written.max(self.len);
        self.len = self.len.min(len);
    }

    /// Removes all elements and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Makes room for `additional` more elements: in place where the block allows, or in a block of
    /// at least twice the size.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS; the vector is unchanged.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), Error> {
        self.grow(additional, Charge::Hard)
    }

    /// Makes room for `additional` more elements, over the limit if it must; aborts where
    /// [`PoolVec::try_reserve`] fails for another reason.
    pub fn reserve_over_limit(&mut self, additional: usize) {
        or_abort::<T, _>(self.grow(additional, Charge::Soft), additional);
    }

    fn grow(&mut self, additional: usize, charge: Charge) -> Result<(), Error> {
        let needed = self.len.checked_add(additional).ok_or(Self::too_large(usize::MAX))?;
        if needed <= self.capacity {
            return Ok(());
        }
        if let Some(block) = self.block()
            && self.pool.grow_in_place(block, Self::bytes_of(needed)?, charge)?
        {
            let capacity = self.pool.usable_bytes(block) / size_of::<T>();
            self.pool.note_allocated((capacity - self.capacity) * size_of::<T>());
            self.capacity = capacity;
            return Ok(());
        }
        let doubled = needed.max(self.capacity.saturating_mul(2)).max(8);
        let larger = Self::allocate(&self.pool, doubled, charge)
            .or_else(|_| Self::allocate(&self.pool, needed, charge))?;
        let mut old = std::mem::replace(self, larger);
        self.append_within(&old);
        old.clear();
        Ok(())
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS; the vector is unchanged.
    pub fn try_push(&mut self, value: T) -> Result<(), Error> {
        self.try_reserve(1)?;
        self.append_within(&[value]);
        Ok(())
    }

    /// Removes the last element and returns it.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.last().copied()?;
        self.truncate(self.len - 1);
        Some(last)
    }

    /// Keeps the elements for which `keep` says so, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        let mut kept = 0;
        for index in 0..self.len {
            let value = self[index];
            if keep(&value) {
                self[kept] = value;
                kept += 1;
            }
        }
        self.truncate(kept);
    }

    /// Appends the elements of `slice`.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS; the vector is unchanged.
    pub fn try_extend_from_slice(&mut self, slice: &[T]) -> Result<(), Error> {
        self.try_reserve(slice.len())?;
        self.append_within(slice);
        Ok(())
    }

    /// Changes the length to `len`, filling with `value`.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS; the vector is unchanged.
    pub fn try_resize(&mut self, len: usize, value: T) -> Result<(), Error> {
        self.try_reserve(len.saturating_sub(self.len))?;
        self.resize_within(len, value);
        Ok(())
    }

    fn append_within(&mut self, slice: &[T]) {
        assert!(slice.len() <= self.capacity - self.len, "room was reserved by the caller");
        // SAFETY: `len` is at most the capacity, so the end is inside the allocation.
        let end = unsafe { self.start.as_ptr().add(self.len) };
        // SAFETY: there is room (asserted), and a borrowed slice cannot overlap memory past the
        // elements of a vector that is borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(slice.as_ptr(), end, slice.len()) };
        self.len += slice.len();
    }

    fn resize_within(&mut self, len: usize, value: T) {
        assert!(len <= self.capacity, "room was reserved by the caller");
        for index in self.len..len {
            // SAFETY: the index is below the capacity (asserted).
            let place = unsafe { self.start.as_ptr().add(index) };
            // SAFETY: the place is inside the allocation and aligned for T.
            unsafe { place.write(value) };
        }
        self.truncate(len);
        self.len = len;
    }

    /// Makes `len` elements of what the memory holds.
    fn into_unspecified(mut self, len: usize) -> Self
    where
        T: Plain,
    {
        debug_assert!(len <= self.capacity);
        if !matches!(self.home, Home::Block(_)) || cfg!(miri) {
            return self.into_zeroed(len);
        }
        // A block is a mapping of the kernel's, whose bytes are all there; what earlier owners left
        // undefined (padding) is made some value here, as this code may have written any.
        // SAFETY: no instruction.
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                in(reg) self.start.as_ptr(),
                options(nostack, preserves_flags)
            );
        }
        // Every pattern is a value of a Plain type.
        self.len = len;
        self
    }

    fn into_zeroed(mut self, len: usize) -> Self
    where
        T: Plain,
    {
        debug_assert!(len <= self.capacity);
        match self.block() {
            Some(block) => self.pool.zero(block, len * size_of::<T>()),
            None => {
                // SAFETY: `len` is at most the capacity; zero bytes are initialised bytes.
                unsafe { self.start.as_ptr().write_bytes(0, len) };
            }
        }
        // The first `len` elements are zero bytes, which are a value of every Plain type.
        self.len = len;
        self
    }
}

fn heap_alloc(layout: Layout) -> Result<NonNull<u8>, Error> {
    // SAFETY: the layout has a size: the caller handles zero bytes.
    let raw = unsafe { std::alloc::alloc(layout) };
    NonNull::new(raw).ok_or(Error::Os(crate::os::OsError {
        call: "alloc",
        bytes: layout.size(),
        errno: libc::ENOMEM,
    }))
}

impl<T: Copy> Drop for PoolVec<T> {
    fn drop(&mut self) {
        let written_bytes = self.written.max(self.len) * size_of::<T>();
        match self.home {
            Home::Nowhere => {}
            Home::Block(index) => {
                self.pool.note_freed(self.capacity * size_of::<T>());
                self.pool.release(Block { start: self.start.cast(), index }, written_bytes);
            }
            Home::Heap => {
                if self.pool.wipes() {
                    // SAFETY: the elements below `written` were initialised; the vector owns them.
                    let bytes = unsafe {
                        std::slice::from_raw_parts_mut(
                            self.start.as_ptr().cast::<MaybeUninit<u8>>(),
                            written_bytes,
                        )
                    };
                    zeroize::Zeroize::zeroize(bytes);
                }
                // SAFETY: allocated by `heap_alloc` with this layout.
                unsafe {
                    std::alloc::dealloc(self.start.as_ptr().cast(), Self::layout(self.capacity));
                }
            }
        }
    }
}

/// Overwrites `values` with zeroes, in parallel when large.
pub fn fill_with_zero<T: Plain>(values: &mut [T]) {
    let start = values.as_mut_ptr().cast::<MaybeUninit<u8>>();
    // SAFETY: these are the bytes of `values`, borrowed as long; zeroes, which are all that is
    // written, are a value of every Plain type.
    let bytes = unsafe { std::slice::from_raw_parts_mut(start, size_of_val(values)) };
    fill_zero(bytes);
}
