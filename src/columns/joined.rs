//! A packed file as one sequence of bytes: its columns, one after the other.
//!
//! ```text
//!   head column | values column ................ | tail column
//!   0           ^ starts[1]                      ^ starts[2]    ^ len
//! ```
//!
//! That is what was packed, for a file that `plimsoll pack` made. A reader of the original format
//! reads at offsets as if the file had never been packed; where it wants a vector of elements that
//! is a column, it asks for the column, and each block is unpacked once.
//!
//! It must never know the format of what was packed.

use super::error::{ColumnsError, ColumnsFault};
use super::reader::{Opened, Reader};
use crate::files::random::ReadAt;
use crate::runtime::Runtime;
use plimsoll_arena::Secrecy;
use std::path::Path;

/// A packed file as the bytes that it unpacks to.
pub(crate) struct Joined {
    reader: Reader,
    /// Where each column begins.
    starts: Vec<u64>,
    len: u64,
}

impl Joined {
    /// Opens what `source` has; `path` is what errors call it.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub(crate) fn of(
        source: Box<dyn ReadAt>,
        path: &Path,
        runtime: &Runtime,
        secrecy: Secrecy,
    ) -> Result<Self, ColumnsError> {
        let reader = Reader::of(source, path, runtime, secrecy)?;
        let (mut starts, mut len) = (Vec::with_capacity(reader.columns().len()), 0u64);
        for (number, column) in reader.columns().iter().enumerate() {
            starts.push(len);
            // The reader has seen that a column's bytes fit; the sum of many may not.
            len = len.saturating_add(reader.elements(number) * column.element_bytes() as u64);
        }
        Ok(Self { reader, starts, len })
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Copies bytes from `offset` on into `out`.
    ///
    /// # Errors
    ///
    /// [`ColumnsFault::Range`], in bytes, and what [`Reader::read`] says.
    pub(crate) fn copy(&self, offset: u64, mut out: &mut [u8]) -> Result<(), ColumnsFault> {
        let (start, end) = (offset, offset.saturating_add(out.len() as u64));
        if end > self.len {
            return Err(ColumnsFault::Range { start, end, len: self.len });
        }
        let mut at = offset;
        while !out.is_empty() {
            let column = self.column_at(at);
            let ends = self.starts.get(column + 1).copied().unwrap_or(self.len);
            let bytes = usize::try_from(ends - at).unwrap_or(usize::MAX).min(out.len());
            let (now, later) = out.split_at_mut(bytes);
            self.reader.copy(column, at - self.starts[column], now)?;
            (at, out) = (at + bytes as u64, later);
        }
        Ok(())
    }

    /// The column that has the byte at `offset`: of several that begin there the last, which is the
    /// one that is not empty.
    fn column_at(&self, offset: u64) -> usize {
        self.starts.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The column and the element at `offset`, if `bytes` from there on are whole elements of
    /// `element_bytes` in one column.
    pub(crate) fn elements_at(
        &self,
        offset: u64,
        bytes: u64,
        element_bytes: usize,
    ) -> Option<(usize, u64)> {
        let column = self.column_at(offset);
        let described = self.reader.columns().get(column)?;
        let ends = self.starts.get(column + 1).copied().unwrap_or(self.len);
        let within = offset.checked_sub(self.starts[column])?;
        let fits = offset.checked_add(bytes)? <= ends;
        let is_whole = within.is_multiple_of(element_bytes as u64);
        (described.element_bytes() == element_bytes && fits && is_whole)
            .then(|| (column, within / element_bytes as u64))
    }

    /// As [`Reader::decode`].
    ///
    /// # Errors
    ///
    /// As [`Reader::decode`].
    pub(crate) fn decode<T: Send, E: From<ColumnsFault> + Send>(
        &self,
        (column, start): (usize, u64),
        out: &mut [T],
        each: impl Fn(&mut Opened<'_>, u64, &mut [T]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        self.reader.decode(column, start, out, each)
    }
}
