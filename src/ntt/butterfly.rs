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
//! and the sign is taken off once a block. Block 0 multiplies nothing, which saves about `n` of the
//! `n/2 * log_n` products.
//!
//! In both directions the layers of a block need nothing but the block and `j`, so blocks are
//! independent tasks. Values may be anything that the field multiplies, points of a curve for one.
//! Nothing here checks a length: callers pass power-of-two blocks of a domain whose table is
//! complete. It must never allocate.
//!
//! Sources: Cooley and Tukey (Math. Comp. 1965), Gentleman and Sande (AFIPS 1966); the tree of
//! remainders as in D. J. Bernstein, "Multidigit multiplication for mathematicians" (2001).

use super::{TASK_LEN, halve, split_blocks};
use ark_ff::FftField;
use ark_poly::domain::DomainCoeff;
use plimsoll_ifma::{BLOCK, Butterflies, Direction, Factors, GROUP};
use rayon::prelude::*;
use std::ops::{AddAssign, Sub};

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

/// The factors of a [`Turn`], chosen at compile time inside the loops.
pub(super) trait Root {
    /// Whether the table has the factors with the other sign.
    const IS_NEGATIVE: bool;

    /// The entry of the table that holds the twiddle of block `j > 0`, up to sign.
    fn slot(j: usize) -> usize;

    /// The factor of block `j > 0`.
    fn factor<F: FftField>(twiddles: &[F], j: usize) -> F {
        let entry = twiddles[Self::slot(j)];
        if Self::IS_NEGATIVE { -entry } else { entry }
    }
}

/// `c = table[j]`.
pub(super) struct Forward;

impl Root for Forward {
    const IS_NEGATIVE: bool = false;

    #[inline(always)]
    fn slot(j: usize) -> usize {
        j
    }
}

/// `c = -table[3*2^k - 1 - j]`.
pub(super) struct Inverse;

impl Root for Inverse {
    const IS_NEGATIVE: bool = true;

    #[inline(always)]
    fn slot(j: usize) -> usize {
        debug_assert!(j > 0);
        3 * (1 << j.ilog2()) - 1 - j
    }
}

/// `(low, high) <- (low + c*high, low - c*high)`.
#[inline(always)]
fn down<F: FftField, T: DomainCoeff<F>>(low: &mut T, high: &mut T, factor: &F) {
    *high *= *factor;
    turn(low, high);
}

/// `(low, high) <- (low + high, (low - high)*c)`.
#[inline(always)]
fn up<F: FftField, T: DomainCoeff<F>>(low: &mut T, high: &mut T, factor: &F) {
    turn(low, high);
    *high *= *factor;
}

/// The butterfly of block 0, whose twiddle is one in both directions.
#[inline(always)]
fn turn<T: Copy + Sub<Output = T> + AddAssign>(low: &mut T, high: &mut T) {
    let difference = *low - *high;
    *low += *high;
    *high = difference;
}

/// The layers of one transform: its factors, and how its butterflies are done.
pub(super) struct Layers<'a, F, T> {
    pub(super) twiddles: &'a [F],
    /// Does eight at a time, where that can be. The results are the same.
    pub(super) eight: Option<Butterflies<F, T>>,
}

