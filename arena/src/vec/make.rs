//! How a pool's vectors are made: empty, of zeroes, of some value, of other elements.
//!
//! All of them keep to the limit, except the one whose name says that it goes over it.

use super::{PoolVec, or_abort};
use crate::error::Error;
use crate::ledger::Charge;
use crate::plain::Plain;
use crate::pool::{Pool, Prefault};
use crate::size::HUGE_BYTES;

/// From here on who fills a fresh vector brings its pages: two huge pages, a thread each.
const OVERWRITE_ON_TOUCH_BYTES: usize = 2 * HUGE_BYTES;

impl Pool {
    /// Makes an empty vector with room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_with_capacity<T: Copy>(&self, capacity: usize) -> Result<PoolVec<T>, Error> {
        PoolVec::allocate(&self.inner, capacity, Charge::Hard)
    }

    /// Makes a vector of `len` zeroes. Bytes known to be zero are not filled again.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_zeroed<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        Ok(PoolVec::allocate(&self.inner, len, Charge::Hard)?.into_zeroed(len))
    }

    /// Makes a vector of `len` zeroes, over the limit if it must; aborts where [`Pool::try_zeroed`]
    /// fails for another reason.
    #[must_use]
    pub fn zeroed_over_limit<T: Plain>(&self, len: usize) -> PoolVec<T> {
        let vector = PoolVec::allocate(&self.inner, len, Charge::Soft);
        or_abort::<T, _>(vector, len).into_zeroed(len)
    }

    /// Makes a vector of `len` elements that its caller overwrites: until then they are zeroes or
    /// what the memory held before. Huge pages that are fresh come when they are touched, so that
    /// several threads that fill a part each share that work too.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_for_overwrite<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        let on_touch = size_of::<T>().saturating_mul(len) >= OVERWRITE_ON_TOUCH_BYTES;
        let prefault = if on_touch { Prefault::OnTouch } else { self.inner.prefault() };
        let vector = PoolVec::allocate_with(&self.inner, len, Charge::Hard, prefault)?;
        Ok(vector.into_unspecified(len))
    }

    /// Makes a vector of `len` copies of `value`.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_filled<T: Copy>(&self, len: usize, value: T) -> Result<PoolVec<T>, Error> {
        let mut vector = self.try_with_capacity(len)?;
        vector.resize_within(len, value);
        Ok(vector)
    }

    /// Makes a vector with the elements of `slice`.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_copied<T: Copy>(&self, slice: &[T]) -> Result<PoolVec<T>, Error> {
        let mut vector = self.try_with_capacity(slice.len())?;
        vector.append_within(slice);
        Ok(vector)
    }

    /// Makes a vector of what `values` gives.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS.
    pub fn try_collect<T: Copy>(
        &self,
        values: impl IntoIterator<Item = T>,
    ) -> Result<PoolVec<T>, Error> {
        let mut vector = self.try_with_capacity(0)?;
        vector.try_extend(values)?;
        Ok(vector)
    }
}
