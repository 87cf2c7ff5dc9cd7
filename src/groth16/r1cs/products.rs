//! Products of the matrices and an assignment, or a window of it, from blocks that stream by.
//!
//! ```text
//!   blocks of a range of rows   | block | block | ...     as many at a time as there are threads
//!   load, in parallel           read, checked, looked through for the parts that they read
//!   sum, in parallel            | 256 rows | 256 rows | ...      of all that were loaded
//! ```
//!
//! Rows are shared out, not blocks: a stripe of a proof out of core is often one block, and keeps
//! every thread busy all the same. A block with nothing for the window is passed over, once it has
//! been looked through.
//!
//! Must never: use a block whose checksum is wrong, or a term before its numbers were checked.

use super::{BLOCK_ROWS, Matrix, MatrixBlock, MatrixFile, TERM_BYTES, Window, u32_at};
use crate::groth16::error::{MatrixError, ProveError};
use crate::groth16::parts::Parts;
use ark_bn254::Fr;
use ark_ff::{One, Zero};
use plimsoll_arena::fill_with_zero;
use rayon::prelude::*;
use std::ops::Range;
use twox_hash::XxHash3_64;

/// Rows a task takes: enough to be worth one, and sixteen tasks a block.
const TASK_ROWS: usize = 256;

/// A block that was read and checked: the length of every row, and all terms.
#[derive(Clone, Copy)]
struct Terms<'b> {
    lengths: &'b [u8],
    terms: &'b [u8],
}

impl MatrixFile {
    /// Adds to `out[i]` the product of row `rows.start + i` of `matrix` and the part of the
    /// assignment that `window` is. Terms outside are left to other windows, so the sum over
    /// windows that cover all variables is the product.
    ///
    /// # Errors
    ///
    /// [`ProveError::Matrices`] for a damaged block.
    ///
    /// # Panics
    ///
    /// When `rows.start` is not a multiple of [`BLOCK_ROWS`], `rows` goes past the constraints, or
    /// `out` has another length.
    pub fn accumulate(
        &self,
        matrix: Matrix,
        rows: Range<usize>,
        window: Window<'_>,
        out: &mut [Fr],
    ) -> Result<(), ProveError> {
        assert!(rows.end <= self.shape.constraints, "the rows are the circuit's");
        assert_eq!(out.len(), rows.len(), "one place a row");
        let read = self.cut.parts(window.start..window.start + window.values.len());
        let mut places: Vec<_> = out
            .chunks_mut(BLOCK_ROWS)
            .zip(self.blocks_of(matrix, &rows))
            .filter(|(_, block)| block.parts().meets(read))
            .collect();
        let mut scratch = self.scratch(places.len());
        for places in places.chunks_mut(scratch.len()) {
            let blocks: Vec<_> = places.iter().map(|(rows, block)| (*block, rows.len())).collect();
            let loaded = self.load(&blocks, &mut scratch)?;
            places.par_iter_mut().zip(loaded).for_each(|((rows, _), terms)| {
                rows.par_chunks_mut(TASK_ROWS).enumerate().for_each(|(task, rows)| {
                    let sums = self.sums(terms, task * TASK_ROWS, window);
                    rows.iter_mut().zip(sums).for_each(|(row, sum)| *row += sum);
                });
            });
        }
        Ok(())
    }

    /// Writes the product of every row of `matrix` and the whole `assignment` to `out`.
    ///
    /// # Errors
    ///
    /// [`ProveError::Matrices`] for a damaged block.
    ///
    /// # Panics
    ///
    /// When `assignment` or `out` has another length than the shape says.
    pub fn evaluate(
        &self,
        matrix: Matrix,
        assignment: &[Fr],
        out: &mut [Fr],
    ) -> Result<(), ProveError> {
        assert_eq!(assignment.len(), self.shape.variables, "the assignment is the circuit's");
        fill_with_zero(out);
        let window = Window { start: 0, values: assignment };
        self.accumulate(matrix, 0..self.shape.constraints, window, out)
    }

    /// Checks that `a[i] * b[i]` is the product of row `i` of C and `assignment`, for all rows.
    ///
    /// # Errors
    ///
    /// [`ProveError::Unsatisfied`] with the first row that is not, or [`ProveError::Matrices`] for
    /// a damaged block.
    ///
    /// # Panics
    ///
    /// When a slice has another length than the shape says.
    pub fn check_products(&self, assignment: &[Fr], a: &[Fr], b: &[Fr]) -> Result<(), ProveError> {
        assert_eq!(assignment.len(), self.shape.variables, "the assignment is the circuit's");
        assert!(a.len() == self.shape.constraints && b.len() == a.len(), "one place a row");
        let window = Window { start: 0, values: assignment };
        let places: Vec<_> = a
            .chunks(BLOCK_ROWS)
            .zip(b.chunks(BLOCK_ROWS))
            .zip(&self.blocks[Matrix::C as usize])
            .collect();
        let mut scratch = self.scratch(places.len());
        let at_once = scratch.len();
        for (batch, places) in places.chunks(at_once).enumerate() {
            let blocks: Vec<_> = places.iter().map(|((a, _), block)| (*block, a.len())).collect();
            let loaded = self.load(&blocks, &mut scratch)?;
            let wrong = places.par_iter().zip(loaded).enumerate().find_map_first(|(at, place)| {
                let (((a, b), _), terms) = place;
                let rows = a.par_chunks(TASK_ROWS).zip(b.par_chunks(TASK_ROWS)).enumerate();
                let wrong = rows.find_map_first(|(task, (a, b))| {
                    let mut sums = self.sums(terms, task * TASK_ROWS, window);
                    let is_wrong = |(a, b): (&Fr, &Fr)| sums.next() != Some(*a * b);
                    a.iter().zip(b).position(is_wrong).map(|row| task * TASK_ROWS + row)
                })?;
                Some((batch * at_once + at) * BLOCK_ROWS + wrong)
            });
            if let Some(row) = wrong {
                return Err(ProveError::Unsatisfied { row });
            }
        }
        Ok(())
    }

