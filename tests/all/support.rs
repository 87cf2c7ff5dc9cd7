//! Keys and circuits that several tests share.

use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use ark_groth16::{Groth16, Proof, ProvingKey};
use ark_relations::gr1cs::ConstraintSynthesizer;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use plimsoll::groth16::key::KeyFile;
use plimsoll::groth16::r1cs::MatrixFile;
use plimsoll::groth16::setup::setup;
use rand::SeedableRng;
use rand_chacha::ChaCha20Rng;
use std::path::PathBuf;

/// The files of a key in a folder of their own.
pub(crate) struct Keys {
    _folder: tempfile::TempDir,
    pub(crate) key_path: PathBuf,
    pub(crate) matrix_path: PathBuf,
}

impl Keys {
    pub(crate) fn make<C: ConstraintSynthesizer<Fr> + Clone>(circuit: C) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let key_path = folder.path().join("test.pk");
        let matrix_path = folder.path().join("test.matrices");
        let mut rng = ChaCha20Rng::seed_from_u64(7);
        setup(circuit, &mut rng, &key_path, &matrix_path).expect("setup");
        Self { _folder: folder, key_path, matrix_path }
    }

    pub(crate) fn open(&self) -> (KeyFile, MatrixFile) {
        let key = KeyFile::open_arkworks(&self.key_path).expect("the key just made");
        let matrices = MatrixFile::open(&self.matrix_path).expect("the matrices just made");
        (key, matrices)
    }

    /// The key as ark-groth16 loads it.
    pub(crate) fn ark(&self) -> ProvingKey<Bn254> {
        let bytes = std::fs::read(&self.key_path).expect("the key just made");
        ProvingKey::deserialize_uncompressed_unchecked(&bytes[..]).expect("arkworks' own bytes")
    }
}

/// r and s of a seed.
pub(crate) fn randomness(seed: u64) -> (Fr, Fr) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (Fr::rand(&mut rng), Fr::rand(&mut rng))
}

pub(crate) fn bytes(proof: &Proof<Bn254>) -> Vec<u8> {
    let mut bytes = Vec::new();
    proof.serialize_uncompressed(&mut bytes).expect("a proof has bytes");
    bytes
}

/// The proof that ark-groth16 makes.
pub(crate) fn ark_proof<C>(key: &ProvingKey<Bn254>, circuit: C, r: Fr, s: Fr) -> Vec<u8>
where
    C: ConstraintSynthesizer<Fr>,
{
    let proof = Groth16::<Bn254>::create_proof_with_reduction(circuit, key, r, s);
    bytes(&proof.expect("ark-groth16 proves it"))
}

/// A pool of `threads` threads.
pub(crate) fn threads(count: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(count).build().expect("threads")
}
