//! `verification_key.json`, as snarkjs writes and reads it.
//!
//! ```text
//!   { "protocol": "groth16", "curve": "bn128", "nPublic": 1,
//!     "vk_alpha_1": G1, "vk_beta_2": G2, "vk_gamma_2": G2, "vk_delta_2": G2,
//!     "vk_alphabeta_12": e(alpha, beta), two halves of three pairs,
//!     "IC": [G1, ...] }                                       nPublic + 1 points
//! ```
//!
//! Points and layout are those of [`json`](super::json). The pairing of alpha and beta follows from
//! the points: it is written, and not believed when it is read.
//!
//! Invariant: a key that was read has valid points, none of the four single ones the identity.

use std::io::Write;
use std::path::Path;

use ark_bn254::{Bn254, Fq6, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ec::pairing::Pairing;
use ark_ff::PrimeField;
use ark_groth16::VerifyingKey;
use serde::Serialize;
use serde_json::Value;

use super::json::{
    PLACE, PUBLIC_MODE, decimal, g1, g1_numbers, g2, g2_numbers, is_groth16_of_bn128, read_json,
    stringify,
};
use crate::files::staged::StagedFile;
use crate::groth16::file_error::{Fault, FileError};

/// A `verification_key.json`, in the order of snarkjs.
#[derive(Serialize)]
#[expect(non_snake_case, reason = "the names are the file's")]
struct KeyText {
    protocol: &'static str,
    curve: &'static str,
    nPublic: usize,
    vk_alpha_1: [String; 3],
    vk_beta_2: [[String; 2]; 3],
    vk_gamma_2: [[String; 2]; 3],
    vk_delta_2: [[String; 2]; 3],
    vk_alphabeta_12: [[[String; 2]; 3]; 2],
    IC: Vec<[String; 3]>,
}

/// The text of `verification_key.json`.
#[must_use]
pub fn verifying_key_to_json(key: &VerifyingKey<Bn254>) -> String {
    let point = |point: &G1Affine| g1_numbers(point).map(decimal);
    let twist = |point: &G2Affine| g2_numbers(point).map(|pair| pair.map(decimal));
    let half = |half: Fq6| [half.c0, half.c1, half.c2].map(|v| [v.c0, v.c1].map(fq_text));
    let pairing = Bn254::pairing(key.alpha_g1, key.beta_g2).0;
    stringify(&KeyText {
        protocol: "groth16",
        curve: "bn128",
        nPublic: key.gamma_abc_g1.len().saturating_sub(1),
        vk_alpha_1: point(&key.alpha_g1),
        vk_beta_2: twist(&key.beta_g2),
        vk_gamma_2: twist(&key.gamma_g2),
        vk_delta_2: twist(&key.delta_g2),
        vk_alphabeta_12: [half(pairing.c0), half(pairing.c1)],
        IC: key.gamma_abc_g1.iter().map(point).collect(),
    })
}

fn fq_text(number: ark_bn254::Fq) -> String {
    decimal(number.into_bigint())
}

/// Writes a `verification_key.json`: whole, or not at all.
///
/// # Errors
///
/// [`Fault::Write`] or [`Fault::NotRegular`].
pub fn write_verifying_key(path: &Path, key: &VerifyingKey<Bn254>) -> Result<(), FileError> {
    let text = verifying_key_to_json(key);
    StagedFile::write(path, PUBLIC_MODE, |out| out.write_all(text.as_bytes()))?.commit()?;
    Ok(())
}

/// Reads a `verification_key.json`.
///
/// # Errors
///
/// [`Fault::Json`] that names the field, when it is not the text of a Groth16 key over bn128 with
/// valid points.
pub fn read_verifying_key(path: &Path) -> Result<VerifyingKey<Bn254>, FileError> {
    key_of(&read_json(path)?).map_err(|fault| FileError::new(path, PLACE, fault))
}

fn key_of(value: &Value) -> Result<VerifyingKey<Bn254>, Fault> {
    is_groth16_of_bn128(value)?;
    let fault = |reason| Fault::Json { reason };
    let field = |field: &str| value.get(field).unwrap_or(&Value::Null);
    let twist =
        |name, reason| g2(field(name)).filter(|point| !point.is_zero()).ok_or(fault(reason));
    let alpha_g1 = g1(field("vk_alpha_1")).filter(|point| !point.is_zero());
    let inputs = field("IC").as_array().filter(|points| !points.is_empty());
    let inputs = inputs.ok_or(fault("IC is a list of at least one point"))?;
    let gamma_abc_g1 = inputs.iter().map(|point| g1(point).ok_or(fault("IC is of points of G1")));
    Ok(VerifyingKey {
        alpha_g1: alpha_g1.ok_or(fault("vk_alpha_1 is a point of G1"))?,
        beta_g2: twist("vk_beta_2", "vk_beta_2 is a point of G2")?,
        gamma_g2: twist("vk_gamma_2", "vk_gamma_2 is a point of G2")?,
        delta_g2: twist("vk_delta_2", "vk_delta_2 is a point of G2")?,
        gamma_abc_g1: gamma_abc_g1.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groth16::key::KeyFile;
    use std::fs;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/circom").join(name)
    }

    #[test]
    fn the_text_is_the_one_that_snarkjs_exports_and_is_read_back() {
        for circuit in ["multiplier", "publics"] {
            let key = KeyFile::open_zkey(&fixture(&format!("{circuit}.zkey"))).expect("a key");
            let path = fixture(&format!("{circuit}.vkey.json"));
            let text = fs::read_to_string(&path).expect("exported by snarkjs");
            assert_eq!(verifying_key_to_json(key.verifying_key()), text.trim_end());
            assert_eq!(read_verifying_key(&path).expect("valid"), *key.verifying_key());
        }
    }

    #[test]
    fn a_damaged_text_is_refused_by_the_field() {
        let text = fs::read_to_string(fixture("multiplier.vkey.json")).expect("there");
        let good: Value = serde_json::from_str(&text).expect("JSON");
        let zero = serde_json::json!(["0", "1", "0"]);
        let cases = [
            ("protocol", serde_json::json!("plonk"), "protocol"),
            ("vk_alpha_1", zero, "vk_alpha_1"),
            ("vk_delta_2", good["vk_alpha_1"].clone(), "vk_delta_2"),
            ("IC", serde_json::json!([]), "IC"),
            ("IC", serde_json::json!([["1", "3", "1"]]), "IC"),
        ];
        for (field, value, named) in cases {
            let mut damaged = good.clone();
            damaged[field] = value;
            let fault = key_of(&damaged).expect_err("damaged").to_string();
            assert!(fault.contains(named), "{field}: {fault}");
        }
        assert!(key_of(&good).is_ok());
    }
}
