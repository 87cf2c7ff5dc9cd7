//! The definition of the transform, written down: the oracle that every fast form must equal.
//!
//! ```text
//!   fft         y[i] =       sum_k c[k] * (offset * root^i)^k        offset = 1
//!   ifft        c[k] = 1/n * offset^-k * sum_i y[i] * root^(-i*k)    offset = 1
//!   coset_*     the same with an offset
//! ```
//!
//! `n = values.len()`, and `root` has order `n`. Natural order on both sides. O(n^2) products, one
//! thread, one new vector. Nothing here is shared with the fast code, on purpose: a mistake in a
//! shared part would hide. Any length, any field: the definition does not need a power of two.
//!
//! Never use it on a hot path; above a few thousand entries it takes seconds.

use ark_ff::Field;

/// Evaluations at `root^i` of the polynomial with coefficients `values`.
pub fn fft<F: Field>(values: &[F], root: F) -> Vec<F> {
    coset_fft(values, root, F::ONE)
}

/// Coefficients of the polynomial with evaluations `values` at `root^i`.
///
/// `None` when `root` is zero or `values.len()` is zero in the field.
pub fn ifft<F: Field>(values: &[F], root: F) -> Option<Vec<F>> {
    coset_ifft(values, root, F::ONE)
}

/// Evaluations at `offset * root^i` of the polynomial with coefficients `values`.
pub fn coset_fft<F: Field>(values: &[F], root: F, offset: F) -> Vec<F> {
    let mut point = offset;
    let mut evaluations = Vec::with_capacity(values.len());
    for _ in values {
        evaluations.push(evaluate(values, point));
        point *= root;
    }
    evaluations
}

/// Coefficients of the polynomial with evaluations `values` at `offset * root^i`.
///
/// `None` when `root` or `offset` is zero or `values.len()` is zero in the field.
pub fn coset_ifft<F: Field>(values: &[F], root: F, offset: F) -> Option<Vec<F>> {
    let root_inverse = root.inverse()?;
    let offset_inverse = offset.inverse()?;
    let mut scale = F::from(values.len() as u64).inverse()?;
    let mut coefficients = fft(values, root_inverse);
    for coefficient in &mut coefficients {
        *coefficient *= scale;
        scale *= offset_inverse;
    }
    Some(coefficients)
}

/// Horner's rule.
fn evaluate<F: Field>(coefficients: &[F], point: F) -> F {
    coefficients.iter().rev().fold(F::ZERO, |sum, coefficient| sum * point + coefficient)
}
