//! The scalars of a multi-scalar multiplication, wherever they are.

use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::tiles::{Layout, Share, Tiles};
use ark_bn254::Fr;
use plimsoll_arena::PoolVec;
use std::ops::Range;

/// Which points of a query go with the scalars that are here, in their order.
///
/// ```text
///   query   ..first [ width ]...........[ width ]...........[ width ]...     len in all
///                   |<------ pitch ---->|
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PointSpan {
    first: usize,
    width: usize,
    pitch: usize,
    len: usize,
}

impl PointSpan {
    /// The points of `range`.
    pub(crate) fn range(range: Range<usize>) -> Self {
        let len = range.len();
        Self { first: range.start, width: len.max(1), pitch: len.max(1), len }
    }

    /// The points of the columns that `share` has of a matrix in row-major order, but for
    /// those from `end` on.
    pub(crate) fn columns(share: Share, whole: Layout, end: usize) -> Self {
        let width = share.range(whole.column_stripes()).len() * whole.block_columns();
        let (first, pitch) = (share.first_column(whole), whole.columns());
        if width == pitch {
            return Self::range(0..end);
        }
        let left_out = if first + width == pitch { whole.len() - end } else { 0 };
        Self { first, width, pitch, len: whole.rows() * width - left_out }
    }

    /// How many points.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Calls `visit(index, places)` with the index of each first point of those that lie side by
    /// side, and their places among the `len` that go with the scalars from `start` on.
    pub(crate) fn for_each_run<E>(
        &self,
        start: usize,
        len: usize,
        mut visit: impl FnMut(usize, Range<usize>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut done = 0;
        while done < len {
            let (row, column) = ((start + done) / self.width, (start + done) % self.width);
            let run = (self.width - column).min(len - done);
            visit(self.first + row * self.pitch + column, done..done + run)?;
            done += run;
        }
        Ok(())
    }
}

/// The scalars of one multi-scalar multiplication: in memory, in tiles, or in the assignment.
pub(crate) enum Scalars<'a> {
    /// In memory, in order.
    Vector(PoolVec<Fr>),
    /// In tiles, in natural order of the part that is here; they are let go as they are visited.
    Tiles(Tiles<Fr>),
    /// The variables from an index on.
    Assignment(&'a Assignment, usize),
}

impl Scalars<'_> {
    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        match self {
            Scalars::Vector(vector) => vector.len(),
            Scalars::Tiles(tiles) => tiles.len(),
            Scalars::Assignment(assignment, skip) => assignment.len().saturating_sub(*skip),
        }
    }

    /// Calls `visit(start, scalars)` with `len` scalars from `skipped` on, in order, at most
    /// `chunk_len` at a time; `start` counts from the first of them.
    ///
    /// # Errors
    ///
    /// What `visit` says, or the limit and the disk.
    pub(crate) fn for_each_chunk(
        &mut self,
        runtime: &Runtime,
        (skipped, len): (usize, usize),
        chunk_len: usize,
        mut visit: impl FnMut(usize, &[Fr]) -> Result<(), ProveError>,
    ) -> Result<(), ProveError> {
        match self {
            Scalars::Vector(vector) => {
                let mut chunks = vector[skipped..skipped + len].chunks(chunk_len).enumerate();
                chunks.try_for_each(|(i, chunk)| visit(i * chunk_len, chunk))
            }
            Scalars::Assignment(assignment, skip) => {
                let skip = *skip + skipped;
                assignment.for_each_piece(skip..skip + len, chunk_len, |start, chunk| {
                    visit(start - skip, chunk)
                })
            }
            Scalars::Tiles(tiles) => {
                let buffer = runtime.secret_pool().try_zeroed::<Fr>(chunk_len.min(len));
                let mut buffer = buffer.map_err(|error| runtime.explain("msm H", error))?;
                for start in (0..len).step_by(chunk_len) {
                    let chunk = chunk_len.min(len - start);
                    tiles.take_range(skipped + start, &mut buffer[..chunk])?;
                    visit(start, &buffer[..chunk])?;
                }
                Ok(())
            }
        }
    }
}
