//! Types whose every bit pattern is memory-safe.

/// A type that may be made from zeroed or recycled bytes.
///
/// # Safety
///
/// * Every bit pattern of its size is a valid value (no `bool`, no references, no niches);
/// * it has no padding bytes and no `Drop`.
///
/// A bit pattern may still be one the type's own arithmetic never makes (a field element above its
/// modulus): that is the business of who wrote the bytes, and safe.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($t:ty),*) => { $(
        // SAFETY: integers are valid for every bit pattern and have no padding.
        unsafe impl Plain for $t {}
    )* };
}
plain!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

// SAFETY: an array of plain values has neither padding nor invalid patterns of its own.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

// SAFETY: an `Fp` is an array of u64 limbs and a zero-sized marker.
#[cfg(feature = "ark")]
unsafe impl<P: ark_ff::FpConfig<N>, const N: usize> Plain for ark_ff::Fp<P, N> {}

// SAFETY: a `BigInt` is an array of u64 limbs.
#[cfg(feature = "ark")]
unsafe impl<const N: usize> Plain for ark_ff::BigInt<N> {}

/// Returns the bytes of `values`, as they are in memory.
#[must_use]
pub fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: a plain value has no padding, so each of its bytes is initialised; the length is that
    // of the slice, and the borrow that of the argument.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Returns the bytes of `values`, to be read and written.
#[must_use]
pub fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes_of`; every pattern that is written is a valid value.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}