    /// Returns whether `rows` of one of the matrices may have a term in `variables`.
    ///
    /// # Panics
    ///
    /// When `rows.start` is not a multiple of [`BLOCK_ROWS`] or `rows` goes past the constraints.
    pub(in crate::groth16) fn may_read(
        &self,
        rows: &Range<usize>,
        variables: Range<usize>,
    ) -> bool {
        let read = self.cut.parts(variables);
        let reads = |matrix| self.blocks_of(matrix, rows).iter().any(|b| b.parts().meets(read));
        [Matrix::A, Matrix::B, Matrix::C].into_iter().any(reads)
    }

    /// Returns the blocks that `rows` lies in.
    fn blocks_of(&self, matrix: Matrix, rows: &Range<usize>) -> &[MatrixBlock] {
        assert!(rows.start.is_multiple_of(BLOCK_ROWS), "rows are taken by whole blocks");
        let blocks = rows.start / BLOCK_ROWS..rows.end.div_ceil(BLOCK_ROWS);
        &self.blocks[matrix as usize][blocks]
    }

    /// Buffers for the blocks that are loaded at a time, of `blocks` in all: at least one.
    fn scratch(&self, blocks: usize) -> Vec<Vec<u8>> {
        let at_once = rayon::current_num_threads().min(blocks).max(1);
        (0..at_once).map(|_| Vec::with_capacity(self.scratch_bytes())).collect()
    }

    /// Reads blocks and their numbers of rows into `scratch`, in parallel, and checks them.
    fn load<'b>(
        &self,
        blocks: &[(&MatrixBlock, usize)],
        scratch: &'b mut [Vec<u8>],
    ) -> Result<Vec<Terms<'b>>, ProveError> {
        let load = |((block, rows), scratch): (&(&MatrixBlock, usize), &'b mut Vec<u8>)| {
            self.load_block(block, *rows, scratch)
        };
        blocks.par_iter().zip(scratch).map(load).collect()
    }

    fn load_block<'b>(
        &self,
        block: &MatrixBlock,
        rows: usize,
        scratch: &'b mut Vec<u8>,
    ) -> Result<Terms<'b>, ProveError> {
        scratch.resize(block.bytes, 0);
        self.file.read_at(block.offset, scratch).map_err(|error| self.error(error.to_string()))?;
        if XxHash3_64::oneshot(scratch) != block.checksum {
            let why = format!("the checksum of the block at {} is wrong", block.offset);
            return Err(self.error(why));
        }
        let damaged = || self.error(format!("the block at {} contradicts itself", block.offset));
        let (lengths, terms) = scratch.split_at_checked(rows * 4).ok_or_else(damaged)?;
        let count: u64 =
            lengths.as_chunks().0.iter().map(|n| u64::from(u32::from_le_bytes(*n))).sum();
        if count * TERM_BYTES as u64 != terms.len() as u64 {
            return Err(damaged());
        }
        let mut parts = Parts::default();
        for term in terms.chunks_exact(TERM_BYTES) {
            let (variable, factor) = term_at(term);
            if variable >= self.shape.variables || factor >= self.dictionary.len() {
                return Err(damaged());
            }
            parts.add(self.cut.part(variable));
        }
        block.set_parts(parts);
        Ok(Terms { lengths, terms })
    }

    /// The products of the rows from `first` on and `window`, in order.
    fn sums<'b>(
        &'b self,
        block: Terms<'b>,
        first: usize,
        window: Window<'b>,
    ) -> impl Iterator<Item = Fr> + 'b {
        let len = |row: usize| u32_at(block.lengths, row * 4) as usize * TERM_BYTES;
        let mut start = (0..first).map(len).sum::<usize>();
        (first..block.lengths.len() / 4).map(move |row| {
            let end = start + len(row);
            let mut sum = Fr::zero();
            for term in block.terms[start..end].chunks_exact(TERM_BYTES) {
                let (variable, factor) = term_at(term);
                if let Some(value) = window.values.get(variable.wrapping_sub(window.start)) {
                    sum += multiply(self.dictionary[factor], *value);
                }
            }
            start = end;
            sum
        })
    }

    fn error(&self, why: impl Into<String>) -> ProveError {
        ProveError::Matrices(MatrixError { path: self.path.clone(), why: why.into() })
    }
}

/// The variable of a term, and the index of its coefficient.
fn term_at(term: &[u8]) -> (usize, usize) {
    (u32_at(term, 0) as usize, u32_at(term, 4) as usize)
}

/// Multiplies, at no cost where the value is a bit or the coefficient one: most of a bit circuit.
#[inline]
pub(in crate::groth16) fn multiply(factor: Fr, value: Fr) -> Fr {
    if value.is_zero() || factor.is_one() {
        value
    } else if value.is_one() {
        factor
    } else {
        factor * value
    }
}
