//! How the two kinds of key file write a point of BN254, and the checks on the way in.
//!
//! ```text
//!              x                y                        coordinate      identity
//!   zkey  G1   32 bytes         32 bytes                 v * 2^256 mod q  x = y = 0
//!   zkey  G2   c0 32, c1 32     c0 32, c1 32             v * 2^256 mod q  x = y = 0
//!   ark   G1   32 bytes         32 bytes, flags on top   v                flag, x = y = 0
//!   ark   G2   c0 32, c1 32     c0 32, c1 32, flags      v                flag, x = y = 0
//! ```
//!
//! Little-endian throughout. snarkjs writes the Montgomery form, which is ours as it stands;
//! arkworks writes the value, which costs one multiplication a coordinate. The two top bits of
//! the last byte of an arkworks point are free (q < 2^254) and hold a flag: bit 7 when y is the
//! larger of y and -y, bit 6 for the identity (ark-ec, `SWFlags`). We insist that the flag agrees
//! with y: the file then has one spelling a point, and a flipped sign bit is seen.
//!
//! Invariants: every point that leaves has `coordinate < q` and `y^2 = x^3 + b`, or is the
//! identity. G1 has prime order, so that is membership too. G2 has a cofactor: membership in the
//! subgroup of order r costs a scalar multiplication and is checked for the points of the
//! verifying key only ([`check_g2_subgroup`]). A hostile key can spoil the proof made from it,
//! which the prover sees when it checks its own proof; it cannot reach memory.
//!
//! It must never accept two byte strings for one point.

use ark_bn254::{Fq, Fq2, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, BigInteger, PrimeField, Zero};

use super::records::{ByteSource, Decode, Records};
use crate::groth16::file_error::{Fault, FileError};

/// Who wrote a key, and so which reduction its H points are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// `ark-groth16` 0.6, uncompressed. The witness map is arkworks' own.
    Arkworks,
    /// snarkjs. The witness map is circom's; the constraint matrices are in the file.
    Zkey,
}

/// Bytes of a point of G1 in either kind of file.
pub(in crate::groth16) const G1_BYTES: u32 = 64;

/// Bytes of a point of G2 in either kind of file.
pub(in crate::groth16) const G2_BYTES: u32 = 128;

const FLAG_LARGER_Y: u8 = 1 << 7;
const FLAG_IDENTITY: u8 = 1 << 6;

/// Points as snarkjs writes them.
struct ZkeyPoint;

/// Points as arkworks writes them, uncompressed.
struct ArkPoint;

/// Decodes the points of G1 from `start` on; see [`Records::read`].
pub(super) fn read_g1(
    kind: KeyKind,
    records: &Records,
    source: &ByteSource,
    start: usize,
    out: &mut [G1Affine],
) -> Result<(), FileError> {
    match kind {
        KeyKind::Arkworks => records.read::<64, _>(source, start, out, &ArkPoint),
        KeyKind::Zkey => records.read::<64, _>(source, start, out, &ZkeyPoint),
    }
}

/// Decodes the points of G2 from `start` on; see [`Records::read`].
pub(super) fn read_g2(
    kind: KeyKind,
    records: &Records,
    source: &ByteSource,
    start: usize,
    out: &mut [G2Affine],
) -> Result<(), FileError> {
    match kind {
        KeyKind::Arkworks => records.read::<128, _>(source, start, out, &ArkPoint),
        KeyKind::Zkey => records.read::<128, _>(source, start, out, &ZkeyPoint),
    }
}

