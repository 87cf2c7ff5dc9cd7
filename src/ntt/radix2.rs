//! The in-memory transform: in place, parallel, one table of twiddles for all layers.
//!
//! The arithmetic, and why one table in bit-reversed order serves every layer of both directions,
//! is in `butterfly.rs`. Here: the domain, and the order in which its blocks are visited.
//!
//! ```text
//!   block j, len > LEAF_LEN     two layers down (radix 4)
//!      |-- block 4j             each quarter a task of its own, depth first
//!      |-- block 4j+1
//!      |-- block 4j+2
//!      '-- block 4j+3
//!                               two layers up
//!   block j, len <= LEAF_LEN    one core, in cache: all layers down, scale, all layers up
//!
//!   dif = down      coset_fft = reverse, scale, up      shift_to_coset = down, scale, up
//!   dit = up        coset_ifft = down, scale, reverse
//! ```
//!
//! So the shift to a coset, which a Groth16 prover does three times a proof, is one walk: no pass
//! for the powers and no reversal. With `down` by `w^-1` and `up` by `w`, for every `v`:
//!
//! ```text
//!   dit(dif_inverse(v)) = n * v          dit_inverse(dif(v)) = n * v
//! ```
//!
//! It must never allocate in a transform, and never read a value for anything but arithmetic.

use super::butterfly::{Forward, Inverse, Layers, Turn, fill_twiddles};
use super::{BitReversedPowers, NttError, bit_reverse, split_blocks};
use ark_ff::FftField;
use ark_poly::domain::DomainCoeff;
use plimsoll_ifma::{Butterflies, Direction};
use std::fmt;

/// Largest block finished by one core, layer after layer, in its first caches: 32 KiB of a 256-bit
/// field. Larger spills them; smaller adds recursion. Under test small, so that all paths run.
const LEAF_LEN: usize = if cfg!(test) { 1 << 8 } else { 1 << 10 };

/// A leaf is longer than a quarter of `LEAF_LEN`, and must hold whole runs of powers.
const _: () = assert!(LEAF_LEN / 2 >= 1 << super::LOW_LOG);

/// Entries of the twiddle table of a domain of size `2^log_n`: half the domain, at least 1.
/// `usize::MAX` where that is beyond `usize`.
pub const fn twiddle_len(log_n: u32) -> usize {
    match 1_usize.checked_shl(log_n.saturating_sub(1)) {
        Some(len) => len,
        None => usize::MAX,
    }
}

/// The subgroup `H` of size `n = 2^log_n`, ready to transform.
///
/// Holding one proves that the table is complete: `twiddles[j] = w^rev(j)` for `j < n/2`, `rev`
/// over `log_n - 1` bits. `S` is where the table lives: a pool vector, a `Vec`, a `&mut [F]`.
///
/// Order and results are those of `ark_poly::Radix2EvaluationDomain` of the same size.
/// All methods run on the current rayon pool and give the same result on any number of threads.
///
/// # Example
///
/// ```
/// use ark_bn254::Fr;
/// use ark_ff::AdditiveGroup;
/// use plimsoll::ntt::{Radix2, twiddle_len};
///
/// let log_n = 3;
/// let domain = Radix2::new(log_n, vec![Fr::ZERO; twiddle_len(log_n)])?;
/// let coefficients = [1, 2, 3, 4, 5, 6, 7, 8].map(Fr::from);
/// let mut values = coefficients;
/// domain.fft(&mut values)?;
/// assert_eq!(values[0], Fr::from(36)); // at the point 1: the sum
/// domain.ifft(&mut values)?;
/// assert_eq!(values, coefficients);
/// # Ok::<(), plimsoll::ntt::NttError>(())
/// ```
pub struct Radix2<F, S> {
    log_n: u32,
    root: F,
    size_inverse: F,
    twiddles: S,
    /// Does eight butterflies at a time, where that can be.
    pub(super) eight: Option<Butterflies<F>>,
}

impl<F, S> fmt::Debug for Radix2<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Radix2").field("log_n", &self.log_n).finish_non_exhaustive()
    }
}

