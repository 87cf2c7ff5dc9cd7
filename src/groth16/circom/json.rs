//! `proof.json` and `public.json`, as snarkjs writes and reads them.
//!
//! ```text
//!   proof.json                                    public.json
//!   { "pi_a": [x, y, "1"],                        [ "33", "11" ]
//!     "pi_b": [[x.c0, x.c1], [y.c0, y.c1], ["1", "0"]],
//!     "pi_c": [x, y, "1"],
//!     "protocol": "groth16", "curve": "bn128" }   numbers are decimal, in quotes
//! ```
//!
//! Layout on disk is that of JavaScript's `JSON.stringify(value, null, 1)`, byte for byte. Points
//! are projective with z = 1; the identity is (0, 1, 0).
//!
//! Invariants:
//!
//! * what is written is read back as the same value, and what is read is canonical: decimal
//!   without sign or leading zero, below its modulus, points on the curve;
//! * an output file is whole or is not there (`files::staged`).
//!
//! It must never show a private input, or leave a proof without its public inputs.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ff::{BigInt, One, PrimeField, Zero};
use ark_groth16::Proof;
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::files::staged::StagedFile;
use crate::groth16::file_error::{Fault, FileError};

/// The most bytes of a JSON file that are read: 2^20 public inputs with room.
const JSON_BYTES_MAX: u64 = 128 << 20;

/// Digits of the largest number below 2^256.
pub(super) const DIGITS_MAX: usize = 78;

/// Both outputs are public.
pub(super) const PUBLIC_MODE: u32 = 0o644;

pub(super) const PLACE: &str = "JSON text";

/// A `proof.json`, in the order of snarkjs.
#[derive(Serialize)]
struct ProofText {
    pi_a: [String; 3],
    pi_b: [[String; 2]; 3],
    pi_c: [String; 3],
    protocol: &'static str,
    curve: &'static str,
}

/// The text of `proof.json`.
#[must_use]
pub fn proof_to_json(proof: &Proof<Bn254>) -> String {
    let [pi_a, pi_c] = [&proof.a, &proof.c].map(|point| g1_numbers(point).map(decimal));
    let pi_b = g2_numbers(&proof.b).map(|pair| pair.map(decimal));
    stringify(&ProofText { pi_a, pi_b, pi_c, protocol: "groth16", curve: "bn128" })
}

/// The text of `public.json`: the public inputs without the leading one, in order.
#[must_use]
pub fn public_to_json(inputs: &[Fr]) -> String {
    stringify(&inputs.iter().map(|input| decimal(input.into_bigint())).collect::<Vec<_>>())
}

pub(super) fn decimal(number: BigInt<4>) -> String {
    number.to_string()
}

/// As JavaScript's `JSON.stringify(value, null, 1)`.
pub(super) fn stringify(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let format = PrettyFormatter::with_indent(b" ");
    let written = value.serialize(&mut Serializer::with_formatter(&mut text, format));
    written.expect("strings and lists, into memory");
    String::from_utf8(text).expect("JSON of strings")
}

/// Projective coordinates.
pub(super) fn g1_numbers(point: &G1Affine) -> [BigInt<4>; 3] {
    let (x, y, z) = match point.xy() {
        Some((x, y)) => (x, y, Fq::one()),
        None => (Fq::zero(), Fq::one(), Fq::zero()),
    };
    [x, y, z].map(Fq::into_bigint)
}

/// Projective coordinates, each as c0 and c1.
pub(super) fn g2_numbers(point: &G2Affine) -> [[BigInt<4>; 2]; 3] {
    let (x, y, z) = match point.xy() {
        Some((x, y)) => (x, y, Fq2::one()),
        None => (Fq2::zero(), Fq2::one(), Fq2::zero()),
    };
    [x, y, z].map(|v| [v.c0, v.c1].map(Fq::into_bigint))
}

/// Reads a `proof.json`.
///
/// # Errors
///
/// [`Fault::Json`] that names the field, when it is not the text of a proof over bn128 with
/// points on the curve (and, for `pi_b`, in the subgroup).
pub fn read_proof(path: &Path) -> Result<Proof<Bn254>, FileError> {
    proof_of(&read_json(path)?).map_err(|fault| FileError::new(path, PLACE, fault))
}

/// Reads a `public.json`.
///
/// # Errors
///
/// [`Fault::Json`] when it is not a list of decimal strings below r.
pub fn read_public(path: &Path) -> Result<Vec<Fr>, FileError> {
    let value = read_json(path)?;
    let reason = "public.json is a list of decimal strings, each below r";
    let inputs = value.as_array().and_then(|items| items.iter().map(number::<Fr>).collect());
    inputs.ok_or_else(|| FileError::new(path, PLACE, Fault::Json { reason }))
}

