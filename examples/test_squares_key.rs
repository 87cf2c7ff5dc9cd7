//! A snarkjs key and a witness of a long chain of squarings, for tests and benches, in minutes.
//!
//!     cargo run --release --example test_squares_key -- POWER FOLDER
//!
//! Writes `squares.zkey`, `squares.wtns` and `squares.vkey.json` of `x <- x^2 + i` over 2^POWER
//! rows. A setup by snarkjs takes hours at 2^22, because nobody may know its secrets. Here they are
//! a hash of a public word: every point is one multiplication by a known number. Whoever reads this
//! file can forge proofs for the key.
//!
//! ```text
//!   signals   1 | last (public) | x_0 .. x_(k-1)           k = 2^POWER - 2 constraints
//!   row i     x_i * x_i = x_(i+1) - i                      x_k is `last`
//!   rows k, k + 1                                          A has 1 and `last`, as snarkjs appends
//! ```
//!
//! Source of the layout: src/groth16/circom/zkey.rs; of the points: Groth, eprint 2016/260.

#[path = "iden3/mod.rs"]
mod iden3;

use ark_bn254::{Bn254, Fq, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{BigInteger, Field, One, PrimeField, UniformRand, Zero};
use ark_groth16::VerifyingKey;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use iden3::{Out, section, write_g1, write_g2};
use plimsoll::groth16::circom::vkey::write_verifying_key;
use rand::SeedableRng;
use rayon::prelude::*;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The largest key: 2^24 rows are 6 GB.
const POWER_MAX: u32 = 24;

/// Points that are made at a time.
const STEP: usize = 1 << 16;

/// The secrets of the key, and the tables that multiply the generators.
struct Secrets {
    tau: Fr,
    alpha: Fr,
    beta: Fr,
    gamma: Fr,
    delta: Fr,
    g1: BatchMulPreprocessing<G1Projective>,
    g2: BatchMulPreprocessing<G2Projective>,
}

impl Secrets {
    fn new(rows: usize) -> Self {
        let mut rng = rand_chacha::ChaCha20Rng::from_seed(*b"squares keys that anybody can do");
        let mut draw = || Fr::rand(&mut rng);
        Self {
            tau: draw(),
            alpha: draw(),
            beta: draw(),
            gamma: draw(),
            delta: draw(),
            g1: BatchMulPreprocessing::new(G1Projective::generator(), 4 * rows),
            g2: BatchMulPreprocessing::new(G2Projective::generator(), rows),
        }
    }

    fn one_g1(&self, scalar: Fr) -> G1Affine {
        (G1Projective::generator() * scalar).into_affine()
    }

    fn one_g2(&self, scalar: Fr) -> G2Affine {
        (G2Projective::generator() * scalar).into_affine()
    }

    /// Writes a point of G1 for each scalar.
    fn in_g1(&self, out: &mut Out, scalars: &[Fr]) -> std::io::Result<()> {
        for step in scalars.chunks(8 * STEP) {
            let points: Vec<_> =
                step.par_chunks(STEP).map(|part| self.g1.batch_mul(part)).collect();
            points.iter().flatten().try_for_each(|point| write_g1(out, point))?;
        }
        Ok(())
    }

    /// Writes a point of G2 for each scalar.
    fn in_g2(&self, out: &mut Out, scalars: &[Fr]) -> std::io::Result<()> {
        for step in scalars.chunks(8 * STEP) {
            let points: Vec<_> =
                step.par_chunks(STEP).map(|part| self.g2.batch_mul(part)).collect();
            points.iter().flatten().try_for_each(|point| write_g2(out, point))?;
        }
        Ok(())
    }
}

/// The polynomials of each signal at tau.
struct AtTau {
    a: Vec<Fr>,
    b: Vec<Fr>,
    c: Vec<Fr>,
}

/// The signal of `x_i` in a chain of `k` squarings.
fn signal(i: usize, k: usize) -> usize {
    if i == k { 1 } else { 2 + i }
}

/// Sums the rows of each signal, which weigh what `lagrange` says.
fn at_tau(lagrange: &[Fr], k: usize) -> AtTau {
    let zero = || vec![Fr::zero(); k + 2];
    let (mut a, mut b, mut c) = (zero(), zero(), zero());
    for i in 0..k {
        a[signal(i, k)] += lagrange[i];
        b[signal(i, k)] += lagrange[i];
        c[signal(i + 1, k)] += lagrange[i];
        c[0] -= lagrange[i] * Fr::from(i as u64);
    }
    a[0] += lagrange[k];
    a[1] += lagrange[k + 1];
    AtTau { a, b, c }
}

fn write_key(path: &Path, power: u32) -> Result<VerifyingKey<Bn254>, Box<dyn Error>> {
    let n = 1usize << power;
    let k = n - 2;
    let secrets = Secrets::new(n);
    let Secrets { tau, alpha, beta, gamma, delta, .. } = secrets;
    let domain = Radix2EvaluationDomain::<Fr>::new(n).ok_or("no domain")?;
    let AtTau { a, b, c } = at_tau(&domain.evaluate_all_lagrange_coefficients(tau), k);
    let (by_gamma, by_delta) = (gamma.inverse(), delta.inverse());
    let (by_gamma, by_delta) = by_gamma.zip(by_delta).ok_or("a secret is zero")?;
    let whole = |i: usize| beta * a[i] + alpha * b[i] + c[i];
    let public: Vec<Fr> = (0..2).map(|i| whole(i) * by_gamma).collect();
    let private: Vec<Fr> = (2..k + 2).into_par_iter().map(|i| whole(i) * by_delta).collect();
    let key = VerifyingKey {
        alpha_g1: secrets.one_g1(alpha),
        beta_g2: secrets.one_g2(beta),
        gamma_g2: secrets.one_g2(gamma),
        delta_g2: secrets.one_g2(delta),
        gamma_abc_g1: public.iter().map(|scalar| secrets.one_g1(*scalar)).collect(),
    };

    let mut file = BufWriter::new(File::create(path)?);
    let out = &mut file;
    out.write_all(b"zkey")?;
    [1u32, 9].iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    section(out, 1, |out| out.write_all(&1u32.to_le_bytes()))?;
    section(out, 2, |out| {
        for prime in [Fq::MODULUS, Fr::MODULUS] {
            out.write_all(&32u32.to_le_bytes())?;
            out.write_all(&prime.to_bytes_le())?;
        }
        let counts = [k as u32 + 2, 1, n as u32];
        counts.iter().try_for_each(|count| out.write_all(&count.to_le_bytes()))?;
        write_g1(out, &key.alpha_g1)?;
        write_g1(out, &secrets.one_g1(beta))?;
        write_g2(out, &key.beta_g2)?;
        write_g2(out, &key.gamma_g2)?;
        write_g1(out, &secrets.one_g1(delta))?;
        write_g2(out, &key.delta_g2)
    })?;
    section(out, 3, |out| secrets.in_g1(out, &public))?;
    section(out, 4, |out| write_coefficients(out, k))?;
    section(out, 5, |out| secrets.in_g1(out, &a))?;
    section(out, 6, |out| secrets.in_g1(out, &b))?;
    section(out, 7, |out| secrets.in_g2(out, &b))?;
    section(out, 8, |out| secrets.in_g1(out, &private))?;
    // The odd points of the domain of twice the size, which the quotient's values are for.
    let twice = Radix2EvaluationDomain::<Fr>::new(2 * n).ok_or("no domain of twice the size")?;
    let lagrange = twice.evaluate_all_lagrange_coefficients(tau);
    let odd: Vec<Fr> = lagrange.iter().skip(1).step_by(2).map(|value| *value * by_delta).collect();
    section(out, 9, |out| secrets.in_g1(out, &odd))?;
    out.flush()?;
    Ok(key)
}

/// Every coefficient is one: `matrix row signal value`, the value times 2^512.
fn write_coefficients(out: &mut Out, k: usize) -> std::io::Result<()> {
    out.write_all(&(2 * k as u32 + 2).to_le_bytes())?;
    let one = Fr::from(2u64).pow([512]).into_bigint().to_bytes_le();
    let mut write = |words: [usize; 3]| -> std::io::Result<()> {
        words.iter().try_for_each(|word| out.write_all(&(*word as u32).to_le_bytes()))?;
        out.write_all(&one)
    };
    for i in 0..k {
        write([0, i, signal(i, k)])?;
        write([1, i, signal(i, k)])?;
    }
    write([0, k, 0])?;
    write([0, k + 1, 1])
}

fn write_witness(path: &Path, power: u32) -> std::io::Result<()> {
    let k = (1usize << power) - 2;
    let mut values = vec![Fr::one(); k + 2];
    let mut x = Fr::from(3u64);
    for i in 0..k {
        values[signal(i, k)] = x;
        x = x.square() + Fr::from(i as u64);
    }
    values[1] = x;
    let mut file = BufWriter::new(File::create(path)?);
    let out = &mut file;
    out.write_all(b"wtns")?;
    [2u32, 2].iter().try_for_each(|word| out.write_all(&word.to_le_bytes()))?;
    section(out, 1, |out| {
        out.write_all(&32u32.to_le_bytes())?;
        out.write_all(&Fr::MODULUS.to_bytes_le())?;
        out.write_all(&(values.len() as u32).to_le_bytes())
    })?;
    section(out, 2, |out| {
        values.iter().try_for_each(|value| out.write_all(&value.into_bigint().to_bytes_le()))
    })?;
    out.flush()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let power = arguments.first().and_then(|text| text.parse::<u32>().ok());
    let (Some(power @ 3..=POWER_MAX), Some(folder)) = (power, arguments.get(1)) else {
        return Err(format!("usage: test_squares_key POWER FOLDER, POWER 3 to {POWER_MAX}").into());
    };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    write_witness(&folder.join("squares.wtns"), power)?;
    let key = write_key(&folder.join("squares.zkey"), power)?;
    write_verifying_key(&folder.join("squares.vkey.json"), &key)?;
    Ok(())
}
