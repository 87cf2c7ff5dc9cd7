//! Rows of A and B times the assignment, from the coefficients of a zkey.
//!
//! ```text
//!   stretch of coefficients     A 7 x | A 7 y | B 7 z | A 8 x | ...      read, decoded
//!   times their signals         A 7  sum      | B 7   | A 8   | ...      in parallel, in place
//!   added to the rows           a[7] +=         b[7]    a[8]             in order
//! ```
//!
//! Neighbours of one row are added up where they lie, so that what is left to do in order is an
//! addition a row and not one a coefficient.
//!
//! The buffer holds products with the witness: it is of the secret pool.
//!
//! Must never: depend on the order of the coefficients.

use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::key::{Coefficient, CoefficientIndex, Coefficients, Factor, KeyFile, Want};
use crate::groth16::r1cs::{Window, multiply};
use ark_bn254::Fr;
use plimsoll_arena::PoolVec;
use rayon::prelude::*;
use std::ops::Range;

/// Coefficients of a zkey read at a time: 2^14 of 48 bytes, under a megabyte.
pub(crate) const COEFFICIENTS_AT_ONCE: usize = 1 << 14;

/// Coefficients that a task multiplies.
const TASK_COEFFICIENTS: usize = 1 << 10;

/// The sums of a zkey's coefficients times their signals, one for each row of A and B.
pub(super) struct CircomRows<'a> {
    coefficients: Coefficients<'a>,
    index: CoefficientIndex,
    buffer: PoolVec<Coefficient>,
    /// Sums that each task left.
    sums: Vec<usize>,
}

impl<'a> CircomRows<'a> {
    pub(super) fn new(runtime: &Runtime, key: &'a KeyFile) -> Result<Self, ProveError> {
        let coefficients = key.coefficients().ok_or(ProveError::NoMatrices)?;
        let len = COEFFICIENTS_AT_ONCE.min(coefficients.len().max(1));
        let buffer = runtime.secret_pool().try_filled(len, Coefficient::ZERO);
        let buffer = buffer.map_err(|error| runtime.explain("quotient", error))?;
        let index = coefficients.index(len);
        Ok(Self { coefficients, index, buffer, sums: Vec::new() })
    }

    /// Returns whether `rows` may have a coefficient of one of `signals`.
    pub(super) fn may_read(&self, rows: Range<usize>, signals: Range<usize>) -> bool {
        self.index.may_have(&Want::new(rows, signals))
    }

    /// Adds every coefficient times its signal to its row of `a` or `b`, which are the rows from
    /// `first_row` on; signals outside the window and other rows are passed over.
    pub(super) fn accumulate(
        &mut self,
        window: Window<'_>,
        first_row: usize,
        a: &mut [Fr],
        b: &mut [Fr],
    ) -> Result<(), ProveError> {
        let signals = window.start..window.start + window.values.len();
        let want = Want::new(first_row..first_row + a.len(), signals);
        let sums = &mut self.sums;
        self.coefficients.for_each_stretch(&mut self.index, want, &mut self.buffer, |stretch| {
            let tasks = stretch.par_chunks_mut(TASK_COEFFICIENTS);
            tasks.map(|entries| sum_rows(entries, &want, window.values)).collect_into_vec(sums);
            for (entries, sums) in stretch.chunks(TASK_COEFFICIENTS).zip(sums.iter()) {
                for sum in &entries[..*sums] {
                    let row = sum.row as usize - first_row;
                    match sum.matrix {
                        Factor::A => a[row] += sum.value,
                        Factor::B => b[row] += sum.value,
                    }
                }
            }
            Ok(())
        })
    }
}

/// Multiplies the entries that are wanted by their signals, and adds up neighbours of one row of
/// one matrix. The sums are the first of `entries`; returns how many there are.
fn sum_rows(entries: &mut [Coefficient], want: &Want, values: &[Fr]) -> usize {
    let mut sums = 0;
    for i in 0..entries.len() {
        let Coefficient { matrix, row, signal, value } = entries[i];
        let Some((_, signal)) = want.place(row, signal) else { continue };
        let product = multiply(value, values[signal]);
        match entries[..sums].last_mut() {
            Some(last) if last.row == row && last.matrix == matrix => last.value += product,
            _ => {
                entries[sums].matrix = matrix;
                entries[sums].row = row;
                entries[sums].value = product;
                sums += 1;
            }
        }
    }
    sums
}
