//! Montgomery form of one prime field, in and out, for packing.
//!
//! A field library keeps the element `v` as the lane `v * R mod p`, little-endian, with `R = 2^256`
//! for four limbs and `R = 2^32` for one 32-bit word. The lane of the bit 1 looks as random as any
//! other; `v` itself is one bit. So packing leaves Montgomery form, and comes back on reading.
//!
//! ```text
//!   leave(lane)    = lane * R^-1 mod p        four rounds of reduction, or until v shows
//!   enter(v, k)    = v * lift[k-1] / 2^(64k)  k rounds of multiply and reduce,
//!                                             lift[k-1] = R * 2^(64k) mod p
//! ```
//!
//! A value of one limb thus returns in one round (9 word products), not four (36). And it leaves in
//! one: `lane + m p = v R` for the quotient `m = (v R) / p`, which fits one limb if `v` is small
//! enough; the first round finds that `m`, and what it leaves above its zeroes is `v`.
//!
//! Invariants, for p odd and below 2^255:
//!
//! * `leave(lane) < p` for any 256 bits, and `enter(leave(lane)) = lane mod p`; so a lane comes
//!   back to the bit exactly when `lane < p`, and comparing finds every other lane.
//! * a running value stays below `2p` between rounds of `enter`, so four limbs hold it.
//!
//! Nothing here branches on secrets for control of memory, but times do depend on the size of the
//! values, as the packed length does. Must never: panic, for any modulus or lane.
//!
//! Source: Koc, Acar, Kaliski, "Analyzing and Comparing Montgomery Multiplication Algorithms",
//! IEEE Micro 1996 (the coarsely integrated form); the lifts are ours.

use crate::Error;

/// Limbs of a lane of a large field.
pub const LIMBS: usize = 4;

/// Scalar field of BN254, least significant limb first.
pub const BN254_FR: [u64; LIMBS] =
    [0x43e1_f593_f000_0001, 0x2833_e848_79b9_7091, 0xb850_45b6_8181_585d, 0x3064_4e72_e131_a029];

/// Scalar field of BLS12-381, least significant limb first.
pub const BLS12_381_FR: [u64; LIMBS] =
    [0xffff_ffff_0000_0001, 0x53bd_a402_fffe_5bfe, 0x3339_d808_09a1_d805, 0x73ed_a753_299d_7d48];

/// BabyBear, `15 * 2^27 + 1`.
pub const BABY_BEAR: u32 = 0x7800_0001;

/// KoalaBear, `127 * 2^24 + 1`.
pub const KOALA_BEAR: u32 = 0x7f00_0001;

/// A field of 32-byte lanes in Montgomery form with `R = 2^256`.
///
/// Holding one proves that the modulus is odd, at least 3 and below 2^255. It need not be prime:
/// every lane is compared after a round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldSpec {
    modulus: [u64; LIMBS],
    /// `-modulus^-1 mod 2^64`.
    neg_inv: u64,
    /// `lift[k - 1] = 2^(256 + 64k) mod modulus`; the last is the usual `R^2`.
    lift: [[u64; LIMBS]; LIMBS],
}

impl FieldSpec {
    /// The field of `modulus`, least significant limb first. Costs 512 doublings, about 2 us.
    ///
    /// # Errors
    ///
    /// [`Error::Modulus`] if it is even, 1, or has its top bit set.
    ///
    /// ```
    /// use plimsoll_swap::codec::field::{BN254_FR, FieldSpec};
    /// assert!(FieldSpec::new(BN254_FR).is_ok());
    /// assert!(FieldSpec::new([2, 0, 0, 0]).is_err());
    /// ```
    pub fn new(modulus: [u64; LIMBS]) -> Result<Self, Error> {
        if modulus[0] & 1 == 0 {
            return Err(Error::Modulus { why: "it is even" });
        }
        if modulus == [1, 0, 0, 0] {
            return Err(Error::Modulus { why: "it is 1" });
        }
        if modulus[LIMBS - 1] >> 63 == 1 {
            return Err(Error::Modulus { why: "it is 2^255 or more" });
        }
        let mut lift = [[0; LIMBS]; LIMBS];
        let mut power = [1, 0, 0, 0];
        for doubling in 1..=512usize {
            power = below(double(power), &modulus);
            if doubling > 256 && doubling % 64 == 0 {
                lift[(doubling - 256) / 64 - 1] = power;
            }
        }
        Ok(Self { modulus, neg_inv: neg_inv_64(modulus[0]), lift })
    }

