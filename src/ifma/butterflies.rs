//! Layers of a transform for callers of any field.

use ark_bn254::Fr;
use ark_ff::Field;
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use crate::butterfly;
use crate::element::{is, known, known_value, known_values};
use crate::input::{Direction, Factors, Ifma};

/// Layers of a transform over slices of `T`, with factors of `F`. Holding one proves that the
/// processor can, and that both are one field, which the kernel knows.
///
/// `T` may be anything that a field multiplies, points of a curve for one: there is no kernel then,
/// and [`Butterflies::detect`] says so. All lengths are multiples of [`GROUP`](crate::GROUP); other
/// lengths panic.
pub struct Butterflies<F, T = F> {
    _ifma: Ifma,
    field: PhantomData<fn() -> (F, T)>,
}

impl<F, T> Clone for Butterflies<F, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F, T> Copy for Butterflies<F, T> {}

impl<F, T> std::fmt::Debug for Butterflies<F, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Butterflies").finish_non_exhaustive()
    }
}

impl<F: Field, T> Butterflies<F, T> {
    /// `None` where the processor has no such instructions, and for types other than BN254's `Fr`.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let _ifma = Ifma::detect()?;
        (is::<F, Fr>() && is::<T, Fr>()).then_some(Self { _ifma, field: PhantomData })
    }

    /// Two layers over the quarters of a block. The factors are the block's own, and those of its
    /// halves. The first block of a transform has no factors but the last, and no use of the
    /// others.
    pub fn quads(
        &self,
        quarters: [&mut [T]; 4],
        direction: Direction,
        factors: &[F; 3],
        is_first: bool,
    ) {
        let quarters = quarters.map(|quarter| known_values::<T, Fr>(quarter));
        let factors = factors.map(known_value);
        // SAFETY: the processor has the features, or there would be no `self`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            butterfly::quads(quarters, direction, &factors, is_first);
        }
    }

    /// One layer over the halves of a block, whose factor is `factor`.
    pub fn pairs(&self, halves: [&mut [T]; 2], direction: Direction, factor: &F) {
        let halves = halves.map(|half| known_values::<T, Fr>(half));
        let factor = known_value::<F, Fr>(*factor);
        // SAFETY: as in `quads`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            butterfly::pairs(halves, direction, &factor);
        }
    }

    /// Four layers over eight blocks of [`BLOCK`](crate::BLOCK) elements each, the first of them
    /// block `first` of its layer.
    pub fn blocks(
        &self,
        values: &mut [T],
        direction: Direction,
        first: usize,
        factors: &Factors<'_, F, impl Fn(usize) -> usize>,
    ) {
        let values = known_values::<T, Fr>(values);
        let Factors { table, is_negative, ref slot } = *factors;
        let factors = Factors { table: known::<F, Fr>(table), is_negative, slot };
        // SAFETY: as in `quads`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            butterfly::blocks(values, direction, first, &factors);
        }
    }

    /// `values[i] *= factor * powers[i]`; there are as many of each, or it panics.
    pub fn scale(&self, values: &mut [T], factor: &F, powers: &[F]) {
        let (values, powers) = (known_values::<T, Fr>(values), known::<F, Fr>(powers));
        let factor = known_value::<F, Fr>(*factor);
        // SAFETY: as in `quads`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            butterfly::scale(values, &factor, powers);
        }
    }
}
