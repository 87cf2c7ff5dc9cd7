//! The transforms behind ark-poly's own trait: code that is generic over a domain changes a type.
//!
//! ```text
//!   numbers (size, roots, offset, bytes)     ark-poly's domain, which is inside
//!   everything that follows from them        the trait's own methods
//!   fft, ifft                                the kernels of radix2, over fields and over points
//! ```
//!
//! A domain is `Copy`, so it owns no table. A transform makes one on the heap, of `n/2` roots as
//! ark-poly's own do, and drops it when it is done: `1/log2(n)` of the products of a transform, and
//! up to a quarter of its time where butterflies are made eight at a time (docs/ntt.md).
//! Who transforms many vectors keeps a table instead, in a [`super::Radix2`].
//!
//! Coefficients below a power of two `d < n` are transformed in `n log d`. Modulo `x^d - c` they
//! are their own remainder, whatever `c`, so in the tree of remainders (`butterfly.rs`) all layers
//! with blocks longer than `d` only copy:
//!
//! ```text
//!   coefficients, zeroes      | d | 0 ...                  |
//!   copied                    | d | d | d |      ...     | d |
//!   block j, walked down      | 0 | 1 | 2 |      ...     |n/d-1|
//!   bits reversed             values in natural order
//! ```
//!
//! The results are those of `ark_poly::Radix2EvaluationDomain`. Elements of a field have one form,
//! so there they are the same bits; points are equal, and may have other projective coordinates.
//!
//! A domain without its numbers in order (read without a check, or made from one whose fields were
//! set by hand) gives values that mean nothing, or panics.

use super::butterfly::{Layers, Turn, fill_twiddles};
use super::radix2::DepthFirst;
use super::{BitReversedPowers, TASK_LEN, bit_reverse, twiddle_len};
use ark_ff::FftField;
use ark_poly::domain::DomainCoeff;
use ark_poly::domain::radix2::Elements;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_serialize::{
    CanonicalDeserialize, CanonicalSerialize, Compress, Read, SerializationError, Valid, Validate,
    Write,
};
use plimsoll_ifma::Butterflies;
use rayon::prelude::*;
use std::fmt;

/// A subgroup of `2^k` points or a coset of one, for code over `ark_poly::EvaluationDomain`.
///
/// It takes the place of `ark_poly::Radix2EvaluationDomain`: all methods have the same results, and
/// it has the same bytes, the same hash and the same words for `Debug`. The transforms are this
/// crate's. As ark-poly's do, they take vectors that are shorter than the domain as if zeroes
/// followed, cut longer ones, and take points of a curve as they take elements of the field.
///
/// A transform allocates a table of `size / 2` elements and frees it before it returns, and the
/// vector itself where its capacity is below the domain. Both are ordinary memory of the process,
/// which no [`Pool`](crate::Pool) counts. To keep a table, or to count it, use
/// [`Radix2`](super::Radix2).
///
/// The feature `ark`, which is on by default, gives this type.
///
/// # Panics
///
/// The transforms panic when the size is no power of two. Only a domain that was deserialised
/// without validation, or made from fields that were set by hand, can have such a size.
///
/// # Example
///
/// ```
/// use ark_bn254::Fr;
/// use ark_ff::FftField;
/// use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
/// use plimsoll::ntt::Domain;
///
/// /// The values of a polynomial on a coset, over any domain.
/// fn on_coset<D: EvaluationDomain<Fr>>(coefficients: &[Fr]) -> Option<Vec<Fr>> {
///     let coset = D::new_coset(coefficients.len(), Fr::GENERATOR)?;
///     Some(coset.fft(coefficients))
/// }
///
/// let coefficients = [1, 2, 3, 4, 5].map(Fr::from);
/// let values = on_coset::<Domain<Fr>>(&coefficients);
/// assert_eq!(values, on_coset::<Radix2EvaluationDomain<Fr>>(&coefficients));
/// assert_eq!(values.map(|values| values.len()), Some(8));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Domain<F: FftField> {
    numbers: Radix2EvaluationDomain<F>,
}

