//! ark-groth16 over BN254 on a chain of `x <- x * (x + 1)`.
//!
//! The key is made once, by a process of its own, and read from a file: what a setup leaves behind
//! in an allocator is no part of a proof.

use ark_bn254::{Bn254, Fr};
use ark_ff::Field;
use ark_groth16::{Groth16, Proof, ProvingKey, prepare_verifying_key};
use ark_relations::gr1cs::{
    ConstraintSynthesizer, ConstraintSystemRef, LinearCombination, SynthesisError, Variable,
};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Chain {
    first: Fr,
    links: usize,
}

impl Chain {
    fn filling(log_size: u32) -> Self {
        Self { first: Fr::from(2024u64), links: (1 << log_size) - 3 }
    }

    fn last(self) -> Fr {
        (0..self.links).fold(self.first, |x, _| x.square() + x)
    }
}

impl ConstraintSynthesizer<Fr> for Chain {
    fn generate_constraints(self, cs: ConstraintSystemRef<Fr>) -> Result<(), SynthesisError> {
        let of = |variable| LinearCombination::from(variable);
        let mut value = self.first;
        let mut x = cs.new_witness_variable(|| Ok(value))?;
        for _ in 0..self.links {
            value = value.square() + value;
            let next = cs.new_witness_variable(|| Ok(value))?;
            cs.enforce_r1cs_constraint(|| of(x), || of(x) + Variable::One, || of(next))?;
            x = next;
        }
        let public = cs.new_input_variable(|| Ok(value))?;
        cs.enforce_r1cs_constraint(|| of(x), || of(Variable::One), || of(public))
    }
}

fn key_path(log_size: u32, folder: &Path) -> PathBuf {
    folder.join(format!("groth16-{log_size}.key"))
}

pub(super) fn write_key(log_size: u32, folder: &Path) {
    let mut rng = ark_std::test_rng();
    let chain = Chain::filling(log_size);
    let key = Groth16::<Bn254>::generate_random_parameters_with_reduction(chain, &mut rng)
        .expect("a setup");
    let file = File::create(key_path(log_size, folder)).expect("a folder that can be written");
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, file);
    key.serialize_uncompressed(&mut file).expect("a disk with room");
    file.flush().expect("a disk with room");
}

pub(super) struct Input {
    chain: Chain,
    key: ProvingKey<Bn254>,
}

impl Input {
    pub(super) fn load(log_size: u32, folder: &Path) -> Self {
        let file = File::open(key_path(log_size, folder)).expect("a key: run with 0 proofs first");
        let file = BufReader::with_capacity(BUFFER_BYTES, file);
        let key = ProvingKey::deserialize_uncompressed_unchecked(file).expect("a key");
        Self { chain: Chain::filling(log_size), key }
    }

    pub(super) fn prove(&self, bytes: &mut Vec<u8>) {
        let (r, s) = (Fr::from(3u64), Fr::from(5u64));
        Groth16::<Bn254>::create_proof_with_reduction(self.chain, &self.key, r, s)
            .expect("a proof")
            .serialize_compressed(bytes)
            .expect("a vector takes bytes");
    }

    pub(super) fn verify(&self, bytes: &[u8]) -> bool {
        let proof = Proof::deserialize_compressed(bytes).expect("bytes of a proof");
        let key = prepare_verifying_key(&self.key.vk);
        Groth16::<Bn254>::verify_proof(&key, &proof, &[self.chain.last()]).unwrap_or(false)
    }
}
