//! The prover: five multi-scalar multiplications and a quotient, one stage after the other.
//!
//! ```text
//!   stage       holds                                  reads
//!   witness     assignment                             circuit or .wtns
//!   quotient    assignment, two or three of n, roots   matrices
//!   msm H       assignment, h, buckets, a chunk        H query
//!   msm L..B2   assignment, buckets, a chunk           L, A, B1, B2 queries
//!   verify      nothing of size                        verifying key
//! ```
//!
//! Every stage begins with a reclaim point for what [`ProofPlan`] says it needs; the same plan
//! refuses a limit that is too small before any work is done. The key is never on the heap: points
//! are decoded from the file a chunk at a time, checked, multiplied and let go.
//!
//! With `w` the assignment and the queries named as in ark-groth16:
//!
//! ```text
//!   A = alpha + sum w_i A_i + r delta        B = beta + sum w_i B_i + s delta   (in G2; B1 in G1)
//!   C = sum h_i H_i + sum w_j L_j + s A + r B1 - r s delta
//! ```
//!
//! The proof is checked before it is returned: B in the right subgroup (a key with a point outside
//! it would leak the witness), and the pairing equation. Points are group elements, so the bytes
//! of a proof depend on key, assignment, r and s alone: not on limit, threads or chunks.
//!
//! Of several ranks each makes its share of the quotient and of the sum over H, and its piece of
//! the other sums (`plan/ranks.rs`); rank 0 adds the sums up (`together.rs`).
//!
//! Source: J. Groth, "On the Size of Pairing-Based Non-interactive Arguments", 2016.

mod sums;

use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::circom::wtns::WitnessFile;
use crate::groth16::circuit;
use crate::groth16::error::ProveError;
use crate::groth16::key::{KeyFile, KeyKind};
use crate::groth16::partial::Sums;
use crate::groth16::plan::{ProofPlan, Shape, StageName};
use crate::groth16::r1cs::MatrixFile;
use crate::groth16::together::Together;
use crate::ntt::{Plan, Ranks};
use crate::ranks::Exchange;
use crate::stage::Stage;
use ark_bn254::{Bn254, Fr, G1Projective, G2Projective};
use ark_ec::CurveGroup;
use ark_groth16::{Groth16, Proof, prepare_verifying_key};
use ark_relations::gr1cs::ConstraintSynthesizer;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use plimsoll_arena::process::Expected;
use zeroize::{Zeroize, Zeroizing};

/// Hears how a proof gets on.
pub trait Progress: Sync {
    /// Stage `index` of `count` begins.
    fn stage(&self, name: &str, index: usize, count: usize);
    /// `done` of `total` points of the stage are done, or of the quotient's steps, which are matrix
    /// products and transforms, or parts of them.
    fn advance(&self, done: usize, total: usize);
}

impl Progress for () {
    fn stage(&self, _name: &str, _index: usize, _count: usize) {}
    fn advance(&self, _done: usize, _total: usize) {}
}

/// Makes proofs for one key under one runtime's limit. Holding one proves that key and matrices
/// belong together and that the planned stages fit.
pub struct Prover<'a> {
    runtime: &'a Runtime,
    key: &'a KeyFile,
    matrices: Option<&'a MatrixFile>,
    progress: &'a dyn Progress,
    plan: ProofPlan,
    together: Together<'a>,
    /// What the plan allows the program itself. Who grants a permit has allowed it once for all.
    _expected: Option<Expected>,
}

