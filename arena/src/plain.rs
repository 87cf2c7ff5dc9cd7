//! Types whose every bit pattern is memory-safe.

/// A type that may be made from zeroed or recycled bytes.
///
/// # Safety
///
/// * Every bit pattern of its size is a valid value (no `bool`, no references, no niches);
/// * it has no padding bytes and no `Drop`.
///
/// A bit pattern may still be one that the type's own arithmetic never makes, such as a field
/// element above its modulus. That is safe; whoever wrote the bytes answers for their meaning.
pub unsafe trait Plain: Copy + Send + Sync + 'static {
    /// Checked, when the program is built, wherever the bytes of values are looked at: what a
    /// generic type cannot know of its layout when it is declared.
    #[doc(hidden)]
    const NO_PADDING: () = ();
}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: integers are valid for every bit pattern and have no padding.
        unsafe impl Plain for $t {}
    )* };
}
plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

// SAFETY: an array of plain values has neither padding nor invalid patterns of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {
    const NO_PADDING: () = T::NO_PADDING;
}

// SAFETY: an `Fp` is an array of u64 limbs and a zero-sized marker.
#[cfg(feature = "ark")]
unsafe impl<P: ark_ff::FpConfig<N>, const N: usize> Plain for ark_ff::Fp<P, N> {}

// SAFETY: a `BigInt` is an array of u64 limbs.
#[cfg(feature = "ark")]
unsafe impl<const N: usize> Plain for ark_ff::BigInt<N> {}

/// Field extensions, and curve points without a flag for infinity: each is some coordinates.
#[cfg(feature = "ark")]
mod coordinates {
    use super::Plain;
    use ark_ec::short_weierstrass::{self as sw, SWCurveConfig};
    use ark_ec::twisted_edwards::{self as te, TECurveConfig};
    use ark_ff::{CubicExtConfig, CubicExtField, QuadExtConfig, QuadExtField};

    macro_rules! coordinates {
        ($([$($generics:tt)*] $count:literal in $t:ty;)*) => { $(
            // SAFETY: its fields are so many values of a plain type, and nothing else that has a
            // size: every pattern is a value. That nothing lies between them is checked.
            unsafe impl<$($generics)*> Plain for $t
            where
                P::BaseField: Plain,
            {
                const NO_PADDING: () = {
                    let () = <P::BaseField as Plain>::NO_PADDING;
                    assert!(size_of::<Self>() == $count * size_of::<P::BaseField>(), "padding");
                };
            }
        )* };
    }
    coordinates! {
        [P: QuadExtConfig] 2 in QuadExtField<P>;
        [P: CubicExtConfig] 3 in CubicExtField<P>;
        [P: SWCurveConfig<ZeroFlag = ()>] 2 in sw::Affine<P>;
        [P: SWCurveConfig] 3 in sw::Projective<P>;
        [P: TECurveConfig] 2 in te::Affine<P>;
        [P: TECurveConfig] 4 in te::Projective<P>;
    }
}

/// Returns the bytes of `values`, as they are in memory.
#[must_use]
pub fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    let () = T::NO_PADDING;
    // SAFETY: a plain value has no padding, so each of its bytes is initialised; the length is that
    // of the slice, and the borrow that of the argument.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Returns the bytes of `values`, to be read and written.
#[must_use]
pub fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    let () = T::NO_PADDING;
    // SAFETY: as in `bytes_of`; every pattern that is written is a valid value.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
