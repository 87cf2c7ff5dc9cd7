//! Makes the key of an arkworks circuit, and the files that proofs read.
//!
//! The key is what ark-groth16's own generator makes, written as its uncompressed bytes; beside it
//! goes the matrix file of [`super::r1cs`]. The generator keeps the key, its tables and the
//! constraint system on the heap at once, about ten times what a proof needs: run it in a process
//! of its own, as `plimsoll prove` does.
//!
//! A key made here has one party's randomness. Whoever knew it could forge proofs: fine for
//! measuring and for tests, not for a deployment, which takes a key from a ceremony.

use crate::files::staged::{StagedError, StagedFile};
use crate::groth16::file_error::FileError;
use crate::groth16::prover::fingerprint_of;
use crate::groth16::r1cs::{MatrixShape, write_matrices};
use ark_bn254::{Bn254, Fr};
use ark_groth16::r1cs_to_qap::LibsnarkReduction;
use ark_groth16::{Groth16, ProvingKey};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystem, OptimizationGoal, R1CS_PREDICATE_LABEL,
    SynthesisError, SynthesisMode,
};
use ark_serialize::CanonicalSerialize;
use ark_std::rand::Rng;
use std::io;
use std::path::Path;

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The circuit or the generator failed.
    #[error("the generator failed: {0}")]
    Synthesis(#[from] SynthesisError),
    /// The circuit has a variable index past 2^32, or matrices of unequal height.
    #[error("the circuit's matrices cannot be written: {0}")]
    Shape(io::Error),
    /// The key is of another circuit.
    #[error(
        "the key has {key} variables and {key_inputs} public inputs, the circuit {circuit} and \
         {inputs}: give the key of this circuit"
    )]
    OtherCircuit {
        /// Variables of the key, with the leading one.
        key: usize,
        /// Variables of the circuit, with the leading one.
        circuit: usize,
        /// Public inputs of the key.
        key_inputs: usize,
        /// Public inputs of the circuit.
        inputs: usize,
    },
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<StagedError> for SetupError {
    fn from(error: StagedError) -> Self {
        Self::File(error.into())
    }
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetupReport {
    /// Constraints of the circuit.
    pub constraints: usize,
    /// Its variables, the one included.
    pub variables: usize,
    /// Bytes of the key file.
    pub key_bytes: u64,
    /// Bytes of the matrix file.
    pub matrix_bytes: u64,
}

/// Bytes that ark-groth16's generator comes to hold for each variable: the key's points, their
/// scalars, and the rows of the matrices. This and the next are a fit to the peaks of the built-in
/// circuit with 1 to 9 compressions, on one to eight threads, and a quarter more: which of the
/// heap's freed pieces a thread uses again differs between runs, by up to a fifth.
const GENERATOR_BYTES_A_VARIABLE: u64 = 650;

/// Bytes for each point of the domain, a power of two: the points and the scalars of the H query.
const GENERATOR_BYTES_A_POINT: u64 = 245;

/// Who makes a key may read it, and nobody else.
const MODE: u32 = 0o600;

/// What the process takes besides.
const PROGRAM_BYTES: u64 = 16 << 20;

/// Says how much memory [`setup`] will take for `circuit`, about. It is a floor: the generator
/// keeps the whole key on the heap, and no limit makes it take less.
///
/// # Errors
///
/// [`SetupError::Synthesis`] when the circuit fails.
pub fn floor_bytes<C: ConstraintSynthesizer<Fr>>(circuit: C) -> Result<u64, SetupError> {
    let cs = ConstraintSystem::<Fr>::new_ref();
    cs.set_optimization_goal(OptimizationGoal::Constraints);
    cs.set_mode(SynthesisMode::Setup);
    circuit.generate_constraints(cs.clone())?;
    let larger = cs.num_variables().max(cs.num_constraints()) as u64;
    let rows = cs.num_constraints() + cs.num_instance_variables();
    let points = rows.next_power_of_two() as u64;
    Ok(PROGRAM_BYTES + larger * GENERATOR_BYTES_A_VARIABLE + points * GENERATOR_BYTES_A_POINT)
}

/// Makes the key of `circuit` with ark-groth16's generator and writes key and matrices.
///
/// Both files appear whole or not at all, the key last.
///
/// # Errors
///
/// [`SetupError`].
pub fn setup<C>(
    circuit: C,
    rng: &mut impl Rng,
    key_path: &Path,
    matrix_path: &Path,
) -> Result<SetupReport, SetupError>
where
    C: ConstraintSynthesizer<Fr> + Clone,
{
    let key = Groth16::<Bn254, LibsnarkReduction>::generate_random_parameters_with_reduction(
        circuit.clone(),
        rng,
    )?;
    write_files(circuit, key, key_path, matrix_path)
}

/// Writes the files that proofs read for a key that exists already, from a ceremony: the key as it
/// is, and the matrices of `circuit`.
///
/// Both files appear whole or not at all, the key last.
///
/// # Errors
///
/// [`SetupError::OtherCircuit`] when the key is of another circuit; what the circuit and the disk
/// say.
pub fn write_files<C>(
    circuit: C,
    key: ProvingKey<Bn254>,
    key_path: &Path,
    matrix_path: &Path,
) -> Result<SetupReport, SetupError>
where
    C: ConstraintSynthesizer<Fr>,
{
    let (key_fingerprint, key_inputs) = (fingerprint_of(&key.vk), key.vk.gamma_abc_g1.len());
    let key_variables = key.a_query.len();
    let key_file = StagedFile::write(key_path, MODE, |out| {
        key.serialize_uncompressed(out).map_err(|error| io::Error::other(error.to_string()))
    })?;
    // The matrices are made when the key is gone: both at once would be the peak.
    drop(key);
    let cs = ConstraintSystem::<Fr>::new_ref();
    cs.set_optimization_goal(OptimizationGoal::Constraints);
    cs.set_mode(SynthesisMode::Setup);
    circuit.generate_constraints(cs.clone())?;
    cs.finalize();
    let mut matrices = cs.to_matrices()?;
    let matrices = matrices.remove(R1CS_PREDICATE_LABEL).unwrap_or_default();
    let [a, b, c] = matrices.as_slice() else {
        return Err(SetupError::Shape(io::Error::other("not a rank-1 constraint system")));
    };
    let shape = MatrixShape {
        constraints: cs.num_constraints(),
        instance: cs.num_instance_variables(),
        variables: cs.num_variables(),
        key_fingerprint,
    };
    if (key_variables, key_inputs) != (shape.variables, shape.instance) {
        let (key, circuit) = (key_variables, shape.variables);
        let (key_inputs, inputs) = (key_inputs.saturating_sub(1), shape.instance.saturating_sub(1));
        return Err(SetupError::OtherCircuit { key, circuit, key_inputs, inputs });
    }
    let matrix_file =
        StagedFile::write(matrix_path, MODE, |out| write_matrices(out, [a, b, c], shape))?;
    let (key_bytes, matrix_bytes) = (key_file.bytes(), matrix_file.bytes());
    matrix_file.commit()?;
    key_file.commit()?;
    Ok(SetupReport {
        constraints: shape.constraints,
        variables: shape.variables,
        key_bytes,
        matrix_bytes,
    })
}
