//! One face for transforms wherever the values are: a slice, or tiles that may be on disk.
//!
//! ```text
//!   Radix2      Values = [F]         in memory
//!   OutOfCore   Values = Tiles<F>    in blocks
//! ```
//!
//! With `H` the subgroup of size n and `g` the offset, all in natural order, as in `ark_poly`:
//!
//! ```text
//!   Forward   coefficients     -> values on g*H
//!   Inverse   values on g*H    -> coefficients
//!   Shift     values on H      -> values on g*H
//! ```
//!
//! It must never hold memory or know a kernel: one method is required, the rest are its names.

use super::{NttError, Radix2};
use ark_ff::FftField;

/// Which transform, with the offset `g` of its coset; one for the subgroup itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form<F> {
    /// Coefficients to values on the coset.
    Forward(F),
    /// Values on the coset to coefficients.
    Inverse(F),
    /// Values on the subgroup to values on the coset.
    Shift(F),
}

/// Something that transforms vectors of one size.
pub trait Transform<F: FftField> {
    /// A vector, as this transform holds it.
    type Values: ?Sized;
    /// Why a transform failed.
    type Error;

    /// Transforms `values` in place, natural order in and out.
    ///
    /// # Errors
    /// Those of the implementation; a zero offset is always one.
    fn transform(&self, values: &mut Self::Values, form: Form<F>) -> Result<(), Self::Error>;

    /// Coefficients become values on the subgroup.
    ///
    /// # Errors
    /// As [`Transform::transform`].
    fn fft(&self, values: &mut Self::Values) -> Result<(), Self::Error> {
        self.transform(values, Form::Forward(F::ONE))
    }

    /// Values on the subgroup become coefficients.
    ///
    /// # Errors
    /// As [`Transform::transform`].
    fn ifft(&self, values: &mut Self::Values) -> Result<(), Self::Error> {
        self.transform(values, Form::Inverse(F::ONE))
    }

    /// Coefficients become values on the coset of `offset`.
    ///
    /// # Errors
    /// As [`Transform::transform`].
    fn coset_fft(&self, values: &mut Self::Values, offset: F) -> Result<(), Self::Error> {
        self.transform(values, Form::Forward(offset))
    }

    /// Values on the coset of `offset` become coefficients.
    ///
    /// # Errors
    /// As [`Transform::transform`].
    fn coset_ifft(&self, values: &mut Self::Values, offset: F) -> Result<(), Self::Error> {
        self.transform(values, Form::Inverse(offset))
    }

    /// Values on the subgroup become values on the coset of `offset`.
    ///
    /// # Errors
    /// As [`Transform::transform`].
    fn shift_to_coset(&self, values: &mut Self::Values, offset: F) -> Result<(), Self::Error> {
        self.transform(values, Form::Shift(offset))
    }
}

impl<F: FftField, S: AsRef<[F]>> Transform<F> for Radix2<F, S> {
    type Values = [F];
    type Error = NttError;

    fn transform(&self, values: &mut [F], form: Form<F>) -> Result<(), NttError> {
        match form {
            Form::Forward(offset) => self.coset_fft(values, offset),
            Form::Inverse(offset) => self.coset_ifft(values, offset),
            Form::Shift(offset) => self.shift_to_coset(values, offset),
        }
    }
}
