//! Proof bytes equal ark-groth16's for ten seeds, at one and two threads, at three limits that
//! bind: at the smallest the chunks are the smallest and reclaim points act. Each seed has three of
//! the six, in turns.
//!
//! A limit is over the memory of the whole process, so this test has a process of its own.
#![cfg(feature = "groth16")]

use ark_bn254::Fr;
use ark_ff::UniformRand;
use plimsoll::Runtime;
use plimsoll::groth16::circuit::SquaringChain;
use plimsoll::groth16::plan::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, ProofPlan, Shape};
use plimsoll::groth16::prover::Prover;
use plimsoll::meter::Meter;
use plimsoll_test_support::{Keys, ark_proof, bytes, randomness, threads};
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;

/// What the process may grow by between planning here and planning in the prover.
const DRIFT_BYTES: usize = 1 << 20;

fn circuit(seed: u64) -> SquaringChain {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    SquaringChain::new(Fr::rand(&mut rng), 8_500)
}

/// Makes the proof at `share` percent of the smallest limit; returns its bytes, the chunk length
/// and how many bytes of blocks were given back on the way.
fn prove(keys: &Keys, seed: u64, share: usize) -> (Vec<u8>, usize, u64) {
    let (key, matrices) = keys.open();
    plimsoll_arena::os::trim_heap();
    let meter = Meter::live().expect("meter");
    let used = meter.rss_bytes().expect("RSS") as usize + DRIFT_BYTES;
    let shape = Shape::of(&key, Some(&matrices));
    let least = ProofPlan::in_core(&shape, used, CHUNK_LEN_MIN, rayon::current_num_threads());
    let limit = least.minimum_bytes() / 100 * share;
    let runtime =
        Runtime::builder().own_limit().limit_bytes(limit as u64).build().expect("runtime");
    let prover = Prover::new(&runtime, &key, Some(&matrices)).expect("prover");
    let (r, s) = randomness(seed);
    let assignment = prover.assign_circuit(circuit(seed)).expect("assignment");
    let proof = prover.prove(assignment, r, s).expect("proof");
    let pools = [runtime.pool(), runtime.secret_pool()];
    let given_back = pools.iter().map(|pool| pool.stats().reclaimed_total_bytes).sum();
    (bytes(&proof), prover.plan().chunk_len(), given_back)
}

#[test]
fn bytes_equal_ark_groth16_whatever_the_limit_and_the_threads() {
    let keys = Keys::make(circuit(0));
    let ark = keys.ark();
    let (mut chunks, mut acted) = (Vec::new(), 0);
    for seed in 0..10 {
        let (r, s) = randomness(seed);
        let expected = ark_proof(&ark, circuit(seed), r, s);
        for (turn, share) in (seed..).zip([101, 140, 200]) {
            let count = 1 + turn as usize % 2;
            let made = threads(count).install(|| prove(&keys, seed, share));
            let (ours, chunk_len, given_back) = made;
            assert_eq!(ours, expected, "seed {seed}, {count} threads, {share} % of the least");
            chunks.push(chunk_len);
            acted += given_back;
        }
    }
    assert!(chunks.contains(&CHUNK_LEN_MAX), "the largest limit leaves room: {chunks:?}");
    assert!(chunks.iter().any(|len| *len < CHUNK_LEN_MAX), "the smallest does not: {chunks:?}");
    assert!(acted > 0, "no block ever gave way to another");
}