    /// The modulus, least significant limb first.
    pub fn modulus(&self) -> [u64; LIMBS] {
        self.modulus
    }

    /// Out of Montgomery form: `lane / R mod p`, always below `p`. Two rounds are enough for most
    /// values of one limb, four for any.
    #[inline]
    pub fn leave(&self, lane: [u64; LIMBS]) -> [u64; LIMBS] {
        let twice = self.reduce(self.reduce(lane, 0), 0);
        let value = match twice {
            // Rounds over zero limbs only move the others down.
            [0, 0, low, high] => [low, high, 0, 0],
            _ => self.reduce(self.reduce(twice, 0), 0),
        };
        below(value, &self.modulus)
    }

    /// [`Self::leave`] in one round, for a lane that is canonical and whose value is small: below
    /// `2^128 / p` of `2^192`, which is 61 bits for BN254. `None` says nothing of other lanes.
    ///
    /// No lane has to be entered again to be compared: `Some(v)` is found as `lane + m p = v R`
    /// with `lane < p`, and that is what it is for `lane` to be the Montgomery form of `v`.
    #[inline(always)]
    pub(crate) fn leave_small(&self, lane: [u64; LIMBS]) -> Option<u64> {
        let [zero, zero_too, also_zero, value] = self.reduce(lane, 0);
        let is_small = zero | zero_too | also_zero == 0;
        // A one-limb modulus would need the value compared with it; such fields go the long way.
        let is_wide = self.modulus[1] | self.modulus[2] | self.modulus[3] != 0;
        (is_small && is_wide && is_less(&lane, &self.modulus)).then_some(value)
    }

    /// Into Montgomery form: `value * R mod p`, for any 256 bits.
    #[inline]
    pub fn enter(&self, value: [u64; LIMBS]) -> [u64; LIMBS] {
        let limbs = LIMBS - value.iter().rev().take_while(|&&limb| limb == 0).count();
        let mut lane = [0; LIMBS];
        for &limb in &value[..limbs] {
            let (sum, top) = add_product(lane, limb, &self.lift[limbs - 1]);
            lane = self.reduce(sum, top);
        }
        below(lane, &self.modulus)
    }

    /// [`Self::enter`] for a value of one limb, in one round.
    #[inline]
    pub fn enter_small(&self, value: u64) -> [u64; LIMBS] {
        let (sum, top) = add_product([0; LIMBS], value, &self.lift[0]);
        below(self.reduce(sum, top), &self.modulus)
    }

    /// One round: `(value + top * 2^256 + m * p) / 2^64` with `m` chosen so that it divides.
    #[inline(always)]
    fn reduce(&self, value: [u64; LIMBS], top: u64) -> [u64; LIMBS] {
        let factor = value[0].wrapping_mul(self.neg_inv);
        // The lowest limb of the sum is zero; it carries unless both its terms are.
        let low = u128::from(factor) * u128::from(self.modulus[0]);
        let mut carry = (low >> 64) as u64 + u64::from(value[0] != 0);
        let mut quotient = [0; LIMBS];
        for i in 1..LIMBS {
            let wide = u128::from(factor) * u128::from(self.modulus[i])
                + u128::from(value[i])
                + u128::from(carry);
            quotient[i - 1] = wide as u64;
            carry = (wide >> 64) as u64;
        }
        // The quotient is below 2p, so the top limb does not overflow.
        quotient[LIMBS - 1] = top.wrapping_add(carry);
        quotient
    }
}

/// A field of 4-byte lanes in Montgomery form with `R = 2^32`, such as BabyBear.
///
/// Holding one proves that the modulus is odd, at least 3 and below 2^31.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field32Spec {
    modulus: u32,
    /// `-modulus^-1 mod 2^32`.
    neg_inv: u32,
    /// `2^64 mod modulus`.
    r2: u32,
}

impl Field32Spec {
    /// The field of `modulus`.
    ///
    /// # Errors
    ///
    /// [`Error::Modulus`] if it is even, 1, or 2^31 or more.
    pub fn new(modulus: u32) -> Result<Self, Error> {
        if modulus & 1 == 0 {
            return Err(Error::Modulus { why: "it is even" });
        }
        if modulus == 1 {
            return Err(Error::Modulus { why: "it is 1" });
        }
        if modulus >> 31 == 1 {
            return Err(Error::Modulus { why: "it is 2^31 or more" });
        }
        let r = (1u64 << 32) % u64::from(modulus);
        let r2 = (r * r % u64::from(modulus)) as u32;
        let neg_inv = neg_inv_64(u64::from(modulus)) as u32;
        Ok(Self { modulus, neg_inv, r2 })
    }