pub(super) fn read_json(path: &Path) -> Result<Value, FileError> {
    let fail = |fault| FileError::new(path, "file", fault);
    let file = File::open(path).map_err(|error| fail(Fault::Open(error)))?;
    let mut text = Vec::new();
    let read = file.take(JSON_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| fail(Fault::Read(error)))?;
    if text.len() as u64 > JSON_BYTES_MAX {
        return Err(fail(Fault::Json { reason: "the file has at most 128 MiB" }));
    }
    let reason = "the file is JSON";
    serde_json::from_slice(&text).map_err(|_| FileError::new(path, PLACE, Fault::Json { reason }))
}

/// Checks the names of the proof system and the curve.
pub(super) fn is_groth16_of_bn128(value: &Value) -> Result<(), Fault> {
    let is = |field: &str, text: &str| value.get(field).and_then(Value::as_str) == Some(text);
    if is("protocol", "groth16") && is("curve", "bn128") {
        return Ok(());
    }
    Err(Fault::Json { reason: "the protocol is groth16, the curve bn128" })
}

fn proof_of(value: &Value) -> Result<Proof<Bn254>, Fault> {
    is_groth16_of_bn128(value)?;
    let point = |field: &str| value.get(field).unwrap_or(&Value::Null);
    let fault = |reason| Fault::Json { reason };
    Ok(Proof {
        a: g1(point("pi_a")).ok_or(fault("pi_a is a point of G1"))?,
        b: g2(point("pi_b")).ok_or(fault("pi_b is a point of G2"))?,
        c: g1(point("pi_c")).ok_or(fault("pi_c is a point of G1"))?,
    })
}

/// The point of G1 that three decimal strings spell, if it is one.
pub(super) fn g1(value: &Value) -> Option<G1Affine> {
    let [x, y, z] = value.as_array()?.as_slice() else { return None };
    let (x, y, z) = (number::<Fq>(x)?, number::<Fq>(y)?, number::<Fq>(z)?);
    if x.is_zero() && y.is_one() && z.is_zero() {
        return Some(G1Affine::zero());
    }
    let point = G1Affine::new_unchecked(x, y);
    (z.is_one() && !point.is_zero() && point.is_on_curve()).then_some(point)
}

/// The point of G2 that three pairs of decimal strings spell, if it is one of order r.
pub(super) fn g2(value: &Value) -> Option<G2Affine> {
    let pair = |value: &Value| {
        let [c0, c1] = value.as_array()?.as_slice() else { return None };
        Some(Fq2::new(number(c0)?, number(c1)?))
    };
    let [x, y, z] = value.as_array()?.as_slice() else { return None };
    let (x, y, z) = (pair(x)?, pair(y)?, pair(z)?);
    if x.is_zero() && y.is_one() && z.is_zero() {
        return Some(G2Affine::zero());
    }
    let point = G2Affine::new_unchecked(x, y);
    let is_valid = z.is_one()
        && !point.is_zero()
        && point.is_on_curve()
        && point.is_in_correct_subgroup_assuming_on_curve();
    is_valid.then_some(point)
}

/// The field element that a decimal string spells: digits only, no leading zero, below the modulus.
fn number<F: PrimeField<BigInt = BigInt<4>>>(value: &Value) -> Option<F> {
    let digits = value.as_str().filter(|digits| is_decimal(digits))?;
    F::from_bigint(digits.parse::<BigInt<4>>().ok()?)
}

/// Says whether a string is digits only, without a leading zero, and not longer than a number
/// below 2^256.
pub(super) fn is_decimal(digits: &str) -> bool {
    digits.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=DIGITS_MAX).contains(&digits.len())
        && (digits == "0" || !digits.starts_with('0'))
}

/// Writes `proof.json` and `public.json`: both texts are on disk under temporary names before
/// either takes its final name.
///
/// # Errors
///
/// [`Fault::Write`] or [`Fault::NotRegular`]. No part of either file is left behind. A file of an
/// earlier run stays as it was, unless the second rename fails after the first succeeded: then
/// the first is removed.
pub fn write_proof_and_public(
    proof_path: &Path,
    proof: &Proof<Bn254>,
    public_path: &Path,
    inputs: &[Fr],
) -> Result<(), FileError> {
    let stage = |path, text: String| {
        StagedFile::write(path, PUBLIC_MODE, |out| out.write_all(text.as_bytes()))
    };
    let proof_file = stage(proof_path, proof_to_json(proof))?;
    let public_file = stage(public_path, public_to_json(inputs))?;
    let proof_final = proof_file.target().to_owned();
    proof_file.commit()?;
    public_file.commit().inspect_err(|_| {
        // The error that matters is already on its way; a proof without its inputs is no use.
        let _ = fs::remove_file(&proof_final);
    })?;
    Ok(())
}
