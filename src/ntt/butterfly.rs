//! The arithmetic of a transform: twiddles, butterflies, and the layers of a block.
//!
//! A transform is a walk down a tree. Block `j` of a layer holds a polynomial modulo
//! `x^(2m) - c^2`, which splits into the remainders modulo `x^m - c` and `x^m + c`:
//!
//! ```text
//!     block j:   low | high                       c(j) = w^rev(j)
//!   down         low + c*high | low - c*high      natural -> bit-reversed, layer by layer
//!   up           low + high | (low - high)*c      the transpose: bit-reversed -> natural
//!                = block 2j   = block 2j+1
//! ```
//!
//! One twiddle a block, and it depends on `j` alone, not on the layer. So with the table in
//! bit-reversed order every layer reads a contiguous prefix of it, each block reads it once, and
//! a subtree of block `j` reads `[j], [2j, 2j+1], [4j, .., 4j+3], ..`: never a stride.
//! The root inverse needs no second table. With `2^k <= j < 2^(k+1)`:
//!
//! ```text
//!   table[j] = w^rev(j)      w^-rev(j) = -table[3*2^k - 1 - j]      table[0] = 1
//! ```
//!
//! and the sign is paid by exchanging the operands of a subtraction. Block 0 multiplies nothing,
//! which saves about `n` of the `n/2 * log_n` products.
//!
//! In both directions the layers of a block need nothing but the block and `j`, so blocks are
//! independent tasks. Nothing here checks a length: callers pass power-of-two blocks of a domain
//! whose table is complete. It must never allocate.
//!
//! Sources: Cooley and Tukey (Math. Comp. 1965), Gentleman and Sande (AFIPS 1966); the tree of
//! remainders as in D. J. Bernstein, "Multidigit multiplication for mathematicians" (2001).

use super::{TASK_LEN, halve, split_blocks};
use ark_ff::FftField;
use rayon::prelude::*;

/// Doubling: `table[2^k + i] = table[i] * w^(n/2^(k+2))`, since bit `k` of `j` is bit
/// `log_n - 2 - k` of `rev(j)`.
pub(super) fn fill_twiddles<F: FftField>(table: &mut [F], root: F) {
    table[0] = F::ONE;
    let table_log = table.len().ilog2();
    for bit in 0..table_log {
        let step = root.pow([1_u64 << (table_log - 1 - bit)]);
        let (done, rest) = table.split_at_mut(1 << bit);
        let rest = &mut rest[..done.len()];
        rest.par_chunks_mut(TASK_LEN).zip(done.par_chunks(TASK_LEN)).for_each(|(rest, done)| {
            for (power, lower) in rest.iter_mut().zip(done) {
                *power = *lower * step;
            }
        });
    }
}

/// Which root a pass uses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Turn {
    Forward,
    Inverse,
}

/// The arithmetic of a [`Turn`], chosen at compile time inside the loops.
pub(super) trait Root {
    /// The entry of the table that holds the twiddle of block `j > 0`, up to sign.
    fn slot(j: usize) -> usize;
    /// `(low, high) <- (low + c*high, low - c*high)`.
    fn down<F: FftField>(low: &mut F, high: &mut F, twiddle: &F);
    /// `(low, high) <- (low + high, (low - high)*c)`.
    fn up<F: FftField>(low: &mut F, high: &mut F, twiddle: &F);
}

/// `c = table[j]`.
pub(super) struct Forward;

impl Root for Forward {
    #[inline(always)]
    fn slot(j: usize) -> usize {
        j
    }

    #[inline(always)]
    fn down<F: FftField>(low: &mut F, high: &mut F, twiddle: &F) {
        *high *= twiddle;
        turn(low, high);
    }

    #[inline(always)]
    fn up<F: FftField>(low: &mut F, high: &mut F, twiddle: &F) {
        turn(low, high);
        *high *= twiddle;
    }
}

/// `c = -table[3*2^k - 1 - j]`: the sign exchanges the operands of the subtraction.
pub(super) struct Inverse;

impl Root for Inverse {
    #[inline(always)]
    fn slot(j: usize) -> usize {
        debug_assert!(j > 0);
        3 * (1 << j.ilog2()) - 1 - j
    }

    #[inline(always)]
    fn down<F: FftField>(low: &mut F, high: &mut F, twiddle: &F) {
        *high *= twiddle;
        let sum = *low + *high;
        *low -= *high;
        *high = sum;
    }

    #[inline(always)]
    fn up<F: FftField>(low: &mut F, high: &mut F, twiddle: &F) {
        let difference = *high - *low;
        *low += *high;
        *high = difference * twiddle;
    }
}

