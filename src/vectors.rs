//! Makes vectors in a pool of a runtime; the error names the stage and the largest holders.
//!
//! ```text
//!   stage.zeroed(n)?                       -> "stage \"commit\" needs .., largest holders: .."
//!   stage.vectors(Secrecy::Secret).copied(&witness)?
//!   runtime.vectors(Secrecy::Public).filled(n, one)?      outside of any stage
//! ```
//!
//! ```
//! use plimsoll::{Runtime, Secrecy};
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let stage = runtime.stage("commit", 1 << 20)?;
//! let witness = stage.vectors(Secrecy::Secret).copied(&[3u64, 5, 7])?; // wiped when it is dropped
//! assert_eq!(witness.len(), 3);
//! # Ok::<(), plimsoll::Error>(())
//! ```
//!
//! [`Runtime::pool`] makes the same vectors, but its errors know no stage and no holders.

use crate::error::Error;
use crate::runtime::Runtime;
use plimsoll_arena::{Plain, PoolVec, Secrecy};

/// Makes vectors of one secrecy for one stage.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    runtime: &'a Runtime,
    stage: &'a str,
    secrecy: Secrecy,
}

impl Runtime {
    /// Returns what makes vectors of this secrecy, outside of any stage.
    #[must_use]
    pub fn vectors(&self, secrecy: Secrecy) -> Vectors<'_> {
        Vectors::new(self, "", secrecy)
    }

    /// Makes a vector of `len` zeroes, outside of any stage.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] with the largest holders, or why memory cannot be had.
    pub fn zeroed<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        self.vectors(Secrecy::Public).zeroed(len)
    }
}

impl<'a> Vectors<'a> {
    pub(crate) fn new(runtime: &'a Runtime, stage: &'a str, secrecy: Secrecy) -> Self {
        Self { runtime, stage, secrecy }
    }

    fn explained<T>(&self, made: Result<T, plimsoll_arena::Error>) -> Result<T, Error> {
        made.map_err(|error| self.runtime.explain(self.stage, error))
    }

    /// Makes an empty vector with room for `capacity` elements.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] with the stage and the largest holders, or why memory cannot be had.
    pub fn with_capacity<T: Copy>(&self, capacity: usize) -> Result<PoolVec<T>, Error> {
        self.explained(self.runtime.pool_of(self.secrecy).try_with_capacity(capacity))
    }

    /// Makes a vector of `len` zeros. It does not fill bytes that are known to be zero.
    ///
    /// # Errors
    ///
    /// As [`Vectors::with_capacity`].
    pub fn zeroed<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        self.explained(self.runtime.pool_of(self.secrecy).try_zeroed(len))
    }

    /// Makes a vector of `len` elements for a caller that overwrites all of them. Until then they
    /// are zeros, or what the memory held before.
    ///
    /// # Errors
    ///
    /// As [`Vectors::with_capacity`].
    pub fn for_overwrite<T: Plain>(&self, len: usize) -> Result<PoolVec<T>, Error> {
        self.explained(self.runtime.pool_of(self.secrecy).try_for_overwrite(len))
    }

    /// Makes a vector of `len` copies of `value`.
    ///
    /// # Errors
    ///
    /// As [`Vectors::with_capacity`].
    pub fn filled<T: Copy>(&self, len: usize, value: T) -> Result<PoolVec<T>, Error> {
        self.explained(self.runtime.pool_of(self.secrecy).try_filled(len, value))
    }

    /// Makes a vector with the elements of `slice`.
    ///
    /// # Errors
    ///
    /// As [`Vectors::with_capacity`].
    pub fn copied<T: Copy>(&self, slice: &[T]) -> Result<PoolVec<T>, Error> {
        self.explained(self.runtime.pool_of(self.secrecy).try_copied(slice))
    }
}
