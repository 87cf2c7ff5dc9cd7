//! Powers of tau for tests, prepared for phase 2, as snarkjs reads them (`.ptau`, bn128).
//!
//!     cargo run --release --example test_powers_of_tau -- POWER FILE
//!
//! snarkjs takes 25 CPU minutes for 2^16 rows, because nobody may know tau. Here tau is a hash of a
//! public word: every point is one multiplication by a known number, seconds in all. Whoever reads
//! this file can forge proofs for keys made from it.
//!
//! ```text
//!   1 header   2 tauG1   3 tauG2   4 alphaTauG1   5 betaTauG1   6 betaG2   7 contributions: none
//!   12 to 15   the same four in Lagrange form, for 1, 2, 4 ... 2^POWER rows; tauG1 one further
//! ```
//!
//! Points are affine, coordinates little-endian in Montgomery form, infinity is zeroes.
//! Source of the layout: snarkjs 0.7, `powersoftau prepare phase2`.

#[path = "iden3/mod.rs"]
mod iden3;

use ark_bn254::{Fq, Fr, G1Projective, G2Projective};
use ark_ec::PrimeGroup;
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ff::{BigInteger, Field, PrimeField, UniformRand};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use iden3::{Out, section, write_g1, write_g2};
use rand::SeedableRng;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};

/// Rows beyond which a test would take minutes after all.
const POWER_MAX: u32 = 20;

/// tau^0 to tau^(count - 1), each times `factor`.
fn powers(tau: Fr, factor: Fr, count: usize) -> Vec<Fr> {
    std::iter::successors(Some(factor), |last| Some(*last * tau)).take(count).collect()
}

/// The Lagrange polynomials of 2^0, 2^1 ... 2^power rows at tau, each times `factor`.
fn lagrange(tau: Fr, factor: Fr, power: u32) -> Vec<Fr> {
    let of = |rows: u32| {
        let domain = Radix2EvaluationDomain::<Fr>::new(1 << rows).expect("below 2^28 rows");
        domain.evaluate_all_lagrange_coefficients(tau)
    };
    (0..=power).flat_map(of).map(|value| value * factor).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let power = arguments.first().and_then(|text| text.parse::<u32>().ok());
    let (Some(power @ 1..=POWER_MAX), Some(path)) = (power, arguments.get(1)) else {
        return Err(format!("usage: test_powers_of_tau POWER FILE, POWER 1 to {POWER_MAX}").into());
    };
    let mut rng = rand_chacha::ChaCha20Rng::from_seed(*b"powers of tau that anybody knows");
    let (tau, alpha, beta) = (Fr::rand(&mut rng), Fr::rand(&mut rng), Fr::rand(&mut rng));
    let rows = 1usize << power;
    let g1 = BatchMulPreprocessing::new(G1Projective::generator(), 12 * rows);
    let g2 = BatchMulPreprocessing::new(G2Projective::generator(), 3 * rows);
    let in_g1 = |out: &mut Out, scalars: &[Fr]| {
        g1.batch_mul(scalars).iter().try_for_each(|point| write_g1(out, point))
    };
    let in_g2 = |out: &mut Out, scalars: &[Fr]| {
        g2.batch_mul(scalars).iter().try_for_each(|point| write_g2(out, point))
    };

    let mut file = BufWriter::new(File::create(path)?);
    let out = &mut file;
    out.write_all(b"ptau")?;
    out.write_all(&1u32.to_le_bytes())?;
    out.write_all(&11u32.to_le_bytes())?;
    section(out, 1, |out| {
        out.write_all(&32u32.to_le_bytes())?;
        out.write_all(&Fq::MODULUS.to_bytes_le())?;
        out.write_all(&power.to_le_bytes())?;
        out.write_all(&power.to_le_bytes())
    })?;
    section(out, 2, |out| in_g1(out, &powers(tau, Fr::ONE, 2 * rows - 1)))?;
    section(out, 3, |out| in_g2(out, &powers(tau, Fr::ONE, rows)))?;
    section(out, 4, |out| in_g1(out, &powers(tau, alpha, rows)))?;
    section(out, 5, |out| in_g1(out, &powers(tau, beta, rows)))?;
    section(out, 6, |out| in_g2(out, &[beta]))?;
    section(out, 7, |out| out.write_all(&0u32.to_le_bytes()))?;
    section(out, 12, |out| in_g1(out, &lagrange(tau, Fr::ONE, power + 1)))?;
    section(out, 13, |out| in_g2(out, &lagrange(tau, Fr::ONE, power)))?;
    section(out, 14, |out| in_g1(out, &lagrange(tau, alpha, power)))?;
    section(out, 15, |out| in_g1(out, &lagrange(tau, beta, power)))?;
    out.flush()?;
    Ok(())
}
