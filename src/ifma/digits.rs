//! Eight numbers modulo a prime, side by side: arithmetic on digits of 52 bits.
//!
//! ```text
//!   word in memory   x * 2^256 mod p, four words of 64 bits: Montgomery's form, as ark-ff keeps it
//!   Digits           five digits of 52 bits, each a register of eight lanes
//!   Loose            the same with digits that may be negative or too large: sums not yet carried
//! ```
//!
//! IFMA multiplies digits of 52 bits, so its Montgomery product divides by `2^260`, not by `2^256`.
//! A product of two numbers in memory's form is therefore short of `2^4`. Nobody converts: whoever
//! multiplies keeps account of the power of two. A factor that is used often is shifted by four
//! bits beforehand ([`Digits::unpack_shifted`]), and a chain of products carries its power along.
//!
//! Invariants, with bounds in units of the prime `p`, which is below `2^255`:
//!
//! * a `Digits` is a number of at most 260 bits; what may be stored is below `2^256`;
//! * a product of numbers below `a` and `b` is below `1 + a * b / 32`: `p / 2^260 < 1/32`;
//! * [`Loose::reduce`] takes a number from 0 to below 7 and gives the one below 1.
//!
//! `DEGREE` is 1 for a prime field, and 2 for its extension by a root of -1.
//!
//! Source of the product: P. Montgomery, Modular multiplication without trial division, Math.
//! Comp. 44, 1985, digit by digit; of its digits of 52 bits: S. Gueron and V. Krasnov, Accelerating
//! big integer arithmetic using Intel IFMA extensions, ARITH 2016.

use std::arch::x86_64::{
    __m512i, _MM_CMPINT_LT, _mm512_add_epi64, _mm512_and_si512, _mm512_cmp_epi64_mask,
    _mm512_cmple_epi64_mask, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64,
    _mm512_max_epi64, _mm512_or_si512, _mm512_permutexvar_epi64, _mm512_set1_epi64,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srai_epi64, _mm512_srli_epi64,
    _mm512_sub_epi64,
};

use crate::prime::{DIGIT_BITS, DIGIT_MASK, DIGITS, Prime, QUOTIENT_SHIFT};
use crate::words::load;

/// Five registers, the lowest digit first.
type Registers = [__m512i; DIGITS];

/// Eight numbers side by side, each in digits below `2^52`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digits<const DEGREE: usize>([Registers; DEGREE]);

/// Sums and differences of [`Digits`], digit by digit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loose<const DEGREE: usize>([Registers; DEGREE]);

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn constant(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn mask(word: __m512i) -> __m512i {
    _mm512_and_si512(word, constant(DIGIT_MASK))
}

/// `low >> right | high << left`, the digit that lies in two words.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn across<const RIGHT: u32, const LEFT: u32>(low: __m512i, high: __m512i) -> __m512i {
    mask(_mm512_or_si512(_mm512_srli_epi64::<RIGHT>(low), _mm512_slli_epi64::<LEFT>(high)))
}

/// The sum of the products of the pairs, modulo the prime, over `2^260`.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn product<const PAIRS: usize>(
    pairs: [(&Registers, &Registers); PAIRS],
    prime: &Prime,
) -> Registers {
    let zero = _mm512_setzero_si512();
    let inverse = constant(prime.inverse);
    let mut sum = [zero; DIGITS];
    for i in 0..DIGITS {
        for (left, right) in pairs {
            for j in 0..DIGITS {
                sum[j] = _mm512_madd52lo_epu64(sum[j], left[i], right[j]);
            }
        }
        // The multiple of the prime that clears the lowest digit.
        let factor = _mm512_madd52lo_epu64(zero, sum[0], inverse);
        for (sum, multiples) in sum.iter_mut().zip(&prime.multiples) {
            *sum = _mm512_madd52lo_epu64(*sum, factor, constant(multiples[1]));
        }
        let carry = _mm512_srli_epi64::<DIGIT_BITS>(sum[0]);
        sum = [_mm512_add_epi64(sum[1], carry), sum[2], sum[3], sum[4], zero];
        for (left, right) in pairs {
            for j in 0..DIGITS {
                sum[j] = _mm512_madd52hi_epu64(sum[j], left[i], right[j]);
            }
        }
        for (sum, multiples) in sum.iter_mut().zip(&prime.multiples) {
            *sum = _mm512_madd52hi_epu64(*sum, factor, constant(multiples[1]));
        }
    }
    carried(sum)
}

