//! Words in memory and words in lanes: loads, stores and transpositions.
//!
//! ```text
//!   memory, a row a lane        registers, a register a word
//!     a0 a1 a2 a3 a4 ..           a0 b0 c0 ..
//!     b0 b1 b2 b3 b4 ..    <->    a1 b1 c1 ..
//!     c0 c1 c2 c3 c4 ..           a2 b2 c2 ..
//! ```

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm512_castsi256_si512, _mm512_inserti64x4,
    _mm512_loadu_si512, _mm512_shuffle_i64x2, _mm512_storeu_si512, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64,
};

use crate::element::Row;

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn load(row: &Row) -> __m512i {
    // SAFETY: the row's 64 bytes are read.
    unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn store(row: &mut Row, words: __m512i) {
    // SAFETY: the row's 64 bytes are written.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), words) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn load_half(words: &[u64; 4]) -> __m256i {
    // SAFETY: the 32 bytes of the words are read.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Half a transposition of four rows: register `i` has words `i` and `i + 4` of each.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn gather_words(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (low_next, high_next) = (_mm512_unpacklo_epi64(c, d), _mm512_unpackhi_epi64(c, d));
    [
        _mm512_shuffle_i64x2::<0x88>(low, low_next),
        _mm512_shuffle_i64x2::<0x88>(high, high_next),
        _mm512_shuffle_i64x2::<0xdd>(low, low_next),
        _mm512_shuffle_i64x2::<0xdd>(high, high_next),
    ]
}

/// Rows to words, or words to rows: register `i` of the result has word `i` of each, in order.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn transpose(rows: [__m512i; 8]) -> [__m512i; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    let (even, odd) = (gather_words(r0, r1, r2, r3), gather_words(r4, r5, r6, r7));
    [
        _mm512_shuffle_i64x2::<0x88>(even[0], odd[0]),
        _mm512_shuffle_i64x2::<0x88>(even[1], odd[1]),
        _mm512_shuffle_i64x2::<0x88>(even[2], odd[2]),
        _mm512_shuffle_i64x2::<0x88>(even[3], odd[3]),
        _mm512_shuffle_i64x2::<0xdd>(even[0], odd[0]),
        _mm512_shuffle_i64x2::<0xdd>(even[1], odd[1]),
        _mm512_shuffle_i64x2::<0xdd>(even[2], odd[2]),
        _mm512_shuffle_i64x2::<0xdd>(even[3], odd[3]),
    ]
}

/// The first four words of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn transpose_halves(rows: [&[u64; 4]; 8]) -> [__m512i; 4] {
    let two = |low: usize, high: usize| {
        let low = _mm512_castsi256_si512(load_half(rows[low]));
        _mm512_inserti64x4::<1>(low, load_half(rows[high]))
    };
    gather_words(two(0, 2), two(1, 3), two(4, 6), two(5, 7))
}

/// What [`transpose_halves`] took apart, two of its rows in each of these.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
pub(crate) fn transpose_to_halves([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let [first, last] = [(a, b), (c, d)]
        .map(|(low, high)| [_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high)]);
    // Rows 0, 2, 4, 6 in `even`, the others in `odd`, by pairs of words.
    let [even, odd] = [0, 1].map(|k| (first[k], last[k]));
    let join = |(low, high)| {
        (_mm512_shuffle_i64x2::<0x44>(low, high), _mm512_shuffle_i64x2::<0xee>(low, high))
    };
    let ((even_low, even_high), (odd_low, odd_high)) = (join(even), join(odd));
    [
        _mm512_shuffle_i64x2::<0x88>(even_low, odd_low),
        _mm512_shuffle_i64x2::<0xdd>(even_low, odd_low),
        _mm512_shuffle_i64x2::<0x88>(even_high, odd_high),
        _mm512_shuffle_i64x2::<0xdd>(even_high, odd_high),
    ]
}
