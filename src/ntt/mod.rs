//! Number-theoretic transforms: evaluate a polynomial on a power-of-two subgroup, and back.
//!
//! ```
//! use ark_bn254::Fr;
//! use ark_poly::EvaluationDomain;
//! use plimsoll::ntt::Domain;
//!
//! let domain = Domain::<Fr>::new(8).ok_or("no subgroup of 8 points")?;
//! let coefficients: Vec<Fr> = (0..8u64).map(Fr::from).collect();
//! let mut values = coefficients.clone();
//! domain.fft_in_place(&mut values); // as ark-poly's domains do
//! assert_eq!(values[0], Fr::from(28u64), "the value at 1 is the sum of all");
//! domain.ifft_in_place(&mut values);
//! assert_eq!(values, coefficients);
//! # Ok::<(), &str>(())
//! ```
//!
//! `H = {1, w, .., w^(n-1)}`, `n = 2^log_n`, `w = F::get_root_of_unity(n)`: the group, the order
//! and the results of `ark_poly::Radix2EvaluationDomain`. What differs is where the memory lives:
//! in core, values are plain slices, the twiddle table lives in storage that the caller gives, and
//! no transform allocates. So both can be pool vectors, and both are counted. Out of core, values
//! are tiles, and a plan says beforehand what is held.
//!
//! ```text
//!   naive       O(n^2), the definition written down; the oracle of every other form
//!   radix2      in memory, in place, all cores, one table of n/2 twiddles
//!   domain      the same behind ark-poly's own trait, for code that is generic over a domain
//!   butterfly   its arithmetic, and how one table serves all layers and both directions
//!   plan        how a vector larger than its memory is cut, and what that costs; pure, printable
//!   out_of_core two passes over tiles that may be on disk, with the kernels of radix2
//!   visit       its column passes, where vectors can be combined
//!   pending     a transform that was begun, and its row passes
//!   transform   one face for both
//! ```
//!
//! Two orders. *Natural*: entry `i` belongs to coefficient `i` or to the point `w^i`.
//! *Bit-reversed*: position `p` holds entry `rev(p)`, the `log_n` bits of `p` read backwards.
//! This file owns what moves between the orders or multiplies by powers in either one:
//!
//! ```text
//!   bit_reverse               v'[p] = v[rev(p)]                      an involution
//!   scale_powers              v'[i] = v[i] * factor * base^i         natural
//!   scale_powers_bit_reversed v'[p] = v[p] * factor * base^rev(p)    bit-reversed
//! ```
//!
//! Results never depend on the thread count: field arithmetic is exact, and every output entry is
//! the same sum of products however the work is cut. Values may be secret; no error shows one.
//!
//! Swapping the outermost index bits tile by tile before the inner ones follows Carter and Gatlin,
//! "Towards an optimal bit-reversal permutation program" (FOCS 1998).

mod butterfly;
mod domain;
#[cfg(test)]
mod domain_tests;
pub mod naive;
mod out_of_core;
#[cfg(test)]
mod out_of_core_tests;
mod pending;
pub mod plan;
mod radix2;
#[cfg(test)]
mod tests;
mod transform;
mod visit;

use ark_ff::Field;
use plimsoll_ifma::{Butterflies, GROUP};
use rayon::prelude::*;
use std::ops::MulAssign;

pub use domain::Domain;
pub use out_of_core::{OutOfCore, OutOfCoreError};
pub use pending::Pending;
pub use plan::{Moved, Passes, Plan, PlanError, Ranks};
pub use radix2::{Radix2, twiddle_len};
pub use transform::{Form, Transform};
pub use visit::{Leave, Visit};

/// Why a transform did not start. The values are then unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NttError {
    /// The field, or the address space, has no subgroup of the size asked for.
    #[error(
        "log_n = {log_n} is too large: the field allows at most {log_n_max}; \
         split the circuit or use a field of higher two-adicity"
    )]
    LogSize {
        /// The size asked for, as a power of two.
        log_n: u32,
        /// The largest one possible.
        log_n_max: u32,
    },
    /// The storage for twiddles does not have the length of the table.
    #[error(
        "twiddle storage holds {found} elements, the table has {expected}; \
         allocate twiddle_len(log_n) of them"
    )]
    TwiddleLength {
        /// `twiddle_len(log_n)`.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// The slice to transform does not have the length of the domain.
    #[error(
        "values hold {found} elements, the domain has {expected}; pad with zeros to the domain"
    )]
    ValuesLength {
        /// The size of the domain.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// Bit reversal is defined for a power-of-two length only.
    #[error("values hold {found} elements, not a power of two; pad with zeros to the next one")]
    NotPowerOfTwo {
        /// The length given.
        found: usize,
    },
    /// A coset needs an invertible offset.
    #[error("the coset offset is zero; use an element outside the domain, such as F::GENERATOR")]
    ZeroOffset,
}