/// Moves what is above or below a digit into the next; the top digit keeps the sign.
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn carried(mut digits: Registers) -> Registers {
    for i in 0..DIGITS - 1 {
        let carry = _mm512_srai_epi64::<DIGIT_BITS>(digits[i]);
        digits[i] = mask(digits[i]);
        digits[i + 1] = _mm512_add_epi64(digits[i + 1], carry);
    }
    digits
}

/// `digits` minus the prime, where it is not below it.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512ifma")]
fn less_one_prime(digits: Registers, prime: &Prime) -> Registers {
    let mut rest = digits;
    for (digit, multiples) in rest.iter_mut().zip(&prime.multiples) {
        *digit = _mm512_sub_epi64(*digit, constant(multiples[1]));
    }
    let rest = carried(rest);
    let zero = _mm512_setzero_si512();
    let below = _mm512_cmp_epi64_mask::<_MM_CMPINT_LT>(rest[DIGITS - 1], zero);
    std::array::from_fn(|i| _mm512_mask_blend_epi64(below, rest[i], digits[i]))
}

/// See [`Loose::reduce`].
#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduced(mut digits: Registers, prime: &Prime) -> Registers {
    // How many primes are in it, or one less. What the lower digits lack or have too much is less
    // than the one that is taken off.
    let zero = _mm512_setzero_si512();
    let top = _mm512_srai_epi64::<QUOTIENT_SHIFT>(digits[DIGITS - 1]);
    let top = _mm512_max_epi64(_mm512_add_epi64(top, constant(u64::MAX)), zero);
    let count = _mm512_madd52hi_epu64(zero, top, constant(prime.quotient));
    for (digit, multiples) in digits.iter_mut().zip(&prime.multiples) {
        *digit = _mm512_sub_epi64(*digit, _mm512_permutexvar_epi64(count, load(multiples)));
    }
    let digits = carried(digits);
    // One less than it should be: hardly ever, since the rest is then below 2^-20 of a prime.
    let top = constant(prime.multiples[DIGITS - 1][1]);
    if _mm512_cmple_epi64_mask(top, digits[DIGITS - 1]) == 0 {
        return digits;
    }
    less_one_prime(digits, prime)
}