impl std::fmt::Debug for Prover<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prover").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl<'a> Prover<'a> {
    /// Plans a proof with `key`: with `matrices` for a key of arkworks, without for a zkey.
    ///
    /// # Errors
    ///
    /// [`ProveError::NoMatrices`] or [`ProveError::Mismatch`] when the files do not belong
    /// together; [`OverLimit`](crate::Error::OverLimit) when the limit is below what the plan
    /// needs; [`Spill`](crate::Error::Spill) when the witness would be swapped to a disk in the
    /// clear.
    pub fn new(
        runtime: &'a Runtime,
        key: &'a KeyFile,
        matrices: Option<&'a MatrixFile>,
    ) -> Result<Self, ProveError> {
        Self::with(runtime, key, matrices, Together::alone())
    }

    /// Plans one rank's part of a proof that all ranks of `exchange` make together. Each rank calls
    /// this, and then the same methods in the same order, with the same key, the same assignment
    /// and under a limit of its own. Vectors and sums are shared out; the assignment is whole on
    /// each rank.
    ///
    /// # Errors
    ///
    /// As [`Prover::new`], and [`ProveError::Plan`] for more ranks than there are stripes.
    /// [`ProveError::Ranks`] on all ranks when one of them cannot go on, which it names: also when
    /// their keys or versions differ. That holds of every method of a prover that is not alone.
    pub fn over(
        runtime: &'a Runtime,
        key: &'a KeyFile,
        matrices: Option<&'a MatrixFile>,
        exchange: &'a mut dyn Exchange,
    ) -> Result<Self, ProveError> {
        let together = Together::over(exchange)?;
        together.same("the version of the program", version_hash())?;
        together.same("the key", fingerprint(key) ^ key.source.len())?;
        Self::with(runtime, key, matrices, together)
    }

    fn with(
        runtime: &'a Runtime,
        key: &'a KeyFile,
        matrices: Option<&'a MatrixFile>,
        together: Together<'a>,
    ) -> Result<Self, ProveError> {
        together.all(check_files(runtime, key, matrices))?;
        let shape = Shape::of(key, matrices);
        let count = together.share().ranks();
        let plan = |stripe_len_max| {
            let ranks = Ranks { count, stripe_len_max };
            together.all(ProofPlan::for_ranks(&shape, runtime, ranks))
        };
        let mut fitted = plan(usize::MAX)?;
        let stripe_len = |plan: &ProofPlan| plan.split().map_or(0, Plan::stripe_len) as u64;
        let shortest = together.least(stripe_len(&fitted))?;
        if shortest < stripe_len(&fitted) {
            fitted = plan(shortest as usize)?;
        }
        together.same("how a transform is cut", stripe_len(&fitted))?;
        // What the plan allows the program itself is not for vectors, even before it is used.
        let is_alone = runtime.permit_name().is_none();
        let _expected = is_alone.then(|| runtime.expect_foreign(fitted.base_bytes()));
        Ok(Self { runtime, key, matrices, progress: &(), plan: fitted, together, _expected })
    }

    /// Reports progress to `progress`.
    #[must_use]
    pub fn progress(mut self, progress: &'a dyn Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Returns the plan the stages follow.
    #[must_use]
    pub fn plan(&self) -> &ProofPlan {
        &self.plan
    }

    /// Runs an arkworks circuit and returns its assignment.
    ///
    /// # Errors
    ///
    /// What the circuit or the limit says; [`ProveError::Mismatch`] when the circuit is not the
    /// key's.
    pub fn assign_circuit<C>(&self, circuit: C) -> Result<Assignment, ProveError>
    where
        C: ConstraintSynthesizer<Fr>,
    {
        self.together.all(self.run_circuit(circuit))
    }

    fn run_circuit<C: ConstraintSynthesizer<Fr>>(
        &self,
        circuit: C,
    ) -> Result<Assignment, ProveError> {
        let _stage = self.stage(StageName::Witness)?;
        let (variables, segment_len) = (self.key.variables(), self.plan.segment_len());
        let assignment = circuit::assign(self.runtime, circuit, variables, segment_len)?;
        self.check_assignment(&assignment)?;
        Ok(assignment)
    }

    /// Reads the assignment from a .wtns file.
    ///
    /// # Errors
    ///
    /// What the file or the limit says.
    pub fn assign_witness(&self, witness: &WitnessFile) -> Result<Assignment, ProveError> {
        self.together.all(self.read_witness(witness))
    }

    fn read_witness(&self, witness: &WitnessFile) -> Result<Assignment, ProveError> {
        let _stage = self.stage(StageName::Witness)?;
        witness.check_is_of(self.key)?;
        let (len, chunk_len) = (witness.len(), self.plan.chunk_len());
        Assignment::try_fill(self.runtime, len, self.plan.segment_len(), |first, segment| {
            for (i, chunk) in segment.chunks_mut(chunk_len).enumerate() {
                let start = first + i * chunk_len;
                witness.read(start, chunk)?;
                self.progress.advance(start + chunk.len(), len);
            }
            Ok(())
        })
    }

    /// Makes and verifies the proof for `assignment` with the randomness `r` and `s`.
    ///
    /// The assignment is `[1, public inputs, witness]`; it is wiped when it is not needed any more.
    /// `r` and `s` must be fresh and uniform for the proof to hide the witness. These two copies
    /// are wiped when the proof is made; the caller's are the caller's to wipe, and what the
    /// arithmetic leaves in registers and on the stack is not reached. Of several ranks those of
    /// rank 0 count, and all get the proof.
    ///
    /// # Errors
    ///
    /// [`ProveError::Unsatisfied`] or [`ProveError::NotVerified`] for an assignment that is not a
    /// solution; otherwise what limit and files say.
    pub fn prove(
        &self,
        assignment: Assignment,
        mut r: Fr,
        mut s: Fr,
    ) -> Result<Proof<Bn254>, ProveError> {
        let proof = self.prove_with(assignment, &r, &s);
        r.zeroize();
        s.zeroize();
        proof
    }

    fn prove_with(
        &self,
        assignment: Assignment,
        r: &Fr,
        s: &Fr,
    ) -> Result<Proof<Bn254>, ProveError> {
        self.together.all(self.check_assignment(&assignment))?;
        if self.together.share().ranks() > 1 {
            let hash = self.together.all(assignment.hash())?;
            self.together.same("the assignment", hash)?;
        }
        let sums = self.sums(&assignment)?;
        let public =
            self.together.all(assignment.first(self.key.public_inputs() + 1))?.split_off(1);
        drop(assignment);
        let made = match self.together.gather(sums.bytes())? {
            Some(all) => Sums::add_up(&all)
                .and_then(|sums| self.finish(&sums, &public, [r, s]))
                .map(|proof| proof_bytes(&proof)),
            None => Ok(Vec::new()),
        };
        let proof = self.together.broadcast(self.together.all(made)?)?;
        Ok(Proof::deserialize_uncompressed_unchecked(&proof[..])?)
    }

    /// Makes the proof of the whole sums, and verifies it.
    fn finish(
        &self,
        sums: &Sums,
        public: &[Fr],
        [r, s]: [&Fr; 2],
    ) -> Result<Proof<Bn254>, ProveError> {
        let delta: G1Projective = self.key.delta_g1().into();
        let a = sums.a + self.key.alpha_g1() + delta * r;
        let b1 = sums.b1 + self.key.beta_g1() + delta * s;
        let b2 = sums.b2 + self.key.beta_g2() + G2Projective::from(self.key.delta_g2()) * s;
        let c = sums.h + sums.l + a * s + b1 * r - delta * *Zeroizing::new(*r * s);
        let proof = Proof { a: a.into_affine(), b: b2.into_affine(), c: c.into_affine() };
        self.verify(&proof, public)?;
        Ok(proof)
    }

    /// Returns the bytes of tiles that this rank has sent to others; none alone.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.together.tile_bytes()
    }

    /// Checks `proof` against the key's verifying key and `public` inputs, with ark-groth16's own
    /// verifier.
    ///
    /// # Errors
    ///
    /// [`ProveError::NotVerified`] when it does not hold.
    pub fn verify(&self, proof: &Proof<Bn254>, public: &[Fr]) -> Result<(), ProveError> {
        let _stage = self.stage(StageName::Verify)?;
        if !proof.b.is_in_correct_subgroup_assuming_on_curve() {
            return Err(ProveError::NotVerified);
        }
        let key = prepare_verifying_key(self.key.verifying_key());
        match Groth16::<Bn254>::verify_proof(&key, proof, public) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ProveError::NotVerified),
            Err(error) => Err(error.into()),
        }
    }

    fn stage(&self, name: StageName) -> Result<Stage, ProveError> {
        let (index, count) = (name as usize, StageName::ALL.len());
        self.progress.stage(name.text(), index, count);
        self.runtime.shrink_cached(self.plan.cached_bytes(name) as u64);
        Ok(self.runtime.stage(name.text(), self.plan.need_bytes(name) as u64)?)
    }

    fn check_assignment(&self, assignment: &Assignment) -> Result<(), ProveError> {
        let (one, other) = (self.key.variables(), assignment.len());
        if one == other {
            return Ok(());
        }
        Err(ProveError::Mismatch {
            what: "the key and the assignment differ in length",
            one,
            other,
        })
    }
}