    /// The modulus.
    pub fn modulus(&self) -> u32 {
        self.modulus
    }

    /// [`Self::leave`] of every lane; whether all were canonical, so that `enter` gives them back.
    #[inline]
    pub(crate) fn leave_all(&self, lanes: &[u8], values: &mut [u64]) -> bool {
        let largest = u64::from(self.modulus) - 1;
        let mut below_zero = 0;
        for (bytes, value) in lanes.as_chunks().0.iter().zip(values) {
            let lane = u32::from_le_bytes(*bytes);
            below_zero |= largest.wrapping_sub(u64::from(lane));
            *value = u64::from(self.leave(lane));
        }
        below_zero >> 63 == 0
    }

    /// Out of Montgomery form: `lane / R mod p`, always below `p`.
    #[inline]
    pub fn leave(&self, lane: u32) -> u32 {
        self.reduce(u64::from(lane))
    }

    /// Into Montgomery form: `value * R mod p`, for any 32 bits.
    #[inline]
    pub fn enter(&self, value: u32) -> u32 {
        self.reduce(u64::from(value) * u64::from(self.r2))
    }

    /// `wide / 2^32 mod p` for `wide < 2^63`: the sum stays below 2^64, the quotient below 2p
    /// where `wide < 2^32 * p`, which both callers keep.
    #[inline(always)]
    fn reduce(&self, wide: u64) -> u32 {
        let factor = (wide as u32).wrapping_mul(self.neg_inv);
        let sum = wide.wrapping_add(u64::from(factor) * u64::from(self.modulus));
        // Of two numbers below 2p < 2^32 the difference has a sign; so no lane waits for a branch.
        let difference = ((sum >> 32) as u32).wrapping_sub(self.modulus);
        difference.wrapping_add(self.modulus & (difference.cast_signed() >> 31).cast_unsigned())
    }
}

/// `-odd^-1 mod 2^64` by Newton's step, which doubles the correct bits: 5, 10, 20, 40, 80.
fn neg_inv_64(odd: u64) -> u64 {
    let mut inverse = odd.wrapping_mul(3) ^ 2;
    for _ in 0..4 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse.wrapping_neg()
}

/// `base + factor * row`: four limbs, and the fifth.
#[inline(always)]
fn add_product(base: [u64; LIMBS], factor: u64, row: &[u64; LIMBS]) -> ([u64; LIMBS], u64) {
    let mut sum = [0; LIMBS];
    let mut carry = 0u64;
    for i in 0..LIMBS {
        // (2^64 - 1)^2 + 2 (2^64 - 1) = 2^128 - 1: never overflows.
        let wide =
            u128::from(factor) * u128::from(row[i]) + u128::from(base[i]) + u128::from(carry);
        sum[i] = wide as u64;
        carry = (wide >> 64) as u64;
    }
    (sum, carry)
}

/// `value - modulus` if that is not negative, else `value`.
#[inline(always)]
fn below(value: [u64; LIMBS], modulus: &[u64; LIMBS]) -> [u64; LIMBS] {
    let mut difference = [0; LIMBS];
    let mut borrow = false;
    for i in 0..LIMBS {
        let (low, under) = value[i].overflowing_sub(modulus[i]);
        let (low, under_again) = low.overflowing_sub(u64::from(borrow));
        difference[i] = low;
        borrow = under | under_again;
    }
    if borrow { value } else { difference }
}

#[inline(always)]
fn is_less(value: &[u64; LIMBS], bound: &[u64; LIMBS]) -> bool {
    let mut borrow = false;
    for i in 0..LIMBS {
        let (low, under) = value[i].overflowing_sub(bound[i]);
        borrow = under | low.overflowing_sub(u64::from(borrow)).1;
    }
    borrow
}

/// `2 * value`, for a value below 2^255.
fn double(value: [u64; LIMBS]) -> [u64; LIMBS] {
    let mut doubled = [0; LIMBS];
    let mut carry = 0;
    for i in 0..LIMBS {
        doubled[i] = value[i] << 1 | carry;
        carry = value[i] >> 63;
    }
    doubled
}
