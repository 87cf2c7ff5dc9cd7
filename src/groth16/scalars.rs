//! The scalars of a multi-scalar multiplication, wherever they are.

use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::error::ProveError;
use crate::tiles::Tiles;
use ark_bn254::Fr;
use plimsoll_arena::PoolVec;

/// The scalars of one multi-scalar multiplication: in memory, in tiles, or in the assignment.
pub(crate) enum Scalars<'a> {
    /// In memory, in order.
    Vector(PoolVec<Fr>),
    /// In tiles, in natural order; they are let go as they are visited.
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

    /// Calls `visit(start, scalars)` with the first `len` scalars in order, at most `chunk_len` at
    /// a time.
    ///
    /// # Errors
    ///
    /// What `visit` says, or the limit and the disk.
    pub(crate) fn for_each_chunk(
        &mut self,
        runtime: &Runtime,
        len: usize,
        chunk_len: usize,
        mut visit: impl FnMut(usize, &[Fr]) -> Result<(), ProveError>,
    ) -> Result<(), ProveError> {
        match self {
            Scalars::Vector(vector) => {
                let mut chunks = vector[..len].chunks(chunk_len).enumerate();
                chunks.try_for_each(|(i, chunk)| visit(i * chunk_len, chunk))
            }
            Scalars::Assignment(assignment, skip) => {
                let skip = *skip;
                assignment.for_each_piece(skip..skip + len, chunk_len, |start, chunk| {
                    visit(start - skip, chunk)
                })
            }
            Scalars::Tiles(tiles) => {
                let buffer = runtime.secret_pool().try_zeroed::<Fr>(chunk_len.min(len));
                let mut buffer = buffer.map_err(|error| runtime.explain("msm H", error))?;
                for start in (0..len).step_by(chunk_len) {
                    let chunk = chunk_len.min(len - start);
                    tiles.take_range(start, &mut buffer[..chunk])?;
                    visit(start, &buffer[..chunk])?;
                }
                Ok(())
            }
        }
    }
}