impl<F: FftField, S: AsRef<[F]>> Radix2<F, S> {
    /// Fills `storage`, of [`twiddle_len`] entries whose content does not matter, in parallel.
    ///
    /// # Errors
    /// [`NttError::LogSize`] when the field has no such subgroup, [`NttError::TwiddleLength`] when
    /// the storage has another length.
    pub fn new(log_n: u32, mut storage: S) -> Result<Self, NttError>
    where
        S: AsMut<[F]>,
    {
        let log_n_max = F::TWO_ADICITY.min(usize::BITS - 1);
        let too_large = NttError::LogSize { log_n, log_n_max };
        if log_n > log_n_max {
            return Err(too_large);
        }
        let root = F::get_root_of_unity(1 << log_n).ok_or(too_large)?;
        let size_inverse = F::from(1_u64 << log_n).inverse().ok_or(too_large)?;
        let expected = twiddle_len(log_n);
        for found in [storage.as_ref().len(), storage.as_mut().len()] {
            if found != expected {
                return Err(NttError::TwiddleLength { expected, found });
            }
        }
        fill_twiddles(storage.as_mut(), root);
        Ok(Self { log_n, root, size_inverse, twiddles: storage, eight: Butterflies::detect() })
    }

    /// `log2(n)`.
    pub fn log_n(&self) -> u32 {
        self.log_n
    }

    /// The number of points, `n`.
    pub fn size(&self) -> usize {
        1 << self.log_n
    }

    /// The generator `w` of the subgroup.
    pub fn root(&self) -> F {
        self.root
    }

    /// `1/n`, what an unscaled inverse leaves to multiply by.
    pub fn size_inverse(&self) -> F {
        self.size_inverse
    }

    /// Gives the storage of the table back.
    pub fn into_twiddles(self) -> S {
        self.twiddles
    }

    /// Coefficients in natural order become evaluations on `H` in bit-reversed order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn dif(&self, values: &mut [F]) -> Result<(), NttError> {
        self.walk(values, Some(Turn::Forward), None, None)
    }

    /// Evaluations in natural order become `n` times the coefficients, in bit-reversed order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn dif_inverse(&self, values: &mut [F]) -> Result<(), NttError> {
        self.walk(values, Some(Turn::Inverse), None, None)
    }

    /// Coefficients in bit-reversed order become evaluations on `H` in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn dit(&self, values: &mut [F]) -> Result<(), NttError> {
        self.walk(values, None, None, Some(Turn::Forward))
    }

    /// Evaluations in bit-reversed order become `n` times the coefficients, in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn dit_inverse(&self, values: &mut [F]) -> Result<(), NttError> {
        self.walk(values, None, None, Some(Turn::Inverse))
    }

    /// Coefficients become evaluations on `H`, both in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn fft(&self, values: &mut [F]) -> Result<(), NttError> {
        self.dif(values)?;
        bit_reverse(values)
    }

    /// Evaluations on `H` become coefficients, both in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`]; the values are then unchanged.
    pub fn ifft(&self, values: &mut [F]) -> Result<(), NttError> {
        self.coset_ifft(values, F::ONE)
    }

    /// Coefficients become evaluations on `offset*H`, both in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`], [`NttError::ZeroOffset`]; the values are then unchanged.
    pub fn coset_fft(&self, values: &mut [F], offset: F) -> Result<(), NttError> {
        self.check_len(values)?;
        if offset.is_zero() {
            return Err(NttError::ZeroOffset);
        }
        bit_reverse(values)?;
        let powers = BitReversedPowers::new(self.log_n, F::ONE, offset);
        self.walk(values, None, Some(&powers), Some(Turn::Forward))
    }

    /// Evaluations on `offset*H` become coefficients, both in natural order.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`], [`NttError::ZeroOffset`]; the values are then unchanged.
    pub fn coset_ifft(&self, values: &mut [F], offset: F) -> Result<(), NttError> {
        let offset_inverse = offset.inverse().ok_or(NttError::ZeroOffset)?;
        let powers = BitReversedPowers::new(self.log_n, self.size_inverse, offset_inverse);
        self.walk(values, Some(Turn::Inverse), Some(&powers), None)?;
        bit_reverse(values)
    }

    /// Evaluations on `H` become evaluations on `offset*H` of the same polynomial of degree below
    /// `n`, both in natural order: `dif_inverse`, times `offset^i / n`, `dit`, in one walk.
    ///
    /// # Errors
    /// [`NttError::ValuesLength`], [`NttError::ZeroOffset`]; the values are then unchanged.
    pub fn shift_to_coset(&self, values: &mut [F], offset: F) -> Result<(), NttError> {
        if offset.is_zero() {
            return Err(NttError::ZeroOffset);
        }
        let powers = BitReversedPowers::new(self.log_n, self.size_inverse, offset);
        self.walk(values, Some(Turn::Inverse), Some(&powers), Some(Turn::Forward))
    }

    /// `dif_inverse`, then entry `k` times `base^k / n`, left in bit-reversed order.
    pub(super) fn down_inverse_scaled(&self, values: &mut [F], base: F) -> Result<(), NttError> {
        let powers = BitReversedPowers::new(self.log_n, self.size_inverse, base);
        self.walk(values, Some(Turn::Inverse), Some(&powers), None)
    }

    /// Entry `k`, which is in bit-reversed order, times `base^k`, then `dit`.
    pub(super) fn scaled_up(&self, values: &mut [F], base: F) -> Result<(), NttError> {
        let powers = BitReversedPowers::new(self.log_n, F::ONE, base);
        self.walk(values, None, Some(&powers), Some(Turn::Forward))
    }

    fn check_len(&self, values: &[F]) -> Result<(), NttError> {
        let (expected, found) = (self.size(), values.len());
        if found == expected { Ok(()) } else { Err(NttError::ValuesLength { expected, found }) }
    }

    fn walk(
        &self,
        values: &mut [F],
        down: Option<Turn>,
        powers: Option<&BitReversedPowers<F>>,
        up: Option<Turn>,
    ) -> Result<(), NttError> {
        self.check_len(values)?;
        let layers = Layers { twiddles: self.twiddles.as_ref(), eight: self.eight };
        DepthFirst { layers, down, powers, up }.block(values, 0);
        Ok(())
    }
}