impl<F: FftField> Domain<F> {
    /// The size, which the kernels take to be a power of two.
    fn len(&self) -> usize {
        let size = self.size();
        assert!(
            size.is_power_of_two(),
            "the domain has {size} points, not a power of two; deserialise domains with validation"
        );
        size
    }

    /// The table of one transform.
    fn twiddles(&self) -> Vec<F> {
        let mut table = vec![F::ZERO; twiddle_len(self.len().ilog2())];
        fill_twiddles(&mut table, self.numbers.group_gen);
        table
    }

    /// The values of `coefficients`, of which all from `filled` on are zero.
    fn evaluate<T: DomainCoeff<F>>(&self, coefficients: &mut [T], filled: usize) {
        let (log_n, offset) = (coefficients.len().ilog2(), self.numbers.offset);
        let twiddles = self.twiddles();
        let layers = Layers { twiddles: &twiddles, eight: Butterflies::detect() };
        let part_len = filled.next_power_of_two();
        if part_len == coefficients.len() && !offset.is_one() {
            reorder(coefficients);
            let powers = BitReversedPowers::new(log_n, F::ONE, offset);
            let up = Some(Turn::Forward);
            return DepthFirst { layers, down: None, powers: Some(&powers), up }
                .block(coefficients, 0);
        }
        if !offset.is_one() {
            Self::distribute_powers(&mut coefficients[..filled], offset);
        }
        let walk = DepthFirst { layers, down: Some(Turn::Forward), powers: None, up: None };
        walk_copies(&walk, coefficients, part_len);
        reorder(coefficients);
    }

    /// The coefficients of `values`.
    fn interpolate<T: DomainCoeff<F>>(&self, values: &mut [T]) {
        let Radix2EvaluationDomain { size_inv, offset_inv, .. } = self.numbers;
        let twiddles = self.twiddles();
        let layers = Layers { twiddles: &twiddles, eight: Butterflies::detect() };
        let powers = BitReversedPowers::new(values.len().ilog2(), size_inv, offset_inv);
        let down = Some(Turn::Inverse);
        DepthFirst { layers, down, powers: Some(&powers), up: None }.block(values, 0);
        reorder(values);
    }

    /// Whether the numbers are those of one subgroup and one coset of it.
    fn is_in_order(&self) -> bool {
        let Radix2EvaluationDomain { size, log_size_of_group, offset, group_gen, .. } =
            self.numbers;
        // Of order `size`: the square of `size / 2` is one, and that itself is not.
        let is_root = match size {
            1 => group_gen.is_one(),
            _ => group_gen.pow([size / 2]) == -F::ONE,
        };
        1_u64.checked_shl(log_size_of_group) == Some(size)
            && usize::try_from(size).is_ok()
            && is_root
            && self.numbers.size_as_field_element == F::from(size)
            && (self.numbers.size_as_field_element * self.numbers.size_inv).is_one()
            && (group_gen * self.numbers.group_gen_inv).is_one()
            && (offset * self.numbers.offset_inv).is_one()
            && offset.pow([size]) == self.numbers.offset_pow_size
    }
}

/// Copies the first `part_len` entries over the others, and walks each as the block that it is.
fn walk_copies<F: FftField, T: DomainCoeff<F>>(
    walk: &DepthFirst<'_, F, T>,
    values: &mut [T],
    part_len: usize,
) {
    let (first, copies) = values.split_at_mut(part_len);
    let parts = (TASK_LEN / part_len).max(1);
    copies.par_chunks_mut(parts * part_len).enumerate().for_each(|(task, copies)| {
        for (k, copy) in copies.chunks_exact_mut(part_len).enumerate() {
            copy.copy_from_slice(first);
            walk.block(copy, 1 + task * parts + k);
        }
    });
    walk.block(first, 0);
}

