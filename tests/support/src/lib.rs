//! Keys and proofs that several tests share.
//!
//! ```text
//!   Circuit ---> ark_key ------> what ark-groth16 makes of it, in memory
//!           `--> Keys::make ---> the files of a key, as our prover reads them
//!   ark_proof -----------------> the bytes that our prover has to make, too
//! ```
//!
//! Nothing that is heavy here is generic, so none of it is compiled again in a test.

mod settled;

pub use settled::settled;

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_relations::gr1cs::{ConstraintSynthesizer, ConstraintSystemRef, SynthesisError};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use plimsoll::groth16::circuit::{Sha256Chain, SquaringChain};
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::PathBuf;

/// A circuit of the tests.
#[derive(Clone, Debug)]
pub enum Circuit {
    /// Full-size field elements: nothing of the witness packs.
    Squares(SquaringChain),
    /// A witness of bits.
    Sha256(Sha256Chain),
}

impl From<SquaringChain> for Circuit {
    fn from(chain: SquaringChain) -> Self {
        Self::Squares(chain)
    }
}

impl From<Sha256Chain> for Circuit {
    fn from(chain: Sha256Chain) -> Self {
        Self::Sha256(chain)
    }
}

impl ConstraintSynthesizer<Fr> for Circuit {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        match self {
            Self::Squares(chain) => chain.generate_constraints(cs),
            Self::Sha256(chain) => chain.generate_constraints(cs),
        }
    }
}

/// The files of a key in a folder of their own.
#[derive(Debug)]
pub struct Keys {
    _folder: tempfile::TempDir,
    /// The key, in arkworks' format.
    pub key_path: PathBuf,
    /// The circuit's matrices.
    pub matrix_path: PathBuf,
}

impl Keys {
    /// Makes the key of a circuit, always the same one.
    ///
    /// # Panics
    ///
    /// Where the folder of temporary files cannot be written to.
    pub fn make(circuit: impl Into<Circuit>) -> Self {
        Self::make_of(circuit.into())
    }

    fn make_of(circuit: Circuit) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key_path = folder.path().join("test.pk");
        let matrix_path = folder.path().join("test.matrices");
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        setup(circuit, &mut rng, &key_path, &matrix_path).expect("setup");
        Self { _folder: folder, key_path, matrix_path }
    }

    /// Opens both files.
    ///
    /// # Panics
    ///
    /// Where a test has damaged them.
    #[must_use]
    pub fn open(&self) -> (KeyFile, MatrixFile) {
        let key = KeyFile::open_arkworks(&self.key_path).expect("the key just made");
        let matrices = MatrixFile::open(&self.matrix_path).expect("the matrices just made");
        (key, matrices)
    }

    /// Returns the key as ark-groth16 loads it.
    ///
    /// # Panics
    ///
    /// Where a test has damaged its file.
    #[must_use]
    pub fn ark(&self) -> ProvingKey<Bn254> {
        let bytes = std::fs::read(&self.key_path).expect("the key just made");
        ProvingKey::deserialize_uncompressed_unchecked(&bytes[..]).expect("arkworks' own bytes")
    }
}

/// Returns r and s of a seed.
#[must_use]
pub fn randomness(seed: u64) -> (Fr, Fr) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (Fr::rand(&mut rng), Fr::rand(&mut rng))
}

/// Returns the uncompressed bytes of a proof.
///
/// # Panics
///
/// Never: a `Vec` takes everything.
#[must_use]
pub fn bytes(proof: &Proof<Bn254>) -> Vec<u8> {
    let mut bytes = Vec::new();
    proof.serialize_uncompressed(&mut bytes).expect("a proof has bytes");
    bytes
}

/// Returns the key that ark-groth16 makes with randomness from `rng`.
///
/// # Panics
///
/// Where ark-groth16 refuses the circuit.
pub fn ark_key(circuit: impl Into<Circuit>, rng: &mut ChaCha20Rng) -> ProvingKey<Bn254> {
    ark_key_of(circuit.into(), rng)
}

fn ark_key_of(circuit: Circuit, rng: &mut ChaCha20Rng) -> ProvingKey<Bn254> {
    let key = Groth16::<Bn254>::generate_random_parameters_with_reduction(circuit, rng);
    key.expect("ark-groth16 makes a key")
}

/// Returns the bytes of the proof that ark-groth16 makes.
///
/// # Panics
///
/// Where ark-groth16 refuses the circuit.
#[must_use]
pub fn ark_proof(key: &ProvingKey<Bn254>, circuit: impl Into<Circuit>, r: Fr, s: Fr) -> Vec<u8> {
    ark_proof_of(key, circuit.into(), r, s)
}

fn ark_proof_of(key: &ProvingKey<Bn254>, circuit: Circuit, r: Fr, s: Fr) -> Vec<u8> {
    let proof = Groth16::<Bn254>::create_proof_with_reduction(circuit, key, r, s);
    bytes(&proof.expect("ark-groth16 proves it"))
}

/// Returns a pool of `count` threads.
///
/// # Panics
///
/// Where the system gives no more threads.
#[must_use]
pub fn threads(count: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().expect("threads")
}
