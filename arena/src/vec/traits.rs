//! The traits of a `Vec` that a [`PoolVec`] has too.
//!
//! ```text
//!   elements   Deref, AsRef, AsMut, Borrow, IntoIterator (owned, & and &mut), Index by Deref
//!   compared   Eq, Ord, Hash as slices; == with slices, arrays and Vec, from either side
//!   allocate   Clone, Extend: over the limit where they must
//!   copied     Vec::from: out of the pool and its ledger
//! ```
//!
//! The signatures of [`Clone`] and [`Extend`] leave no room for an error. So they may exceed the
//! limit, which the ledger counts as a miss, and abort when the machine has no memory, as `Vec`
//! does. [`PoolVec::try_clone`] and [`PoolVec::try_extend`] keep to the limit.
//!
//! Invariant: what is made of a vector is of its pool, and as secret; a `Vec` alone is not.
//!
//! Must never: show an element in `Debug`, which may be a witness.

use super::{PoolVec, or_abort};
use crate::error::Error;
use crate::ledger::Charge;
use std::borrow::{Borrow, BorrowMut};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::iter::FusedIterator;
use std::ops::{Deref, DerefMut, Range};

impl<T: Copy> std::fmt::Debug for PoolVec<T> {
    /// Shows sizes only: contents may be a witness.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolVec")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<T: Copy> Deref for PoolVec<T> {
    type Target = [T];
    #[inline]
    fn deref(&self) -> &[T] {
        self.as_slice()
    }
}

impl<T: Copy> DerefMut for PoolVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.as_mut_slice()
    }
}

impl<T: Copy> AsRef<[T]> for PoolVec<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T: Copy> AsMut<[T]> for PoolVec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: Copy> Borrow<[T]> for PoolVec<T> {
    fn borrow(&self) -> &[T] {
        self
    }
}

impl<T: Copy> BorrowMut<[T]> for PoolVec<T> {
    fn borrow_mut(&mut self) -> &mut [T] {
        self
    }
}

macro_rules! equal {
    ($([$($generics:tt)*] $left:ty, $right:ty;)*) => { $(
        impl<T: Copy + PartialEq<U>, U: Copy, $($generics)*> PartialEq<$right> for $left {
            fn eq(&self, other: &$right) -> bool {
                self[..] == other[..]
            }
        }
    )* };
}
equal! {
    [] PoolVec<T>, PoolVec<U>;
    [] PoolVec<T>, [U];
    [] PoolVec<T>, &[U];
    [] PoolVec<T>, &mut [U];
    [] PoolVec<T>, Vec<U>;
    [const N: usize] PoolVec<T>, [U; N];
    [const N: usize] PoolVec<T>, &[U; N];
    [] [T], PoolVec<U>;
    [] &[T], PoolVec<U>;
    [] &mut [T], PoolVec<U>;
    [] Vec<T>, PoolVec<U>;
    [const N: usize] [T; N], PoolVec<U>;
    [const N: usize] &[T; N], PoolVec<U>;
}

impl<T: Copy + Eq> Eq for PoolVec<T> {}

impl<T: Copy + PartialOrd> PartialOrd for PoolVec<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self[..].partial_cmp(&other[..])
    }
}

impl<T: Copy + Ord> Ord for PoolVec<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self[..].cmp(&other[..])
    }
}

impl<T: Copy + Hash> Hash for PoolVec<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self[..].hash(state);
    }
}

impl<T: Copy> PoolVec<T> {
    /// Makes a vector of the same pool with the same elements.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, or refused by the OS.
    pub fn try_clone(&self) -> Result<Self, Error> {
        self.clone_charged(Charge::Hard)
    }

    fn clone_charged(&self, charge: Charge) -> Result<Self, Error> {
        let mut vector = Self::allocate(&self.pool, self.len(), charge)?;
        vector.append_within(self);
        Ok(vector)
    }

    /// Appends what `values` gives.
    ///
    /// # Errors
    ///
    /// [`Error`]: over the limit, too large, or refused by the OS; what was appended until then
    /// stays.
    pub fn try_extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.extend_charged(values, Charge::Hard)
    }

    fn extend_charged(
        &mut self,
        values: impl IntoIterator<Item = T>,
        charge: Charge,
    ) -> Result<(), Error> {
        let values = values.into_iter();
        self.grow(values.size_hint().0, charge)?;
        for value in values {
            self.grow(1, charge)?;
            self.append_within(&[value]);
        }
        Ok(())
    }
}

impl<T: Copy> Clone for PoolVec<T> {
    /// As [`PoolVec::try_clone`], over the limit if it must; aborts without memory.
    fn clone(&self) -> Self {
        or_abort::<T, _>(self.clone_charged(Charge::Soft), self.len())
    }
}

impl<T: Copy> Extend<T> for PoolVec<T> {
    /// As [`PoolVec::try_extend`], over the limit if it must; aborts without memory.
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        or_abort::<T, _>(self.extend_charged(values, Charge::Soft), self.len());
    }
}

impl<'a, T: Copy> Extend<&'a T> for PoolVec<T> {
    /// As [`PoolVec::try_extend`], over the limit if it must; aborts without memory.
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, values: I) {
        self.extend(values.into_iter().copied());
    }
}

impl<T: Copy> From<PoolVec<T>> for Vec<T> {
    /// Copies the elements to the ordinary heap, where no ledger counts them and nothing wipes
    /// them.
    fn from(vector: PoolVec<T>) -> Self {
        vector.to_vec()
    }
}

impl<'a, T: Copy> IntoIterator for &'a PoolVec<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: Copy> IntoIterator for &'a mut PoolVec<T> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: Copy> IntoIterator for PoolVec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;
    fn into_iter(self) -> IntoIter<T> {
        IntoIter { left: 0..self.len(), vector: self }
    }
}

/// The elements of a vector, by value. Dropping the iterator returns the memory to the pool.
#[derive(Clone, Debug)]
pub struct IntoIter<T: Copy + 'static> {
    vector: PoolVec<T>,
    left: Range<usize>,
}

impl<T: Copy> Iterator for IntoIter<T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.left.next().map(|index| self.vector[index])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T: Copy> DoubleEndedIterator for IntoIter<T> {
    fn next_back(&mut self) -> Option<T> {
        self.left.next_back().map(|index| self.vector[index])
    }
}

impl<T: Copy> ExactSizeIterator for IntoIter<T> {}
impl<T: Copy> FusedIterator for IntoIter<T> {}
