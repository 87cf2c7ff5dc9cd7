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
//! Source: J. Groth, "On the Size of Pairing-Based Non-interactive Arguments", 2016.

use crate::Runtime;
use crate::groth16::assignment::Assignment;
use crate::groth16::circom::wtns::WitnessFile;
use crate::groth16::circuit;
use crate::groth16::error::ProveError;
use crate::groth16::file_error::FileError;
use crate::groth16::key::{KeyFile, KeyKind, Query};
use crate::groth16::plan::{ProofPlan, Shape, StageName};
use crate::groth16::quotient::{self, Source};
use crate::groth16::r1cs::MatrixFile;
use crate::groth16::scalars::Scalars;
use crate::msm::{Msm, MsmError};
use crate::ntt::Plan;
use crate::stage::Stage;
use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::CurveGroup;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_groth16::{Groth16, Proof, prepare_verifying_key};
use ark_relations::gr1cs::ConstraintSynthesizer;
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
        if let Some(matrices) = matrices.filter(|_| key.kind() == KeyKind::Arkworks) {
            check_match(key, matrices)?;
        } else if key.kind() == KeyKind::Arkworks {
            return Err(ProveError::NoMatrices);
        }
        runtime.spill().takes_secrets()?;
        let shape = Shape::of(key, matrices);
        let plan = ProofPlan::for_runtime(&shape, runtime)?;
        // What the plan allows the program itself is not for vectors, even before it is used.
        let is_alone = runtime.permit_name().is_none();
        let _expected = is_alone.then(|| runtime.expect_foreign(plan.base_bytes()));
        Ok(Self { runtime, key, matrices, progress: &(), plan, _expected })
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
    /// arithmetic leaves in registers and on the stack is not reached.
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
        self.check_assignment(&assignment)?;
        let inputs = self.key.public_inputs();
        let mut h = self.quotient(&assignment)?;
        let h_sum = self.multiply_g1(StageName::MsmH, Query::H, &mut h)?;
        drop(h);
        let mut all = Scalars::Assignment(&assignment, 0);
        let mut witness = Scalars::Assignment(&assignment, inputs + 1);
        let l_sum = self.multiply_g1(StageName::MsmL, Query::L, &mut witness)?;
        let a_sum = self.multiply_g1(StageName::MsmA, Query::A, &mut all)?;
        let b1_sum = self.multiply_g1(StageName::MsmB1, Query::B1, &mut all)?;
        let b2_sum = self.multiply_g2(StageName::MsmB2, Query::B2, &mut all)?;
        let public = assignment.first(inputs + 1)?.split_off(1);
        drop(assignment);

        let delta: G1Projective = self.key.delta_g1().into();
        let a = a_sum + self.key.alpha_g1() + delta * r;
        let b1 = b1_sum + self.key.beta_g1() + delta * s;
        let b2 = b2_sum + self.key.beta_g2() + G2Projective::from(self.key.delta_g2()) * s;
        let c = h_sum + l_sum + a * s + b1 * r - delta * *Zeroizing::new(*r * s);
        let proof = Proof { a: a.into_affine(), b: b2.into_affine(), c: c.into_affine() };
        self.verify(&proof, &public)?;
        Ok(proof)
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

    fn quotient(&self, assignment: &Assignment) -> Result<Scalars<'static>, ProveError> {
        let _stage = self.stage(StageName::Quotient)?;
        let n = self.key.domain_size();
        let source = match self.matrices.filter(|_| self.key.kind() == KeyKind::Arkworks) {
            Some(matrices) => Source::Matrices(matrices),
            None => Source::Zkey(self.key),
        };
        let advance = |done, total| self.progress.advance(done, total);
        if let (None, Some(whole)) = (self.plan.split(), assignment.single()) {
            let whole = whole.read().map_err(ProveError::from)?;
            return Ok(Scalars::Vector(quotient::in_core(
                self.runtime,
                source,
                n,
                &whole,
                &advance,
            )?));
        }
        // An assignment in segments, made by another plan, is not brought together.
        let split = match self.plan.split() {
            Some(split) => *split,
            None => whole_domain(n)?,
        };
        Ok(Scalars::Tiles(quotient::out_of_core(
            self.runtime,
            source,
            split,
            assignment,
            &advance,
        )?))
    }

    fn multiply_g1(
        &self,
        stage: StageName,
        query: Query,
        scalars: &mut Scalars<'_>,
    ) -> Result<G1Projective, ProveError> {
        let read = |start, out: &mut [G1Affine]| self.key.read_g1(query, start, out);
        self.multiply(stage, query, scalars, read)
    }

    fn multiply_g2(
        &self,
        stage: StageName,
        query: Query,
        scalars: &mut Scalars<'_>,
    ) -> Result<G2Projective, ProveError> {
        let read = |start, out: &mut [G2Affine]| self.key.read_g2(query, start, out);
        self.multiply(stage, query, scalars, read)
    }

    /// Streams a query from the file, a chunk at a time, and multiplies it with `scalars`.
    fn multiply<P: SWCurveConfig<ScalarField = Fr>>(
        &self,
        stage: StageName,
        query: Query,
        scalars: &mut Scalars<'_>,
        read: impl Fn(usize, &mut [Affine<P>]) -> Result<(), FileError>,
    ) -> Result<Projective<P>, ProveError> {
        let _stage = self.stage(stage)?;
        let len = self.key.len(query);
        // The quotient's last coefficient is zero, and arkworks' H query leaves it out.
        let left_out = usize::from(query == Query::H && self.key.kind() == KeyKind::Arkworks);
        if len + left_out != scalars.len() {
            let what = "a query of the key and its scalars differ in length";
            return Err(ProveError::Mismatch { what, one: len, other: scalars.len() });
        }
        let explain = |error| self.runtime.explain(stage.text(), error);
        let plan = self.plan.msm::<P>(len);
        let mut sum = Msm::<P>::new(plan, self.runtime.secret_pool()).map_err(|e| match e {
            MsmError::Memory(error) => explain(error).into(),
            other => ProveError::Msm(other),
        })?;
        let chunk_len = self.plan.chunk_len().min(len.max(1));
        let points = self.runtime.pool().try_filled(chunk_len, Affine::<P>::identity());
        let mut points = points.map_err(explain)?;
        scalars.for_each_chunk(self.runtime, len, chunk_len, |start, scalars| {
            let points = &mut points[..scalars.len()];
            read(start, points)?;
            sum.add(points, scalars)?;
            self.progress.advance(start + scalars.len(), len);
            Ok(())
        })?;
        Ok(sum.finish())
    }
}

/// The split for a domain of n points that is held in memory.
fn whole_domain(n: usize) -> Result<Plan, ProveError> {
    let plan = Plan::for_vectors(n.max(2).ilog2(), size_of::<Fr>(), 3, usize::MAX);
    plan.map_err(|_| ProveError::Domain { size: n })
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
    use ark_serialize::CanonicalSerialize;
    let mut bytes = Vec::with_capacity(key.uncompressed_size());
    // Writing into a vector does not fail.
    let _ = key.serialize_uncompressed(&mut bytes);
    twox_hash::XxHash3_64::oneshot(&bytes)
}