/// Checks what can be checked before a proof is planned.
fn check_files(
    runtime: &Runtime,
    key: &KeyFile,
    matrices: Option<&MatrixFile>,
) -> Result<(), ProveError> {
    if let Some(matrices) = matrices.filter(|_| key.kind() == KeyKind::Arkworks) {
        check_match(key, matrices)?;
    } else if key.kind() == KeyKind::Arkworks {
        return Err(ProveError::NoMatrices);
    }
    Ok(runtime.spill().takes_secrets()?)
}

/// Returns a number that tells programs apart whose messages the other would not understand.
fn version_hash() -> u64 {
    let word = size_of::<usize>().to_ne_bytes();
    twox_hash::XxHash3_64::oneshot(&[env!("CARGO_PKG_VERSION").as_bytes(), &word].concat())
}

fn proof_bytes(proof: &Proof<Bn254>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(proof.uncompressed_size());
    // Writing into a vector does not fail.
    let _ = proof.serialize_uncompressed(&mut bytes);
    bytes
}

/// Checks that the matrices were written with this key.
fn check_match(key: &KeyFile, matrices: &MatrixFile) -> Result<(), ProveError> {
    let shape = matrices.shape();
    let pairs = [
        ("the numbers of variables differ", key.variables(), shape.variables),
        ("the numbers of public inputs differ", key.public_inputs() + 1, shape.instance),
        (
            "the domain sizes differ",
            key.domain_size(),
            (shape.constraints + shape.instance).next_power_of_two(),
        ),
        ("the fingerprints differ", fingerprint(key) as usize, shape.key_fingerprint as usize),
    ];
    match pairs.into_iter().find(|(_, one, other)| one != other) {
        Some((what, one, other)) => Err(ProveError::Mismatch { what, one, other }),
        None => Ok(()),
    }
}

/// Returns a number that tells keys apart: the hash of the verifying key.
#[must_use]
pub fn fingerprint(key: &KeyFile) -> u64 {
    fingerprint_of(key.verifying_key())
}

pub(crate) fn fingerprint_of(key: &ark_groth16::VerifyingKey<Bn254>) -> u64 {
    let mut bytes = Vec::with_capacity(key.uncompressed_size());
    // Writing into a vector does not fail.
    let _ = key.serialize_uncompressed(&mut bytes);
    twox_hash::XxHash3_64::oneshot(&bytes)
}
