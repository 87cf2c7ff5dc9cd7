//! Proof bytes equal ark-groth16's; wrong witnesses, limits and files are told. Limits that bind
//! are in tests/same_bytes.rs, for ten seeds and two thread counts.

use ark_bn254::Fr;
use ark_ff::One;
use ark_relations::gr1cs::ConstraintSynthesizer;
use plimsoll::groth16::assignment::Assignment;
use plimsoll::groth16::circuit::{Sha256Chain, SquaringChain};
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::plan::{CHUNK_LEN_MIN, ProofPlan, Shape};
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::{Matrix, MatrixFile};
use plimsoll::{Error, Runtime};
use plimsoll_test_support::{Keys, ark_proof, bytes, randomness, threads};

/// Bytes above the plan's base that other tests of this process may take meanwhile.
const NEIGHBOURS_BYTES: usize = 2 << 30;

/// Limits at 1, 1.5 and 2 times what the plan says is the least.
fn limits(keys: &Keys, threads: usize) -> [usize; 3] {
    let (key, matrices) = keys.open();
    let shape = Shape::of(&key, Some(&matrices));
    let least =
        ProofPlan::in_core(&shape, NEIGHBOURS_BYTES, CHUNK_LEN_MIN, threads).minimum_bytes();
    [least, least * 3 / 2, least * 2]
}

fn our_proof<C>(keys: &Keys, circuit: C, seed: u64, limit: usize) -> Vec<u8>
where
    C: ConstraintSynthesizer<Fr>,
{
    let (key, matrices) = keys.open();
    let runtime =
        Runtime::builder().own_limit().limit_bytes(limit as u64).build().expect("runtime");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let (r, s) = randomness(seed);
    let assignment = prover.assign_circuit(circuit).expect("assignment");
    let proof = prover.prove(assignment, r, s).expect("proof");
    assert!(runtime.pool().check() && runtime.secret_pool().check());
    assert_eq!(runtime.pool().stats().live_bytes, 0);
    bytes(&proof)
}

#[test]
fn bytes_equal_ark_groth16_for_sha256() {
    let circuit = Sha256Chain::new([5; 32], 1);
    let keys = Keys::make(circuit.clone());
    let (r, s) = randomness(3);
    let expected = ark_proof(&keys.ark(), circuit.clone(), r, s);
    for (count, limit) in [1, 2, 3].into_iter().zip(limits(&keys, 3)) {
        let ours = threads(count).install(|| our_proof(&keys, circuit.clone(), 3, limit));
        assert_eq!(ours, expected, "{count} threads, limit {limit}");
    }
    // Another secret of the same circuit, with the same key.
    let other = Sha256Chain::new([6; 32], 1);
    let expected = ark_proof(&keys.ark(), other.clone(), r, s);
    assert_eq!(our_proof(&keys, other, 3, usize::MAX), expected);
}

#[test]
fn zero_randomness_is_legal() {
    let circuit = SquaringChain::new(Fr::from(3u64), 40);
    let keys = Keys::make(circuit.clone());
    let zero = Fr::default();
    let expected = ark_proof(&keys.ark(), circuit.clone(), zero, zero);
    let (key, matrices) = keys.open();
    let runtime = Runtime::builder().own_limit().build().expect("runtime");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let assignment = prover.assign_circuit(circuit).expect("assignment");
    assert_eq!(bytes(&prover.prove(assignment, zero, zero).expect("proof")), expected);
}

#[test]
fn a_witness_that_is_no_solution_is_named_by_its_constraint() {
    let circuit = SquaringChain::new(Fr::from(3u64), 6000);
    let keys = Keys::make(circuit.clone());
    let (key, matrices) = keys.open();
    let runtime = Runtime::builder().own_limit().build().expect("runtime");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let assignment = prover.assign_circuit(circuit).expect("assignment");
    let mut values = Vec::new();
    let copied = assignment.for_each_piece(0..assignment.len(), usize::MAX, |_, piece| {
        values.extend_from_slice(piece);
        Ok(())
    });
    copied.expect("it is in memory");
    // Variable 0 is the one, 1 the public input, 2 the secret: variable 5003 is link 5001.
    values[5003] += Fr::one();
    let values = runtime.secret_pool().try_copied(&values).expect("memory");
    let assignment = Assignment::from_vector(&runtime, values);
    match prover.prove(assignment, Fr::one(), Fr::one()) {
        Err(ProveError::Unsatisfied { row }) => assert!(row == 5000 || row == 5001, "{row}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_limit_below_the_plan_is_refused_before_any_work() {
    let keys = Keys::make(SquaringChain::new(Fr::from(3u64), 3000));
    let (key, matrices) = keys.open();
    let runtime = Runtime::builder().own_limit().limit_bytes(1 << 20).build().expect("runtime");
    let refused = Prover::new(&runtime, &key, Some(&matrices)).expect_err("a limit of 1 MiB");
    let ProveError::Runtime(Error::OverLimit { fits_bytes, holders, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(*fits_bytes > 1 << 20 && !holders.is_empty());
    let text = refused.to_string();
    assert!(text.contains("smallest limit") && text.contains("MiB"), "{text}");
    assert!(runtime.take_stages().is_empty(), "no stage may have begun");
}

#[test]
fn files_of_different_setups_are_told_apart() {
    let one = Keys::make(SquaringChain::new(Fr::from(3u64), 100));
    let two = Keys::make(SquaringChain::new(Fr::from(3u64), 101));
    let (key, _) = one.open();
    let (_, matrices) = two.open();
    let runtime = Runtime::builder().own_limit().build().expect("runtime");
    let refused = Prover::new(&runtime, &key, Some(&matrices)).expect_err("mixed files");
    assert!(matches!(refused, ProveError::Mismatch { .. }), "{refused:?}");
    let refused = Prover::new(&runtime, &key, None).expect_err("no matrices");
    assert!(matches!(refused, ProveError::NoMatrices));
}

#[test]
fn every_damaged_byte_of_a_matrix_file_is_found() {
    let keys = Keys::make(SquaringChain::new(Fr::from(3u64), 20));
    let good = std::fs::read(&keys.matrix_path).expect("the matrices just made");
    let assignment = vec![Fr::one(); keys.open().1.shape().variables];
    let read = |bytes: &[u8]| -> Result<(), ProveError> {
        std::fs::write(&keys.matrix_path, bytes).expect("written");
        let file = MatrixFile::open(&keys.matrix_path)?;
        let mut out = vec![Fr::default(); file.shape().constraints];
        for matrix in [Matrix::A, Matrix::B, Matrix::C] {
            file.evaluate(matrix, &assignment, &mut out)?;
        }
        Ok(())
    };
    read(&good).expect("undamaged");
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(matches!(read(&damaged), Err(ProveError::Matrices(_))), "byte {at}");
        assert!(matches!(read(&good[..at]), Err(ProveError::Matrices(_))), "cut at {at}");
    }
}