/// Elements that one task takes of a pass whose entries are independent.
/// Below, starting the task costs more than it saves; far above, many cores find too few tasks.
const TASK_LEN: usize = if cfg!(test) { 1 << 4 } else { 1 << 10 };

/// `values[i] *= factor * base^i`, values in natural order, any length.
pub fn scale_powers<F: Field>(values: &mut [F], factor: F, base: F) {
    if base.is_one() {
        return scale_all(values, factor);
    }
    values.par_chunks_mut(TASK_LEN).enumerate().for_each(|(task, chunk)| {
        let mut power = factor * base.pow([(task * TASK_LEN) as u64]);
        for value in chunk {
            *value *= power;
            power *= base;
        }
    });
}

/// `values[p] *= factor * base^rev(p)`, values in bit-reversed order.
///
/// # Errors
/// [`NttError::NotPowerOfTwo`]; the values are then unchanged.
pub fn scale_powers_bit_reversed<F: Field>(
    values: &mut [F],
    factor: F,
    base: F,
) -> Result<(), NttError> {
    let powers = BitReversedPowers::new(log2_exact(values.len())?, factor, base);
    let eight = Butterflies::detect();
    let task_len = TASK_LEN.max(1 << LOW_LOG);
    values
        .par_chunks_mut(task_len)
        .enumerate()
        .for_each(|(task, chunk)| powers.scale(eight.as_ref(), chunk, task * task_len));
    Ok(())
}

fn scale_all<F: Field>(values: &mut [F], factor: F) {
    if !factor.is_one() {
        values.par_chunks_mut(TASK_LEN).for_each(|chunk| {
            for value in chunk {
                *value *= factor;
            }
        });
    }
}

/// `log2(len)` of a power of two.
fn log2_exact(len: usize) -> Result<u32, NttError> {
    if len.is_power_of_two() {
        Ok(len.ilog2())
    } else {
        Err(NttError::NotPowerOfTwo { found: len })
    }
}

/// Low position bits whose powers are tabled once for all: 128 elements, 4 KiB on the stack for a
/// 256-bit field. More costs stack; less, and the head of a run, one product a high bit, shows.
const LOW_LOG: u32 = if cfg!(test) { 3 } else { 7 };

/// The numbers `factor * base^rev(p)` for `p` in `0..2^log_n`, in runs of `2^low_log`.
///
/// With `p = high * 2^low_log + low`: `base^rev(p) = head(high) * low_powers[low]`.
struct BitReversedPowers<F> {
    log_n: u32,
    low_log: u32,
    factor: F,
    base_is_one: bool,
    /// `squares[k] = base^(2^k)` for `k < log_n`.
    squares: [F; usize::BITS as usize],
    low_powers: [F; 1 << LOW_LOG],
}

impl<F: Field> BitReversedPowers<F> {
    fn new(log_n: u32, factor: F, base: F) -> Self {
        let mut squares = [F::ONE; usize::BITS as usize];
        let mut square = base;
        for slot in squares.iter_mut().take(log_n as usize) {
            *slot = square;
            square.square_in_place();
        }
        let low_log = LOW_LOG.min(log_n);
        let mut low_powers = [F::ONE; 1 << LOW_LOG];
        for bit in 0..low_log {
            let step = squares[(log_n - 1 - bit) as usize];
            let (done, rest) = low_powers.split_at_mut(1 << bit);
            for (power, lower) in rest.iter_mut().zip(done) {
                *power = *lower * step;
            }
        }
        Self { log_n, low_log, factor, base_is_one: base.is_one(), squares, low_powers }
    }

    /// `factor * base^rev(high * 2^low_log)`.
    fn head(&self, high: usize) -> F {
        let mut head = self.factor;
        let mut bits = high;
        while bits != 0 {
            let position_bit = self.low_log + bits.trailing_zeros();
            head *= self.squares[(self.log_n - 1 - position_bit) as usize];
            bits &= bits - 1;
        }
        head
    }

    /// Multiplies the entries at `position..position + values.len()`. Both are multiples of a run.
    /// Where `eight` is given, it multiplies; the results are the same.
    fn scale<T: MulAssign<F>>(
        &self,
        eight: Option<&Butterflies<F, T>>,
        values: &mut [T],
        position: usize,
    ) {
        debug_assert_eq!((position | values.len()) % (1 << self.low_log), 0);
        if self.base_is_one {
            if !self.factor.is_one() {
                values.iter_mut().for_each(|value| *value *= self.factor);
            }
            return;
        }
        let eight = eight.filter(|_| (1_usize << self.low_log).is_multiple_of(GROUP));
        for (run, chunk) in values.chunks_exact_mut(1 << self.low_log).enumerate() {
            let head = self.head((position >> self.low_log) + run);
            if let Some(eight) = eight {
                eight.scale(chunk, &head, &self.low_powers[..1 << self.low_log]);
                continue;
            }
            for (value, low) in chunk.iter_mut().zip(&self.low_powers) {
                *value *= head * low;
            }
        }
    }
}

