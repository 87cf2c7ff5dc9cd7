//! The numbers that the arithmetic modulo one prime needs, all found when the program is built.

use ark_ff::BigInt;

/// Bits of a digit: what IFMA multiplies.
pub(crate) const DIGIT_BITS: u32 = 52;

/// Digits of an element: 260 bits for at most [`BITS_MAX`].
pub(crate) const DIGITS: usize = 5;

/// Bits of the largest prime: sums of up to eight primes must fit in the digits.
const BITS_MAX: u32 = 255;

/// Low bits of the top digit that a quotient does not need; see [`Prime::quotient`].
pub(crate) const QUOTIENT_SHIFT: u32 = 24;

/// The low bits of a word that make a digit.
pub(crate) const DIGIT_MASK: u64 = (1 << DIGIT_BITS) - 1;

/// A prime of four words and what goes with it.
#[derive(Debug)]
pub(crate) struct Prime {
    /// `k` times the prime for `k` in `0..8`, by digit: what an index of three bits picks from.
    pub(crate) multiples: [[u64; 8]; DIGITS],
    /// `-1 / prime` modulo `2^52`.
    pub(crate) inverse: u64,
    /// `2^(52 + QUOTIENT_SHIFT) / (top digit + 1)`, rounded down: a number's top digit, without
    /// its low `QUOTIENT_SHIFT` bits, times this and shifted down by a digit, is how many primes
    /// are in it, or one less.
    pub(crate) quotient: u64,
    /// Sixteen times the prime.
    pub(crate) shifted: [u64; DIGITS],
    /// `2^260` modulo the prime: one, as a product of elements begins.
    pub(crate) one: [u64; DIGITS],
}

impl Prime {
    /// For the prime `modulus` whose own `R = 2^256` modulo it is `r`.
    pub(crate) const fn new(modulus: BigInt<4>, r: BigInt<4>) -> Self {
        let words = modulus.0;
        assert!(words[3] >> (BITS_MAX - 192) == 0 && words[3] >> 60 != 0, "253 to 255 bits");
        let mut multiples = [[0; 8]; DIGITS];
        let mut k = 0;
        while k < 8 {
            let digits = digits_of(times(words, k as u64));
            let mut digit = 0;
            while digit < DIGITS {
                multiples[digit][k] = digits[digit];
                digit += 1;
            }
            k += 1;
        }
        let top = multiples[DIGITS - 1][1];
        let quotient = (1_u128 << (DIGIT_BITS + QUOTIENT_SHIFT)) / (top as u128 + 1);
        Self {
            multiples,
            inverse: inverse_of(words[0]).wrapping_neg() & DIGIT_MASK,
            quotient: quotient as u64,
            shifted: digits_of(times(words, 16)),
            one: digits_of(reduced(times(r.0, 16), words)),
        }
    }
}

/// One over an odd number, modulo `2^64`: each step doubles the bits that are right.
const fn inverse_of(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

const fn times(words: [u64; 4], factor: u64) -> [u64; 5] {
    let mut product = [0; 5];
    let mut carry = 0;
    let mut word = 0;
    while word < 4 {
        carry += words[word] as u128 * factor as u128;
        product[word] = carry as u64;
        carry >>= 64;
        word += 1;
    }
    product[4] = carry as u64;
    product
}

/// `number` modulo `prime`, by subtraction: for small multiples.
const fn reduced(mut number: [u64; 5], prime: [u64; 4]) -> [u64; 5] {
    loop {
        let mut rest = [0; 5];
        let mut borrow = false;
        let mut word = 0;
        while word < 5 {
            let (low, first) = number[word].overflowing_sub(if word < 4 { prime[word] } else { 0 });
            let (low, second) = low.overflowing_sub(borrow as u64);
            rest[word] = low;
            borrow = first | second;
            word += 1;
        }
        if borrow {
            return number;
        }
        number = rest;
    }
}

const fn digits_of(words: [u64; 5]) -> [u64; DIGITS] {
    assert!(words[4] >> 4 == 0, "below 2^260");
    let [a, b, c, d, e] = words;
    [
        a & DIGIT_MASK,
        (a >> 52 | b << 12) & DIGIT_MASK,
        (b >> 40 | c << 24) & DIGIT_MASK,
        (c >> 28 | d << 36) & DIGIT_MASK,
        d >> 16 | e << 48,
    ]
}