impl<const DEGREE: usize> Digits<DEGREE> {
    /// The same number in every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn splat(digits: [[u64; DIGITS]; DEGREE]) -> Self {
        Self(std::array::from_fn(|part| std::array::from_fn(|i| constant(digits[part][i]))))
    }

    /// From words: `words[part][i]` has word `i` of each lane's number.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn unpack(words: [[__m512i; 4]; DEGREE]) -> Self {
        Self(std::array::from_fn(|part| {
            let [a, b, c, d] = words[part];
            [
                mask(a),
                across::<52, 12>(a, b),
                across::<40, 24>(b, c),
                across::<28, 36>(c, d),
                _mm512_srli_epi64::<16>(d),
            ]
        }))
    }

    /// Sixteen times [`Digits::unpack`]: a factor that makes up for the product's `2^260`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn unpack_shifted(words: [[__m512i; 4]; DEGREE]) -> Self {
        Self(std::array::from_fn(|part| {
            let [a, b, c, d] = words[part];
            [
                mask(_mm512_slli_epi64::<4>(a)),
                across::<48, 16>(a, b),
                across::<36, 28>(b, c),
                across::<24, 40>(c, d),
                _mm512_srli_epi64::<12>(d),
            ]
        }))
    }

    /// A factor from [`Digits::unpack_shifted`] with the other sign: `16 * p - self`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn negative_factor(self, prime: &Prime) -> Self {
        let shifted = std::array::from_fn(|i| constant(prime.shifted[i]));
        Self(self.0.map(|part| carried(difference(&shifted, &part))))
    }

    /// To words, of numbers below `2^256`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn pack(self) -> [[__m512i; 4]; DEGREE] {
        std::array::from_fn(|part| {
            let [a, b, c, d, e] = self.0[part];
            [
                _mm512_or_si512(a, _mm512_slli_epi64::<52>(b)),
                _mm512_or_si512(_mm512_srli_epi64::<12>(b), _mm512_slli_epi64::<40>(c)),
                _mm512_or_si512(_mm512_srli_epi64::<24>(c), _mm512_slli_epi64::<28>(d)),
                _mm512_or_si512(_mm512_srli_epi64::<36>(d), _mm512_slli_epi64::<16>(e)),
            ]
        })
    }

    /// `self * other / 2^260`. In an extension `self` is below 2.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn times(&self, other: &Self, prime: &Prime) -> Self {
        let mut result = *self;
        if DEGREE == 1 {
            result.0[0] = product([(&self.0[0], &other.0[0])], prime);
            return result;
        }
        let [(low, high), (other_low, other_high)] =
            [self, other].map(|number| (&number.0[0], &number.0[DEGREE - 1]));
        let minus_high = carried(difference(&splat_multiple(prime, 2), high));
        result.0[0] = product([(low, other_low), (&minus_high, other_high)], prime);
        result.0[DEGREE - 1] = product([(low, other_high), (high, other_low)], prime);
        result
    }

    /// The numbers as they are, to be summed.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn loose(&self) -> Loose<DEGREE> {
        Loose(self.0)
    }

    /// `self + other`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn plus(&self, other: &Self) -> Loose<DEGREE> {
        self.loose().plus(&other.loose())
    }

    /// `self - other + multiple * p`, which is not to be negative.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn minus(&self, other: &Self, multiple: usize, prime: &Prime) -> Loose<DEGREE> {
        self.loose().minus(&other.loose(), multiple, prime)
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn splat_multiple(prime: &Prime, multiple: usize) -> Registers {
    std::array::from_fn(|i| constant(prime.multiples[i][multiple]))
}

#[inline]
#[target_feature(enable = "avx512f,avx512ifma")]
fn difference(left: &Registers, right: &Registers) -> Registers {
    std::array::from_fn(|i| _mm512_sub_epi64(left[i], right[i]))
}

impl<const DEGREE: usize> Loose<DEGREE> {
    /// The same numbers as digits; they are not negative and have at most 260 bits.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn carry(self) -> Digits<DEGREE> {
        let mut digits = self.0;
        for part in &mut digits {
            *part = carried(*part);
        }
        Digits(digits)
    }

    /// The numbers below the prime; these are from 0 to below 7, summed from a dozen of others at
    /// most.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn reduce(self, prime: &Prime) -> Digits<DEGREE> {
        let mut digits = self.0;
        for part in &mut digits {
            *part = reduced(*part, prime);
        }
        Digits(digits)
    }

    /// `self + other`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (part, other) in self.0.iter_mut().zip(&other.0) {
            for (digit, other) in part.iter_mut().zip(other) {
                *digit = _mm512_add_epi64(*digit, *other);
            }
        }
        self
    }

    /// `self - other + multiple * p`, which is not to be negative.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn minus(mut self, other: &Self, multiple: usize, prime: &Prime) -> Self {
        let bias = splat_multiple(prime, multiple);
        for (part, other) in self.0.iter_mut().zip(&other.0) {
            for (i, (digit, other)) in part.iter_mut().zip(other).enumerate() {
                *digit = _mm512_add_epi64(_mm512_sub_epi64(*digit, *other), bias[i]);
            }
        }
        self
    }

    /// Four times the numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    pub(crate) fn quadruple(mut self) -> Self {
        for digit in self.0.iter_mut().flatten() {
            *digit = _mm512_slli_epi64::<2>(*digit);
        }
        self
    }
}
