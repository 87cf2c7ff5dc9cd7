//! From an assignment to the quotient: the scalars of the H query.
//!
//! With `a`, `b`, `c` the products of the three matrices and the assignment, over a domain of n
//! points, the prover needs the values or coefficients of `(a b - c) / Z`.
//!
//! ```text
//!   arkworks (libsnark's reduction)            circom (snarkjs's reduction)
//!   a, b   over H  -> over gH                  a, b, c = a o b  over H -> over wH
//!   a <- a o b                                 h = a o b - c    (values; the H query is in the
//!   c      over H  -> over gH                                    Lagrange basis of the odd points)
//!   a <- (a - c) / Z(g)                        w: root of order 2n
//!   h = coefficients of a from gH
//!   2 vectors of n at once                     3 vectors of n at once
//! ```
//!
//! `Z` is constant on `gH`, so dividing is one multiplication. `c` is evaluated after `b` is gone
//! and takes its block. Vectors come from the secret pool: they are the witness in other clothes.
//! [`out_of_core`] does the same over tiles, with the same results.
//!
//! Source: J. Groth, "On the Size of Pairing-Based Non-interactive Arguments", 2016; the two
//! reductions as ark-groth16 0.6 and snarkjs 0.7 define them.

mod circom_rows;
mod out_of_core;
#[cfg(test)]
mod tests;

pub(crate) use circom_rows::COEFFICIENTS_AT_ONCE;
pub(crate) use out_of_core::{out_of_core, piece_len, turned_vectors};

use crate::Runtime;
use crate::groth16::error::ProveError;
use crate::groth16::key::KeyFile;
use crate::groth16::r1cs::{Matrix, MatrixFile, Window};
use crate::ntt::{Radix2, twiddle_len};
use ark_bn254::Fr;
use ark_ff::{FftField, Field, One};
use circom_rows::CircomRows;
use plimsoll_arena::{PoolVec, fill_with_zero};
use rayon::prelude::*;

/// Where the matrices are, and which reduction goes with them.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The matrix file of an arkworks key.
    Matrices(&'a MatrixFile),
    /// The coefficients of a zkey.
    Zkey(&'a KeyFile),
}

/// Hears how many steps of how many are done.
pub(crate) type Advance<'a> = &'a dyn Fn(usize, usize);

/// Counts steps for who watches.
struct Steps<'a> {
    advance: Advance<'a>,
    done: usize,
    total: usize,
}

impl<'a> Steps<'a> {
    fn new(advance: Advance<'a>, total: usize) -> Self {
        Self { advance, done: 0, total }
    }

    fn done(&mut self, steps: usize) {
        self.done += steps;
        (self.advance)(self.done, self.total);
    }
}

/// Returns the scalars of the H query in memory, for an assignment in one piece. `advance` hears of
/// each product with a matrix and each transform.
///
/// # Errors
///
/// [`ProveError::Unsatisfied`] when a constraint does not hold (a zkey does not tell), and whatever
/// memory or files say.
pub(crate) fn in_core(
    runtime: &Runtime,
    source: Source<'_>,
    n: usize,
    assignment: &[Fr],
    advance: Advance<'_>,
) -> Result<PoolVec<Fr>, ProveError> {
    match source {
        Source::Matrices(matrices) => coefficients(runtime, matrices, n, assignment, advance),
        Source::Zkey(key) => values(runtime, key, n, assignment, advance),
    }
}

/// Elements a task of a pointwise loop takes.
const POINTWISE_CHUNK: usize = 1 << 12;

fn domain(runtime: &Runtime, n: usize) -> Result<Radix2<Fr, PoolVec<Fr>>, ProveError> {
    let log_n = n.ilog2();
    let table = runtime
        .pool()
        .try_zeroed(twiddle_len(log_n))
        .map_err(|error| runtime.explain("quotient", error))?;
    Ok(Radix2::new(log_n, table)?)
}

fn vector(runtime: &Runtime, n: usize) -> Result<PoolVec<Fr>, ProveError> {
    let zeroed = runtime.secret_pool().try_zeroed(n);
    Ok(zeroed.map_err(|error| runtime.explain("quotient", error))?)
}

