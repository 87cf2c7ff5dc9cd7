//! The last steps of a proof, alone or in a batch.

use super::failure::Failure;
use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::Proof;
use plimsoll::Runtime;
use plimsoll::groth16::assignment::Assignment;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::plan::{CHUNK_LEN_MIN, ProofPlan, Shape, used_bytes};
use plimsoll::groth16::prover::Prover;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::limit::format_bytes;
use plimsoll::record::KnownLimits;
use rand_chacha::ChaCha20Rng;
use zeroize::Zeroizing;

/// A proof, its public inputs, and the size of its domain.
pub(super) struct Proved {
    pub(super) proof: Proof<Bn254>,
    pub(super) public: Vec<Fr>,
    pub(super) domain_size: usize,
    /// Tiles that this rank sent to others.
    pub(super) sent_bytes: u64,
}

/// Returns the limits that a proof with `key` can be made under.
pub(super) fn known_limits(
    runtime: &Runtime,
    key: &KeyFile,
    matrices: Option<&MatrixFile>,
) -> Result<KnownLimits, Failure> {
    let (shape, threads) = (Shape::of(key, matrices), rayon::current_num_threads());
    let used = used_bytes(runtime, threads)?;
    let in_core = ProofPlan::in_core(&shape, used, CHUNK_LEN_MIN, threads);
    let smallest = ProofPlan::smallest(&shape, used, threads, runtime.can_spill());
    Ok(KnownLimits {
        in_core_bytes: in_core.minimum_bytes() as u64,
        smallest_bytes: smallest.minimum_bytes() as u64,
    })
}

/// Draws r and s, and makes the proof.
pub(super) fn finish(
    prover: &Prover<'_>,
    key: &KeyFile,
    assignment: Assignment,
    rng: &mut ChaCha20Rng,
) -> Result<Proved, ProveError> {
    let public = assignment.first(key.public_inputs() + 1)?.split_off(1);
    let (r, s) = (Zeroizing::new(Fr::rand(rng)), Zeroizing::new(Fr::rand(rng)));
    let proof = prover.prove(assignment, *r, *s)?;
    Ok(Proved { proof, public, domain_size: key.domain_size(), sent_bytes: prover.sent_bytes() })
}

/// Says that a proof was made, and that it cannot be relied on to fit again.
pub(super) fn over_the_limit(peak_rss_bytes: u64, limit_bytes: u64) -> Failure {
    Failure::NoProof(format!(
        "a proof was made, but the process took {} at its peak, over the limit of {}; please \
         report it with the output of `plimsoll plan`, and raise the limit meanwhile",
        format_bytes(peak_rss_bytes),
        format_bytes(limit_bytes),
    ))
}
