//! Scalars to signed digits, and one window's digits to sorted point indices.
//!
//! ```text
//! s = sum_w digit_w * 2^(c*w),    -2^(c-1) <= digit_w < 2^(c-1)
//!
//! digits:  tile 0 [ window 0: TILE_LEN digits | window 1 | ... ]  tile 1 [ ... ]
//! order:   window w: indices of points by |digit|, zeros last; the top bit is the sign
//! ends:    window w: ends[k] = how many have 1 <= |digit| <= k + 1; one more for zeros
//! ```
//!
//! A scalar above half the modulus is written as `-(modulus - s)`, so that -1 has one digit, as 1
//! has. That needs the point's order to divide the modulus: bases lie in the prime-order subgroup.
//! Digits are secret: never printed, never in an error.

use ark_ec::AffineRepr;
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::{BigInteger, One, PrimeField, Zero};

/// Points whose digits lie together: 16 windows of 1024 two-byte digits fill an L1 cache.
/// Shrunk under test so that small inputs cross the edges.
pub(super) const TILE_LEN: usize = if cfg!(test) { 32 } else { 1024 };

/// Top bit of an entry of `order`: subtract the point.
const NEGATIVE: u32 = 1 << 31;

/// One entry of `order`: a point's index in its chunk and its sign.
#[inline]
pub(super) fn entry(order: u32) -> (usize, bool) {
    ((order & !NEGATIVE) as usize, order & NEGATIVE != 0)
}

/// Writes the digits of at most [`TILE_LEN`] scalars into one tile; returns how many windows it
/// wrote.
///
/// `tile` has `windows * TILE_LEN` digits. Rows from the returned one on are all zero in truth
/// and stale in memory: a column of bits writes one row and no more.
pub(super) fn recode_tile<P: SWCurveConfig>(
    bases: &[Affine<P>],
    scalars: &[P::ScalarField],
    window_bits: u32,
    tile: &mut [i16],
) -> usize {
    debug_assert!(bases.len() == scalars.len() && scalars.len() <= TILE_LEN);
    tile[..TILE_LEN].fill(0);
    let mut used = 1;
    for (index, (base, scalar)) in bases.iter().zip(scalars).enumerate() {
        // One branch for 0 and 1 together, which a column of bits always takes. The base is not
        // even read: infinity adds nothing later on.
        let one = scalar.is_one();
        tile[index] = i16::from(one);
        if one | scalar.is_zero() || base.is_zero() {
            continue;
        }
        let mut magnitude = scalar.into_bigint();
        let negative = magnitude > P::ScalarField::MODULUS_MINUS_ONE_DIV_TWO;
        if negative {
            let mut opposite = P::ScalarField::MODULUS;
            opposite.sub_with_borrow(&magnitude);
            magnitude = opposite;
        }
        used = recode(&magnitude, negative, window_bits, tile, index, used);
    }
    used
}

/// Writes one scalar's digits, [`TILE_LEN`] apart from `index` on, until nothing is left of it;
/// clears a row before its first digit. Returns how many rows are in use.
#[inline]
fn recode<B: BigInteger>(
    magnitude: &B,
    negative: bool,
    window_bits: u32,
    tile: &mut [i16],
    index: usize,
    mut used: usize,
) -> usize {
    let limbs = magnitude.as_ref();
    let bits = magnitude.num_bits();
    let mask = (1_u64 << window_bits) - 1;
    // A negated digit must not be +2^(c-1) either: it would not fit an i16 at c = 16.
    let round = (1_u64 << (window_bits - 1)) - u64::from(negative);
    let (mut shift, mut carry) = (0, 0);
    for (window, row) in tile.chunks_exact_mut(TILE_LEN).enumerate() {
        if shift >= bits && carry == 0 {
            return used;
        }
        if window == used {
            row.fill(0);
            used += 1;
        }
        let value = (bits_at(limbs, shift) & mask) + carry;
        carry = (value + round) >> window_bits;
        let digit = value as i64 - ((carry as i64) << window_bits);
        row[index] = (if negative { -digit } else { digit }) as i16;
        shift += window_bits;
    }
    debug_assert!(shift >= bits && carry == 0, "the windows cover the scalar and its carry");
    used
}

/// The 64 bits of `limbs` from bit `shift` on; zero above the end.
#[inline]
fn bits_at(limbs: &[u64], shift: u32) -> u64 {
    let (limb, bit) = ((shift / 64) as usize, shift % 64);
    let at = |limb| limbs.get(limb).copied().unwrap_or(0);
    // Two shifts, since by 64 - 0 there would be an overflow.
    (at(limb) >> bit) | ((at(limb + 1) << 1) << (63 - bit))
}

/// The digits of one chunk, to be read a window at a time.
pub(super) struct Digits<'a> {
    /// All tiles.
    pub(super) tiles: &'a [i16],
    /// Rows in use in each tile.
    pub(super) used: &'a [u16],
    /// Digits in one tile.
    pub(super) stride: usize,
    /// Points in the chunk.
    pub(super) len: usize,
}

impl Digits<'_> {
    /// Counting sort of one window: fills `order` and `ends`, returns how many points have a
    /// digit.
    ///
    /// `ends` has a slot for each bucket and one for zero, and is stale when the answer is zero.
    pub(super) fn sort_window(&self, window: usize, order: &mut [u32], ends: &mut [u32]) -> usize {
        if self.rows(window).next().is_none() {
            return 0;
        }
        let zero = ends.len() - 1;
        ends.fill(0);
        for digit in self.rows(window).flat_map(|(_, row)| row) {
            ends[slot(*digit, zero)] += 1;
        }
        let mut start = 0;
        for end in ends.iter_mut() {
            let count = *end;
            *end = start;
            start += count;
        }
        let sorted = ends[zero] as usize;
        for (first, row) in self.rows(window) {
            for (index, digit) in row.iter().enumerate() {
                // `first + index < len <= 2^24`, so the sign's bit is free.
                let sign = if *digit < 0 { NEGATIVE } else { 0 };
                let end = &mut ends[slot(*digit, zero)];
                order[*end as usize] = (first + index) as u32 | sign;
                *end += 1;
            }
        }
        sorted
    }

    /// The rows of a window that are in use, each with the index of its first point.
    fn rows(&self, window: usize) -> impl Iterator<Item = (usize, &[i16])> {
        let tiles = self.tiles.chunks_exact(self.stride).zip(self.used);
        tiles.zip((0..self.len).step_by(TILE_LEN)).filter_map(move |((tile, used), first)| {
            let row = tile.chunks_exact(TILE_LEN).take(usize::from(*used)).nth(window)?;
            Some((first, &row[..TILE_LEN.min(self.len - first)]))
        })
    }
}

/// The bucket of a digit, without a branch; a zero digit goes to the slot behind the buckets,
/// since bits are zero or not at random and a wrong guess costs more than an entry.
#[inline]
fn slot(digit: i16, zero: usize) -> usize {
    usize::from(digit.unsigned_abs()).wrapping_sub(1).min(zero)
}