/// The little-endian number in `bytes`, which must be 32 long.
fn limbs(bytes: &[u8]) -> BigInt<4> {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(bytes.as_chunks().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    BigInt(limbs)
}

/// The little-endian number in `bytes`.
pub(in crate::groth16) fn little_endian(bytes: &[u8; 32]) -> BigInt<4> {
    limbs(bytes)
}

/// The coordinate whose Montgomery form is `form`, if that is below q.
fn montgomery(form: BigInt<4>) -> Option<Fq> {
    (form < Fq::MODULUS).then(|| Fq::new_unchecked(form))
}

fn g1(x: Fq, y: Fq, index: u64) -> Result<G1Affine, Fault> {
    let point = G1Affine::new_unchecked(x, y);
    if point.is_on_curve() { Ok(point) } else { Err(Fault::NotOnCurve { index }) }
}

fn g2(x: Fq2, y: Fq2, index: u64) -> Result<G2Affine, Fault> {
    let point = G2Affine::new_unchecked(x, y);
    if point.is_on_curve() { Ok(point) } else { Err(Fault::NotOnCurve { index }) }
}

impl Decode<64> for ZkeyPoint {
    type Item = G1Affine;

    fn decode(&self, bytes: &[u8; 64], index: u64) -> Result<G1Affine, Fault> {
        let x = montgomery(limbs(&bytes[..32]));
        let y = montgomery(limbs(&bytes[32..]));
        let (Some(x), Some(y)) = (x, y) else { return Err(Fault::Coordinate { index }) };
        if x.is_zero() && y.is_zero() {
            return Ok(G1Affine::zero());
        }
        g1(x, y, index)
    }
}

impl Decode<128> for ZkeyPoint {
    type Item = G2Affine;

    fn decode(&self, bytes: &[u8; 128], index: u64) -> Result<G2Affine, Fault> {
        let coordinate = |i: usize| {
            montgomery(limbs(&bytes[32 * i..32 * i + 32])).ok_or(Fault::Coordinate { index })
        };
        let x = Fq2::new(coordinate(0)?, coordinate(1)?);
        let y = Fq2::new(coordinate(2)?, coordinate(3)?);
        if x.is_zero() && y.is_zero() {
            return Ok(G2Affine::zero());
        }
        g2(x, y, index)
    }
}

/// True when `y`, a value and not its Montgomery form, is larger than `-y`.
fn is_larger(y: &BigInt<4>) -> bool {
    *y > Fq::MODULUS_MINUS_ONE_DIV_TWO
}

/// What the flag bits must be for a point that is not the identity.
fn sign_flag(y_is_larger: bool) -> u8 {
    if y_is_larger { FLAG_LARGER_Y } else { 0 }
}

impl Decode<64> for ArkPoint {
    type Item = G1Affine;

    fn decode(&self, bytes: &[u8; 64], index: u64) -> Result<G1Affine, Fault> {
        let flags = bytes[63] & (FLAG_LARGER_Y | FLAG_IDENTITY);
        let x = limbs(&bytes[..32]);
        let mut y = limbs(&bytes[32..]);
        y.0[3] &= u64::MAX >> 2;
        if flags == FLAG_IDENTITY {
            let is_zero = x.is_zero() && y.is_zero();
            return if is_zero { Ok(G1Affine::zero()) } else { Err(Fault::PointFlags { index }) };
        }
        let (Some(fx), Some(fy)) = (Fq::from_bigint(x), Fq::from_bigint(y)) else {
            return Err(Fault::Coordinate { index });
        };
        // The identity without its flag would be a second spelling of it.
        if (x.is_zero() && y.is_zero()) || flags != sign_flag(is_larger(&y)) {
            return Err(Fault::PointFlags { index });
        }
        g1(fx, fy, index)
    }
}

impl Decode<128> for ArkPoint {
    type Item = G2Affine;

    fn decode(&self, bytes: &[u8; 128], index: u64) -> Result<G2Affine, Fault> {
        let flags = bytes[127] & (FLAG_LARGER_Y | FLAG_IDENTITY);
        let mut parts = [0, 1, 2, 3].map(|i| limbs(&bytes[32 * i..32 * i + 32]));
        parts[3].0[3] &= u64::MAX >> 2;
        if flags == FLAG_IDENTITY {
            let is_zero = parts.iter().all(BigInt::is_zero);
            return if is_zero { Ok(G2Affine::zero()) } else { Err(Fault::PointFlags { index }) };
        }
        let coordinate = |i: usize| Fq::from_bigint(parts[i]).ok_or(Fault::Coordinate { index });
        let x = Fq2::new(coordinate(0)?, coordinate(1)?);
        let y = Fq2::new(coordinate(2)?, coordinate(3)?);
        // c1 leads in the order of Fq2; c0 decides when c1 is its own negative, that is zero.
        let leading = if parts[3].is_zero() { &parts[2] } else { &parts[3] };
        let is_zero = x.is_zero() && y.is_zero();
        if is_zero || flags != sign_flag(is_larger(leading)) {
            return Err(Fault::PointFlags { index });
        }
        g2(x, y, index)
    }
}

/// Checks that a point of the verifying key is not the identity.
pub(in crate::groth16) fn check_not_identity<P: AffineRepr>(point: &P) -> Result<(), Fault> {
    if point.is_zero() { Err(Fault::Identity) } else { Ok(()) }
}

/// Checks that a point on the twist lies in the subgroup of order r.
pub(in crate::groth16) fn check_g2_subgroup(point: &G2Affine) -> Result<(), Fault> {
    if point.is_in_correct_subgroup_assuming_on_curve() {
        Ok(())
    } else {
        Err(Fault::NotInSubgroup)
    }
}
