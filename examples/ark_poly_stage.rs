//! One stage of a prover, moved from ark-poly onto a memory budget.
//!
//! The stage evaluates polynomials on a coset, adds their products, and interpolates: the shape of
//! every quotient. First as a prover with ark-poly does it, then out of core under a limit, with
//! the same result.
//!
//! `cargo run --release --example ark_poly_stage -- 18` runs it for 2^18 coefficients.

use ark_bn254::Fr;
use ark_ff::{FftField, UniformRand};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use plimsoll::limit::format_bytes;
use plimsoll::ntt::{Form, Leave, OutOfCore, OutOfCoreError, Plan, Transform, Visit};
use plimsoll::spill::SpillOptions;
use plimsoll::tiles::Tiles;
use plimsoll::{Runtime, Secrecy};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// Coefficients written at a time: a prover has them from somewhere, and not all at once.
const CHUNK: usize = 1 << 12;

/// What memory the transforms may take beside the program itself.
const BUDGET_BYTES: usize = 24 << 20;

/// The coefficients of polynomial `seed`, from any index on.
fn coefficients(seed: u64, start: usize, out: &mut [Fr]) {
    for (i, chunk) in out.chunks_mut(CHUNK).enumerate() {
        let mut rng = ChaCha20Rng::seed_from_u64(seed << 32 | (start / CHUNK + i) as u64);
        chunk.iter_mut().for_each(|value| *value = Fr::rand(&mut rng));
    }
}

/// Before: three vectors of n on the heap.
fn with_ark_poly(n: usize) -> Vec<Fr> {
    let domain = Radix2EvaluationDomain::<Fr>::new(n).expect("a domain of 2^k points");
    let coset = domain.get_coset(Fr::GENERATOR).expect("an offset outside the domain");
    let evaluate = |seed| {
        let mut values = vec![Fr::default(); n];
        coefficients(seed, 0, &mut values);
        coset.fft_in_place(&mut values);
        values
    };
    let (mut a, b) = (evaluate(1), evaluate(2));
    for (a, b) in a.iter_mut().zip(&b) {
        *a *= b;
    }
    coset.ifft_in_place(&mut a);
    a
}

/// After: stripes of two vectors in memory, the rest wherever there is room.
fn out_of_core(runtime: &Runtime, log_n: u32) -> Result<Tiles<Fr>, Box<dyn std::error::Error>> {
    let offset = Fr::GENERATOR;
    let plan = Plan::for_vectors(log_n, size_of::<Fr>(), 2, BUDGET_BYTES)?;
    println!("{plan}\n");
    let transform = OutOfCore::<Fr>::new(runtime, plan)?;
    // A reclaim point: what others cached goes before the stage begins, not in the middle of it.
    let _stage = runtime.stage("quotient", plan.resident_bytes() as u64)?;
    let mut vectors = Vec::new();
    for seed in [1, 2] {
        let mut tiles = transform.vector(Secrecy::Public);
        let mut chunk = vec![Fr::default(); CHUNK];
        for start in (0..1 << log_n).step_by(CHUNK) {
            coefficients(seed, start, &mut chunk);
            tiles.write_range(start, &chunk)?;
        }
        transform.coset_fft(&mut tiles, offset)?;
        vectors.push(tiles);
    }
    let [a, b] = <[_; 2]>::try_from(vectors).map_err(|_| "two vectors")?;
    // The product costs no pass of its own: it is made while the first pass of the inverse has a
    // stripe of each vector in memory.
    let visits =
        [Visit::new(a, Leave::Toward(Form::Inverse(offset))), Visit::new(b, Leave::Dropped)];
    let [product, _] = transform.visit_columns(visits, |_, [a, b]| {
        a.iter_mut().zip(b.iter()).for_each(|(a, b)| *a *= b);
        Ok::<(), OutOfCoreError>(())
    })?;
    Ok(product.finish(&transform)?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log_n: u32 = std::env::args().nth(1).map_or(Ok(18), |text| text.parse())?;
    let folder = std::env::var_os("SPILL_DIR").unwrap_or("/var/tmp".into());
    let runtime = Runtime::builder().spill(SpillOptions::new(folder)).build()?;
    let used = runtime.stats().foreign_bytes;
    runtime.set_limit_bytes(Some((used + BUDGET_BYTES) as u64 + (8 << 20)));

    let product = out_of_core(&runtime, log_n)?;
    let stats = runtime.spill_stats();
    println!(
        "under {}: {} spilled, {} brought back",
        format_bytes(runtime.limit_bytes().unwrap_or(0)),
        format_bytes(stats.spilled_total),
        format_bytes(stats.loaded_total),
    );

    // The comparison needs the memory that the stage does without.
    runtime.set_limit_bytes(None);
    let expected = with_ark_poly(1 << log_n);
    let mut chunk = vec![Fr::default(); CHUNK];
    for (i, expected) in expected.chunks(CHUNK).enumerate() {
        product.read_range(i * CHUNK, &mut chunk[..expected.len()])?;
        assert_eq!(&chunk[..expected.len()], expected, "the same coefficients");
    }
    println!("the same {} coefficients as ark-poly", expected.len());
    Ok(())
}
