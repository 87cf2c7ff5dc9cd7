//! A snarkjs key of any circuit, from secrets that are a hash of a public word.
//!
//! Every point is one multiplication of a generator by a known number, so a key takes seconds where
//! a ceremony takes hours. Whoever reads this file can forge proofs for it.
//!
//! Source of the layout: src/groth16/circom/zkey.rs; of the points: Groth, eprint 2016/260.

use crate::iden3::{Out, section, write_g1, write_g2};
use ark_bn254::{Bn254, Fq, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::scalar_mul::BatchMulPreprocessing;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{BigInteger, Field, One, PrimeField, UniformRand, Zero};
use ark_groth16::VerifyingKey;
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use plimsoll::groth16::circom::r1cs::{R1csFile, Term};
use plimsoll::groth16::r1cs::Matrix;
use rand::SeedableRng;
use rayon::prelude::*;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Points that are made at a time.
const STEP: usize = 1 << 16;

/// A circuit whose terms can be read twice.
pub(crate) trait Circuit {
    /// Signals, the constant one among them.
    fn signals(&self) -> usize;
    /// Public signals, which come after the constant one.
    fn public(&self) -> usize;
    /// Constraints.
    fn rows(&self) -> usize;
    /// Calls `each` with every term.
    fn visit(&self, each: &mut dyn FnMut(Term)) -> Result<(), Box<dyn Error>>;
}

impl Circuit for R1csFile {
    fn signals(&self) -> usize {
        self.wires()
    }

    fn public(&self) -> usize {
        self.public_inputs()
    }

    fn rows(&self) -> usize {
        self.constraints()
    }

    fn visit(&self, each: &mut dyn FnMut(Term)) -> Result<(), Box<dyn Error>> {
        Ok(self.for_each_term(each)?)
    }
}

/// Visits the terms of a circuit, and those that snarkjs appends: a row for the constant one and
/// each public signal.
fn visit_all(circuit: &dyn Circuit, each: &mut dyn FnMut(Term)) -> Result<(), Box<dyn Error>> {
    circuit.visit(each)?;
    for wire in 0..=circuit.public() {
        let row = circuit.rows() + wire;
        each(Term { row, matrix: Matrix::A, wire, value: Fr::one() });
    }
    Ok(())
}

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

/// The polynomials A, B and C of each signal at tau: its terms, each weighed by its row.
fn at_tau(circuit: &dyn Circuit, lagrange: &[Fr]) -> Result<[Vec<Fr>; 3], Box<dyn Error>> {
    let mut sums = [(); 3].map(|()| vec![Fr::zero(); circuit.signals()]);
    visit_all(circuit, &mut |term| {
        let weight = lagrange[term.row];
        let weight = if term.value.is_one() { weight } else { weight * term.value };
        sums[term.matrix as usize][term.wire] += weight;
    })?;
    Ok(sums)
}

/// Writes the key of `circuit` to `path`, and returns its verifying key.
pub(crate) fn write_key(
    path: &Path,
    circuit: &dyn Circuit,
) -> Result<VerifyingKey<Bn254>, Box<dyn Error>> {
    let (signals, public) = (circuit.signals(), circuit.public());
    let n = (circuit.rows() + public + 1).next_power_of_two();
    let secrets = Secrets::new(n);
    let Secrets { tau, alpha, beta, gamma, delta, .. } = secrets;
    let domain = Radix2EvaluationDomain::<Fr>::new(n).ok_or("no domain")?;
    let [a, b, c] = at_tau(circuit, &domain.evaluate_all_lagrange_coefficients(tau))?;
    let (by_gamma, by_delta) = (gamma.inverse(), delta.inverse());
    let (by_gamma, by_delta) = by_gamma.zip(by_delta).ok_or("a secret is zero")?;
    let whole = |i: usize| beta * a[i] + alpha * b[i] + c[i];
    let inputs: Vec<Fr> = (0..=public).map(|i| whole(i) * by_gamma).collect();
    let private: Vec<Fr> =
        (public + 1..signals).into_par_iter().map(|i| whole(i) * by_delta).collect();
    let key = VerifyingKey {
        alpha_g1: secrets.one_g1(alpha),
        beta_g2: secrets.one_g2(beta),
        gamma_g2: secrets.one_g2(gamma),
        delta_g2: secrets.one_g2(delta),
        gamma_abc_g1: inputs.iter().map(|scalar| secrets.one_g1(*scalar)).collect(),
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
        let counts = [signals as u32, public as u32, n as u32];
        counts.iter().try_for_each(|count| out.write_all(&count.to_le_bytes()))?;
        write_g1(out, &key.alpha_g1)?;
        write_g1(out, &secrets.one_g1(beta))?;
        write_g2(out, &key.beta_g2)?;
        write_g2(out, &key.gamma_g2)?;
        write_g1(out, &secrets.one_g1(delta))?;
        write_g2(out, &key.delta_g2)
    })?;
    section(out, 3, |out| secrets.in_g1(out, &inputs))?;
    write_coefficients(out, circuit)?;
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

/// Writes section 4: `matrix row signal value` for each term of A and B, the value times 2^512.
fn write_coefficients(out: &mut Out, circuit: &dyn Circuit) -> Result<(), Box<dyn Error>> {
    let mut count = 0u32;
    visit_all(circuit, &mut |term| count += u32::from(term.matrix != Matrix::C))?;
    let shift = Fr::from(2u64).pow([512]);
    let one = shift.into_bigint().to_bytes_le();
    let mut visited = Ok(());
    section(out, 4, |out| {
        out.write_all(&count.to_le_bytes())?;
        let mut written = Ok(());
        visited = visit_all(circuit, &mut |Term { row, matrix, wire, value }| {
            if matrix == Matrix::C || written.is_err() {
                return;
            }
            written = [matrix as usize, row, wire]
                .iter()
                .try_for_each(|word| out.write_all(&(*word as u32).to_le_bytes()))
                .and_then(|()| match value.is_one() {
                    true => out.write_all(&one),
                    false => out.write_all(&(value * shift).into_bigint().to_bytes_le()),
                });
        });
        written
    })?;
    visited
}
