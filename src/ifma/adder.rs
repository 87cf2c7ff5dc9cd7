//! Sums of pairs of points for callers of any field.

use ark_bn254::{Fq, Fq2};
use ark_ff::Field;
use std::any::TypeId;
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use crate::add::add_pairs;
use crate::element::{Element, known_mut, known_point, known_sum};
use crate::input::{Ifma, Point, Sum};

/// Adds pairs of points. Holding one proves that the processor can, and that `F` is a field that
/// the kernel knows.
pub struct Adder<F> {
    _ifma: Ifma,
    is_extension: bool,
    field: PhantomData<fn() -> F>,
}

impl<F> Clone for Adder<F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F> Copy for Adder<F> {}

impl<F> std::fmt::Debug for Adder<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adder").field("is_extension", &self.is_extension).finish_non_exhaustive()
    }
}

impl<F: Field> Adder<F> {
    /// `None` where the processor has no such instructions, and for coordinates other than those of
    /// BN254's groups, `Fq` and `Fq2`.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let _ifma = Ifma::detect()?;
        let is = |field: TypeId| TypeId::of::<F>() == field;
        let is_extension = is(TypeId::of::<Fq2>());
        (is_extension || is(TypeId::of::<Fq>())).then_some(Self {
            _ifma,
            is_extension,
            field: PhantomData,
        })
    }

    /// `points[left] += points[right]` for every pair of `pairs`.
    ///
    /// No index may be in two pairs: the sum of such a pair is unspecified. `special` gives the sum
    /// of two points, in this order, one of which has abscissa zero or which have the same; it may
    /// be asked twice. `products` is scratch of `pairs.len()` elements, rounded up to a multiple
    /// of [`GROUP`](crate::GROUP).
    ///
    /// # Panics
    ///
    /// When `products` is too short, or an index is none of `points`.
    pub fn add_pairs(
        &self,
        points: &mut [Point<F>],
        pairs: &[[u32; 2]],
        products: &mut [F],
        special: impl Fn(&Point<F>, &Point<F>) -> Sum<F>,
    ) {
        match self.is_extension {
            true => self.add_pairs_of::<Fq2, 2>(points, pairs, products, &special),
            false => self.add_pairs_of::<Fq, 1>(points, pairs, products, &special),
        }
    }

    /// [`Adder::add_pairs`] in the field `F`, which is `E` of degree `DEGREE`.
    fn add_pairs_of<E: Element, const DEGREE: usize>(
        &self,
        points: &mut [Point<F>],
        pairs: &[[u32; 2]],
        products: &mut [F],
        special: &impl Fn(&Point<F>, &Point<F>) -> Sum<F>,
    ) {
        let (points, products) = (known_mut::<_, Point<E>>(points), known_mut(products));
        let special = |left: &Point<E>, right: &Point<E>| {
            known_sum(special(&known_point(left), &known_point(right)))
        };
        // SAFETY: the processor has the features, or there would be no `self`.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            add_pairs::<E, DEGREE>(points, pairs, products, &special);
        }
    }
}
