//! `ntt::Domain` where ark-poly's domain was: ark-groth16's reduction and prover give the same, and
//! a transform has no more memory.
//!
//! ```text
//!   test -> this binary again, with plimsoll::Allocator under it
//!             transforms by ours, or by ark-poly's: the most that was live during them
//! ```
#![cfg(feature = "groth16")]

use ark_bn254::{Bn254, Fr};
use ark_ff::{FftField, PrimeField};
use ark_groth16::Groth16;
use ark_groth16::r1cs_to_qap::{LibsnarkReduction, R1CSToQAP};
use ark_poly::{EvaluationDomain, GeneralEvaluationDomain, Radix2EvaluationDomain};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, ConstraintSystemRef, Matrix, R1CS_PREDICATE_LABEL,
    SynthesisError,
};
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::ntt::Domain;
use plimsoll_test_support::{Circuit, ark_key, ark_proof, bytes, randomness};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::process::Command;

#[global_allocator]
static ALLOC: plimsoll::Allocator = plimsoll::Allocator::system();

/// Set for the program.
const PROGRAM: &str = "PLIMSOLL_TEST_PROGRAM";

/// Whatever domain ark-groth16 asks for, its reduction is over ours.
struct OverOurs;

impl R1CSToQAP for OverOurs {
    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        cs: ConstraintSystemRef<F>,
        t: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        LibsnarkReduction::instance_map_with_evaluation::<F, Domain<F>>(cs, t)
    }

    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        matrices: &[Matrix<F>],
        inputs: usize,
        constraints: usize,
        assignment: &[F],
    ) -> Result<Vec<F>, SynthesisError> {
        LibsnarkReduction::witness_map_from_matrices::<F, Domain<F>>(
            matrices,
            inputs,
            constraints,
            assignment,
        )
    }

    fn h_query_scalars<F: PrimeField, D: EvaluationDomain<F>>(
        power_max: usize,
        t: F,
        zt: F,
        delta_inverse: F,
    ) -> Result<Vec<F>, SynthesisError> {
        LibsnarkReduction::h_query_scalars::<F, Domain<F>>(power_max, t, zt, delta_inverse)
    }
}

fn circuit(links: usize) -> SquaringChain {
    SquaringChain::new(Fr::from(7), links)
}

#[test]
fn the_witness_map_of_ark_groth16_is_the_same() {
    for links in [1, 2, 5, 1000, 1021, 5000] {
        let cs = ConstraintSystem::<Fr>::new_ref();
        circuit(links).generate_constraints(cs.clone()).expect("constraints");
        cs.finalize();
        let matrices = &cs.to_matrices().expect("matrices")[R1CS_PREDICATE_LABEL];
        let inner = cs.borrow().expect("not consumed");
        let values = [inner.instance_assignment(), inner.witness_assignment()];
        let values = values.map(|part| part.expect("values")).concat();
        let (inputs, constraints) = (cs.num_instance_variables(), cs.num_constraints());
        macro_rules! mapped {
            ($domain:ident) => {
                LibsnarkReduction::witness_map_from_matrices::<Fr, $domain<Fr>>(
                    matrices,
                    inputs,
                    constraints,
                    &values,
                )
                .expect("a map")
            };
        }
        let ours = mapped!(Domain);
        assert!(ours == mapped!(GeneralEvaluationDomain), "{links} links");
        assert!(ours == mapped!(Radix2EvaluationDomain), "{links} links");
    }
}

#[test]
fn key_and_proof_of_ark_groth16_are_the_same() {
    type Ours = Groth16<Bn254, OverOurs>;
    let [mut rng, mut again] = [0; 2].map(|_| ChaCha20Rng::seed_from_u64(7));
    let circuit = Circuit::from(circuit(1500));
    let key = Ours::generate_random_parameters_with_reduction(circuit.clone(), &mut rng);
    let key = key.expect("a key");
    assert!(key == ark_key(circuit.clone(), &mut again), "another key");
    let (r, s) = randomness(8);
    let proof = Ours::create_proof_with_reduction(circuit.clone(), &key, r, s).expect("a proof");
    assert!(bytes(&proof) == ark_proof(&key, circuit, r, s), "another proof");
}

/// Coefficients, and a domain of twice as many points.
const COEFFICIENTS: usize = 1 << 17;

/// The bytes of blocks that were live at once while a vector became as long as a domain and was
/// transformed there and back, beyond those of the vector.
fn peak_bytes<D: EvaluationDomain<Fr>>() -> usize {
    let coset = D::new_coset(2 * COEFFICIENTS, Fr::GENERATOR).expect("a domain");
    let mut values = Vec::with_capacity(coset.size());
    values.resize(COEFFICIENTS, Fr::from(3));
    let before = ALLOC.stats();
    assert_eq!(before.live_bytes, before.live_peak_bytes, "the vector is all there was");
    coset.fft_in_place(&mut values);
    coset.ifft_in_place(&mut values);
    coset.fft_in_place(&mut values);
    ALLOC.stats().live_peak_bytes - before.live_bytes
}

/// The program: transforms by one of both. Does nothing in an ordinary run.
#[test]
fn program() {
    let peak = match std::env::var(PROGRAM).as_deref() {
        Ok("ours") => peak_bytes::<Domain<Fr>>(),
        Ok(_) => peak_bytes::<Radix2EvaluationDomain<Fr>>(),
        Err(_) => return,
    };
    println!("result {peak}");
}

#[test]
fn a_transform_has_no_more_memory_than_ark_polys() {
    let [ours, ark] = ["ours", "ark-poly"].map(|side| {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "program", "--nocapture", "--test-threads=1"]).env(PROGRAM, side);
        command.env_remove("PLIMSOLL_LIMIT").env_remove("PLIMSOLL_SPILL_DIR");
        let output = command.output().expect("a child");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), output.stderr);
        assert!(output.status.success(), "{side}: {out}{}", String::from_utf8_lossy(&err));
        let mut words = out.split_whitespace().skip_while(|word| *word != "result");
        words.nth(1).and_then(|word| word.parse::<usize>().ok()).expect("a number")
    });
    assert_eq!(ours, COEFFICIENTS * size_of::<Fr>(), "a table of half as many roots as points");
    assert!(ours <= ark, "{ours} bytes, ark-poly {ark}");
}