/// The butterfly of block 0, whose twiddle is one in both directions.
#[inline(always)]
fn turn<F: FftField>(low: &mut F, high: &mut F) {
    let difference = *low - *high;
    *low += *high;
    *high = difference;
}

/// All layers of a leaf, largest blocks first. An odd layer is done alone, at the top.
pub(super) fn leaf_down<F: FftField, R: Root>(values: &mut [F], j: usize, twiddles: &[F]) {
    let mut len = values.len();
    if len.ilog2() % 2 == 1 {
        pair_down::<F, R>(values, j, twiddles);
        len /= 2;
    }
    while len > 1 {
        let first = j * (values.len() / len);
        for (k, block) in values.chunks_exact_mut(len).enumerate() {
            quad_down::<F, R>(split_blocks(block), first + k, twiddles);
        }
        len /= 4;
    }
}

/// All layers of a leaf, smallest blocks first: the mirror of [`leaf_down`].
pub(super) fn leaf_up<F: FftField, R: Root>(values: &mut [F], j: usize, twiddles: &[F]) {
    let mut len = 4;
    while len <= values.len() {
        let first = j * (values.len() / len);
        for (k, block) in values.chunks_exact_mut(len).enumerate() {
            quad_up::<F, R>(split_blocks(block), first + k, twiddles);
        }
        len *= 4;
    }
    if values.len().ilog2() % 2 == 1 {
        pair_up::<F, R>(values, j, twiddles);
    }
}

fn pair_down<F: FftField, R: Root>(values: &mut [F], j: usize, twiddles: &[F]) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    let pairs = low.iter_mut().zip(high);
    if j == 0 {
        return pairs.for_each(|(low, high)| turn(low, high));
    }
    let c = twiddles[R::slot(j)];
    pairs.for_each(|(low, high)| R::down(low, high, &c));
}

fn pair_up<F: FftField, R: Root>(values: &mut [F], j: usize, twiddles: &[F]) {
    let (low, high) = values.split_at_mut(values.len() / 2);
    let pairs = low.iter_mut().zip(high);
    if j == 0 {
        return pairs.for_each(|(low, high)| turn(low, high));
    }
    let c = twiddles[R::slot(j)];
    pairs.for_each(|(low, high)| R::up(low, high, &c));
}

/// Two layers down at once over the quarters of block `j`.
pub(super) fn quad_down<F: FftField, R: Root>(quarters: [&mut [F]; 4], j: usize, twiddles: &[F]) {
    if quarters[0].len() > TASK_LEN {
        let (left, right) = halve(quarters);
        rayon::join(
            || quad_down::<F, R>(left, j, twiddles),
            || quad_down::<F, R>(right, j, twiddles),
        );
        return;
    }
    let [q0, q1, q2, q3] = quarters;
    let quads = q0.iter_mut().zip(q1).zip(q2).zip(q3);
    let right = twiddles[R::slot(2 * j + 1)];
    if j == 0 {
        return quads.for_each(|(((v0, v1), v2), v3)| {
            turn(v0, v2);
            turn(v1, v3);
            turn(v0, v1);
            R::down(v2, v3, &right);
        });
    }
    let (whole, left) = (twiddles[R::slot(j)], twiddles[R::slot(2 * j)]);
    quads.for_each(|(((v0, v1), v2), v3)| {
        R::down(v0, v2, &whole);
        R::down(v1, v3, &whole);
        R::down(v0, v1, &left);
        R::down(v2, v3, &right);
    });
}

/// Two layers up at once over the quarters of block `j`.
pub(super) fn quad_up<F: FftField, R: Root>(quarters: [&mut [F]; 4], j: usize, twiddles: &[F]) {
    if quarters[0].len() > TASK_LEN {
        let (left, right) = halve(quarters);
        rayon::join(|| quad_up::<F, R>(left, j, twiddles), || quad_up::<F, R>(right, j, twiddles));
        return;
    }
    let [q0, q1, q2, q3] = quarters;
    let quads = q0.iter_mut().zip(q1).zip(q2).zip(q3);
    let right = twiddles[R::slot(2 * j + 1)];
    if j == 0 {
        return quads.for_each(|(((v0, v1), v2), v3)| {
            turn(v0, v1);
            R::up(v2, v3, &right);
            turn(v0, v2);
            turn(v1, v3);
        });
    }
    let (whole, left) = (twiddles[R::slot(j)], twiddles[R::slot(2 * j)]);
    quads.for_each(|(((v0, v1), v2), v3)| {
        R::up(v0, v1, &left);
        R::up(v2, v3, &right);
        R::up(v0, v2, &whole);
        R::up(v1, v3, &whole);
    });
}