/// From one order to the other.
fn reorder<T: Send>(values: &mut [T]) {
    bit_reverse(values).expect("the size of a domain is a power of two");
}

impl<F: FftField> EvaluationDomain<F> for Domain<F> {
    type Elements = Elements<F>;

    fn new(num_coeffs: usize) -> Option<Self> {
        Radix2EvaluationDomain::new(num_coeffs).map(Self::from)
    }

    fn get_coset(&self, offset: F) -> Option<Self> {
        self.numbers.get_coset(offset).map(Self::from)
    }

    fn compute_size_of_domain(num_coeffs: usize) -> Option<usize> {
        Radix2EvaluationDomain::<F>::compute_size_of_domain(num_coeffs)
    }

    fn size(&self) -> usize {
        self.numbers.size()
    }

    fn log_size_of_group(&self) -> u64 {
        self.numbers.log_size_of_group()
    }

    fn size_inv(&self) -> F {
        self.numbers.size_inv()
    }

    fn group_gen(&self) -> F {
        self.numbers.group_gen()
    }

    fn group_gen_inv(&self) -> F {
        self.numbers.group_gen_inv()
    }

    fn coset_offset(&self) -> F {
        self.numbers.coset_offset()
    }

    fn coset_offset_inv(&self) -> F {
        self.numbers.coset_offset_inv()
    }

    fn coset_offset_pow_size(&self) -> F {
        self.numbers.coset_offset_pow_size()
    }

    fn fft_in_place<T: DomainCoeff<F>>(&self, coeffs: &mut Vec<T>) {
        let (size, filled) = (self.len(), coeffs.len());
        coeffs.resize(size, T::zero());
        // Of one point there is no table, and ark-poly makes none.
        match size {
            1 => self.numbers.fft_in_place(coeffs),
            _ => self.evaluate(coeffs, filled.min(size)),
        }
    }

    fn ifft_in_place<T: DomainCoeff<F>>(&self, evals: &mut Vec<T>) {
        let size = self.len();
        evals.resize(size, T::zero());
        match size {
            1 => self.numbers.ifft_in_place(evals),
            _ => self.interpolate(evals),
        }
    }

    fn elements(&self) -> Elements<F> {
        self.numbers.elements()
    }
}

impl<F: FftField> fmt::Debug for Domain<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.numbers.fmt(f)
    }
}

impl<F: FftField> From<Radix2EvaluationDomain<F>> for Domain<F> {
    fn from(numbers: Radix2EvaluationDomain<F>) -> Self {
        Self { numbers }
    }
}

impl<F: FftField> From<Domain<F>> for Radix2EvaluationDomain<F> {
    fn from(domain: Domain<F>) -> Self {
        domain.numbers
    }
}

impl<F: FftField> CanonicalSerialize for Domain<F> {
    fn serialize_with_mode<W: Write>(
        &self,
        writer: W,
        compress: Compress,
    ) -> Result<(), SerializationError> {
        self.numbers.serialize_with_mode(writer, compress)
    }

    fn serialized_size(&self, compress: Compress) -> usize {
        self.numbers.serialized_size(compress)
    }
}

impl<F: FftField> Valid for Domain<F> {
    /// Also that the numbers belong together, which ark-poly's domain does not look at.
    fn check(&self) -> Result<(), SerializationError> {
        self.numbers.check()?;
        if self.is_in_order() { Ok(()) } else { Err(SerializationError::InvalidData) }
    }
}

impl<F: FftField> CanonicalDeserialize for Domain<F> {
    fn deserialize_with_mode<R: Read>(
        reader: R,
        compress: Compress,
        validate: Validate,
    ) -> Result<Self, SerializationError> {
        let numbers = Radix2EvaluationDomain::deserialize_with_mode(reader, compress, validate)?;
        let domain = Self { numbers };
        if validate == Validate::Yes {
            domain.check()?;
        }
        Ok(domain)
    }
}