/// Calls `f` on every element of `a` and its partner in `b`.
fn pointwise(a: &mut [Fr], b: &[Fr], f: impl Fn(&mut Fr, &Fr) + Sync) {
    a.par_chunks_mut(POINTWISE_CHUNK)
        .zip(b.par_chunks(POINTWISE_CHUNK))
        .for_each(|(a, b)| a.iter_mut().zip(b).for_each(|(a, b)| f(a, b)));
}

/// Returns the coefficients of the quotient, of which the last is zero, for a key of arkworks.
fn coefficients(
    runtime: &Runtime,
    matrices: &MatrixFile,
    n: usize,
    assignment: &[Fr],
    advance: Advance<'_>,
) -> Result<PoolVec<Fr>, ProveError> {
    let mut steps = Steps::new(advance, 7);
    let shape = matrices.shape();
    let (rows, instance) = (shape.constraints, shape.instance);
    let offset = Fr::GENERATOR;
    let mut a = vector(runtime, n)?;
    let mut b = vector(runtime, n)?;
    matrices.evaluate(Matrix::A, assignment, &mut a[..rows])?;
    steps.done(1);
    matrices.evaluate(Matrix::B, assignment, &mut b[..rows])?;
    matrices.check_products(assignment, &a[..rows], &b[..rows])?;
    a[rows..rows + instance].copy_from_slice(&assignment[..instance]);
    steps.done(1);
    let domain = domain(runtime, n)?;
    for values in [&mut a, &mut b] {
        domain.shift_to_coset(values, offset)?;
        steps.done(1);
    }
    pointwise(&mut a, &b, |a, b| *a *= b);
    let mut c = b;
    fill_with_zero(&mut c[rows..]);
    matrices.evaluate(Matrix::C, assignment, &mut c[..rows])?;
    steps.done(1);
    domain.shift_to_coset(&mut c, offset)?;
    steps.done(1);
    let inverse = vanishing_inverse(n)?;
    pointwise(&mut a, &c, |a, c| *a = (*a - c) * inverse);
    drop(c);
    domain.coset_ifft(&mut a, offset)?;
    steps.done(1);
    Ok(a)
}

/// Returns `1 / Z(g)`. `Z(g) = g^n - 1` is not zero: the coset does not meet the domain.
fn vanishing_inverse(n: usize) -> Result<Fr, ProveError> {
    let vanishing = Fr::GENERATOR.pow([n as u64]) - Fr::one();
    vanishing.inverse().ok_or(ProveError::Domain { size: n })
}

/// Returns the root of order 2n, from which the odd points are a coset.
fn odd_offset(n: usize) -> Result<Fr, ProveError> {
    Fr::get_root_of_unity(2 * n as u64).ok_or(ProveError::Domain { size: n })
}

/// Returns the values of the quotient on the odd points of the doubled domain, for a zkey. It has
/// no third matrix: that a witness does not satisfy the circuit shows when the proof is verified.
fn values(
    runtime: &Runtime,
    key: &KeyFile,
    n: usize,
    assignment: &[Fr],
    advance: Advance<'_>,
) -> Result<PoolVec<Fr>, ProveError> {
    let mut steps = Steps::new(advance, 4);
    let offset = odd_offset(n)?;
    let mut a = vector(runtime, n)?;
    let mut b = vector(runtime, n)?;
    let window = Window { start: 0, values: assignment };
    CircomRows::new(runtime, key)?.accumulate(window, 0, &mut a, &mut b)?;
    let mut c = vector(runtime, n)?;
    c.copy_from_slice(&a);
    pointwise(&mut c, &b, |c, b| *c *= b);
    steps.done(1);
    let domain = domain(runtime, n)?;
    for values in [&mut a, &mut b, &mut c] {
        domain.shift_to_coset(values, offset)?;
        steps.done(1);
    }
    pointwise(&mut a, &b, |a, b| *a *= b);
    pointwise(&mut a, &c, |a, c| *a -= c);
    Ok(a)
}