impl<F: FftField, T: DomainCoeff<F>> Layers<'_, F, T> {
    /// All layers of a leaf, largest blocks first. An odd layer is done alone, at the top.
    pub(super) fn leaf_down<R: Root>(&self, values: &mut [T], j: usize) {
        if values.len().ilog2() % 2 == 1 {
            self.pair::<R>(Direction::Down, values, j);
        }
        let mut len = values.len() >> (values.len().ilog2() % 2);
        while len > 1 {
            if self.narrow::<R>(Direction::Down, values, j, len) {
                return;
            }
            self.quads::<R>(Direction::Down, values, j, len);
            len /= 4;
        }
    }

    /// All layers of a leaf, smallest blocks first: the mirror of [`Layers::leaf_down`].
    pub(super) fn leaf_up<R: Root>(&self, values: &mut [T], j: usize) {
        let mut len = 4;
        if self.narrow::<R>(Direction::Up, values, j, BLOCK) {
            len = 4 * BLOCK;
        }
        while len <= values.len() {
            self.quads::<R>(Direction::Up, values, j, len);
            len *= 4;
        }
        if values.len().ilog2() % 2 == 1 {
            self.pair::<R>(Direction::Up, values, j);
        }
    }

    /// Two layers of a leaf, over the quarters of its blocks of `len`.
    fn quads<R: Root>(&self, direction: Direction, values: &mut [T], j: usize, len: usize) {
        let first = j * (values.len() / len);
        for (k, block) in values.chunks_exact_mut(len).enumerate() {
            self.quad::<R>(direction, split_blocks(block), first + k);
        }
    }

    /// The four layers of a leaf in blocks of [`BLOCK`] and less, if `len` is that and eight such
    /// blocks can be done at a time; says whether they are done.
    fn narrow<R: Root>(
        &self,
        direction: Direction,
        values: &mut [T],
        j: usize,
        len: usize,
    ) -> bool {
        let Some(eight) = self.eight.filter(|_| len == BLOCK) else { return false };
        if values.len() < GROUP * BLOCK {
            return false;
        }
        let first = j * (values.len() / BLOCK);
        let factors = Factors { table: self.twiddles, is_negative: R::IS_NEGATIVE, slot: R::slot };
        for (k, blocks) in values.chunks_exact_mut(GROUP * BLOCK).enumerate() {
            let first = first + k * GROUP;
            // Block 0 has no factor in the table.
            if first > 0 {
                eight.blocks(blocks, direction, first, &factors);
                continue;
            }
            let (outer, inner) = (BLOCK, BLOCK / 4);
            for len in if direction == Direction::Down { [outer, inner] } else { [inner, outer] } {
                self.quads::<R>(direction, blocks, 0, len);
            }
        }
        true
    }

    /// One layer over the halves of block `j`.
    fn pair<R: Root>(&self, direction: Direction, values: &mut [T], j: usize) {
        let (low, high) = values.split_at_mut(values.len() / 2);
        let factor = if j == 0 { F::ONE } else { R::factor(self.twiddles, j) };
        if let Some(eight) = self.eight.filter(|_| low.len().is_multiple_of(GROUP)) {
            return eight.pairs([low, high], direction, &factor);
        }
        let pairs = low.iter_mut().zip(high);
        match direction {
            _ if j == 0 => pairs.for_each(|(low, high)| turn(low, high)),
            Direction::Down => pairs.for_each(|(low, high)| down(low, high, &factor)),
            Direction::Up => pairs.for_each(|(low, high)| up(low, high, &factor)),
        }
    }

    /// Two layers at once over the quarters of block `j`.
    pub(super) fn quad<R: Root>(&self, direction: Direction, quarters: [&mut [T]; 4], j: usize) {
        if quarters[0].len() > TASK_LEN {
            let (left, right) = halve(quarters);
            rayon::join(
                || self.quad::<R>(direction, left, j),
                || self.quad::<R>(direction, right, j),
            );
            return;
        }
        let factor = |j| R::factor(self.twiddles, j);
        let right = factor(2 * j + 1);
        let (whole, left) = if j == 0 { (right, right) } else { (factor(j), factor(2 * j)) };
        if let Some(eight) = self.eight.filter(|_| quarters[0].len().is_multiple_of(GROUP)) {
            return eight.quads(quarters, direction, &[whole, left, right], j == 0);
        }
        let [q0, q1, q2, q3] = quarters;
        let quads = q0.iter_mut().zip(q1).zip(q2).zip(q3);
        match direction {
            Direction::Down if j == 0 => quads.for_each(|(((v0, v1), v2), v3)| {
                turn(v0, v2);
                turn(v1, v3);
                turn(v0, v1);
                down(v2, v3, &right);
            }),
            Direction::Down => quads.for_each(|(((v0, v1), v2), v3)| {
                down(v0, v2, &whole);
                down(v1, v3, &whole);
                down(v0, v1, &left);
                down(v2, v3, &right);
            }),
            Direction::Up if j == 0 => quads.for_each(|(((v0, v1), v2), v3)| {
                turn(v0, v1);
                up(v2, v3, &right);
                turn(v0, v2);
                turn(v1, v3);
            }),
            Direction::Up => quads.for_each(|(((v0, v1), v2), v3)| {
                up(v0, v1, &left);
                up(v2, v3, &right);
                up(v0, v2, &whole);
                up(v1, v3, &whole);
            }),
        }
    }
}