/// One depth-first walk: down to the leaves, scale there, and up again; any part may be absent.
pub(super) struct DepthFirst<'a, F, T> {
    pub(super) layers: Layers<'a, F, T>,
    pub(super) down: Option<Turn>,
    pub(super) powers: Option<&'a BitReversedPowers<F>>,
    pub(super) up: Option<Turn>,
}

impl<F: FftField, T: DomainCoeff<F>> DepthFirst<'_, F, T> {
    /// Block `j` of its layer, and all layers below.
    pub(super) fn block(&self, values: &mut [T], j: usize) {
        if values.len() <= LEAF_LEN {
            return self.leaf(values, j);
        }
        self.quad(self.down, Direction::Down, values, j);
        let [q0, q1, q2, q3] = split_blocks(values);
        rayon::join(
            || rayon::join(|| self.block(q0, 4 * j), || self.block(q1, 4 * j + 1)),
            || rayon::join(|| self.block(q2, 4 * j + 2), || self.block(q3, 4 * j + 3)),
        );
        self.quad(self.up, Direction::Up, values, j);
    }

    fn quad(&self, turn: Option<Turn>, direction: Direction, values: &mut [T], j: usize) {
        match turn {
            Some(Turn::Forward) => self.layers.quad::<Forward>(direction, split_blocks(values), j),
            Some(Turn::Inverse) => self.layers.quad::<Inverse>(direction, split_blocks(values), j),
            None => {}
        }
    }

    fn leaf(&self, values: &mut [T], j: usize) {
        match self.down {
            Some(Turn::Forward) => self.layers.leaf_down::<Forward>(values, j),
            Some(Turn::Inverse) => self.layers.leaf_down::<Inverse>(values, j),
            None => {}
        }
        if let Some(powers) = self.powers {
            powers.scale(self.layers.eight.as_ref(), values, j * values.len());
        }
        match self.up {
            Some(Turn::Forward) => self.layers.leaf_up::<Forward>(values, j),
            Some(Turn::Inverse) => self.layers.leaf_up::<Inverse>(values, j),
            None => {}
        }
    }
}