/// Index bits exchanged at each end by one tile pass of [`bit_reverse`]: 8 rows of 8 units.
/// 8 rows a power of two apart still fit the ways of a first-level cache set; 16 may not.
const TILE_LOG: u32 = 3;
const TILE: usize = 1 << TILE_LOG;

/// Blocks of at most this many entries are reversed by one core by plain swaps.
/// Larger, and tiles would be cut too late to feed many cores; smaller adds passes over memory.
const SWAP_LEN: usize = if cfg!(test) { 1 << 5 } else { 1 << 16 };

/// Entries in natural order become bit-reversed, and the other way round, in place and in parallel.
///
/// # Errors
/// [`NttError::NotPowerOfTwo`]; the values are then unchanged.
pub fn bit_reverse<T: Send>(values: &mut [T]) -> Result<(), NttError> {
    log2_exact(values.len())?;
    reverse_units(values, 0);
    Ok(())
}

/// Reverses the order bits of units of `2^unit_log` entries. Index, high to low:
///
/// ```text
///   | a: 3 bits | middle | b: 3 bits | unit |   ->   | rev b | rev middle | rev a | unit |
/// ```
///
/// The outer bits first, in tiles over all eight blocks `a`; then the middle of each block alone,
/// whose units are now eight times longer.
fn reverse_units<T: Send>(values: &mut [T], unit_log: u32) {
    let index_bits = values.len().ilog2() - unit_log;
    if values.len() <= SWAP_LEN || index_bits < 2 * TILE_LOG {
        return swap_units(values, unit_log);
    }
    let block_len = values.len() / TILE;
    swap_tiles(split_blocks(values), unit_log);
    values
        .par_chunks_exact_mut(block_len)
        .for_each(|block| reverse_units(block, unit_log + TILE_LOG));
}

fn swap_units<T>(values: &mut [T], unit_log: u32) {
    let index_bits = values.len().ilog2() - unit_log;
    for unit in 0..1_usize << index_bits {
        let reversed = reverse_bits(unit, index_bits);
        if unit < reversed {
            let (left, right) = values.split_at_mut(reversed << unit_log);
            let left = &mut left[unit << unit_log..(unit + 1) << unit_log];
            left.swap_with_slice(&mut right[..1 << unit_log]);
        }
    }
}

/// Unit `b` of row `a` changes places with unit `rev a` of row `rev b`, in every tile.
fn swap_tiles<T: Send>(mut rows: [&mut [T]; TILE], unit_log: u32) {
    let tile_len = TILE << unit_log;
    let len = rows[0].len();
    if len > TASK_LEN.max(tile_len) {
        let (left, right) = halve(rows);
        rayon::join(|| swap_tiles(left, unit_log), || swap_tiles(right, unit_log));
        return;
    }
    for start in (0..len).step_by(tile_len) {
        for b in 0..TILE {
            let partner = reverse_bits(b, TILE_LOG);
            for a in 0..partner {
                let (above, below) = rows.split_at_mut(partner);
                let left = start + (b << unit_log);
                let right = start + (reverse_bits(a, TILE_LOG) << unit_log);
                above[a][left..left + (1 << unit_log)]
                    .swap_with_slice(&mut below[0][right..right + (1 << unit_log)]);
            }
        }
    }
}

/// The low `bits` bits of `index`, read backwards; `bits` is at least 1 or `index` is 0.
fn reverse_bits(index: usize, bits: u32) -> usize {
    if bits == 0 { index } else { index.reverse_bits() >> (usize::BITS - bits) }
}

/// `K` equal blocks of a slice whose length `K` divides.
fn split_blocks<T, const K: usize>(values: &mut [T]) -> [&mut [T]; K] {
    let mut blocks = values.chunks_exact_mut(values.len() / K);
    std::array::from_fn(|_| blocks.next().unwrap_or_default())
}

/// The first and the second half of each of `K` blocks of one even length.
fn halve<T, const K: usize>(blocks: [&mut [T]; K]) -> ([&mut [T]; K], [&mut [T]; K]) {
    let mut right: [&mut [T]; K] = std::array::from_fn(|_| Default::default());
    let mut left: [&mut [T]; K] = std::array::from_fn(|_| Default::default());
    for (k, block) in blocks.into_iter().enumerate() {
        (left[k], right[k]) = block.split_at_mut(block.len() / 2);
    }
    (left, right)
}
