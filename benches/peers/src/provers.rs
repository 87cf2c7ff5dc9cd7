//! The provers, and what each of them proves.
//!
//! | name | prover | statement | LOG_SIZE |
//! |---|---|---|---|
//! | groth16 | ark-groth16, BN254 | a chain of squarings | log2 of the constraints |
//! | keccak | p3-uni-stark, BabyBear | Keccak-f permutations | log2 of the rows, 24 a permutation |
//! | blake3 | p3-uni-stark, BabyBear | BLAKE3 compressions: very wide rows | log2 of the rows |
//! | cubes | p3-uni-stark, BabyBear | 32 columns of cubes, extended 8 times | log2 of the rows |
//! | spartan | spartan (SNARK), ristretto | a synthetic R1CS | log2 of the constraints |
//!
//! A proof is kept as bytes in one buffer, made before the first phase and used again: proof =
//! bytes(prove(input)). The last proof is verified, and its hash printed.
//!
//! Never: keep anything else that was allocated inside a phase.

mod groth16;
mod spartan;
mod stark;

use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes that a proof may have: a proof that is kept must not move its buffer.
const PROOF_BYTES_MAX: usize = 16 << 20;

/// Whose proofs are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prover {
    /// ark-groth16.
    Groth16,
    /// p3-uni-stark with the Keccak AIR.
    Keccak,
    /// p3-uni-stark with the BLAKE3 AIR.
    Blake3,
    /// p3-uni-stark with a narrow AIR.
    Cubes,
    /// spartan's SNARK.
    Spartan,
}

impl Prover {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Groth16, Self::Keccak, Self::Blake3, Self::Cubes, Self::Spartan];

    /// Its name in the figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Groth16 => "groth16",
            Self::Keccak => "keccak",
            Self::Blake3 => "blake3",
            Self::Cubes => "cubes",
            Self::Spartan => "spartan",
        }
    }

    /// The prover called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prover| prover.name() == name)
    }

    /// Writes what the prover reads from `folder`.
    ///
    /// # Panics
    ///
    /// Where the folder cannot be written.
    pub fn prepare(self, log_size: u32, folder: &Path) {
        if self == Self::Groth16 {
            groth16::write_key(log_size, folder);
        }
    }
}

enum Input {
    Groth16(Box<groth16::Input>),
    Stark(stark::Input),
    Spartan(Box<spartan::Input>),
}

/// A prover with its input, and the proof that it made last.
pub struct Task {
    input: Input,
    proof: Vec<u8>,
}

impl Task {
    /// Brings the input into memory.
    ///
    /// # Panics
    ///
    /// Where a file that [`Prover::prepare`] writes is missing.
    #[must_use]
    pub fn load(prover: Prover, log_size: u32, folder: &Path) -> Self {
        let input = match prover {
            Prover::Groth16 => Input::Groth16(Box::new(groth16::Input::load(log_size, folder))),
            Prover::Keccak => Input::Stark(stark::Input::keccak(log_size)),
            Prover::Blake3 => Input::Stark(stark::Input::blake3(log_size)),
            Prover::Cubes => Input::Stark(stark::Input::cubes(log_size)),
            Prover::Spartan => Input::Spartan(Box::new(spartan::Input::new(log_size))),
        };
        // Written once: what is in use is resident.
        Self { input, proof: vec![1; PROOF_BYTES_MAX] }
    }

    /// Makes one proof and keeps its bytes.
    ///
    /// # Panics
    ///
    /// Where the prover fails.
    pub fn prove(&mut self) {
        self.proof.clear();
        match &self.input {
            Input::Groth16(input) => input.prove(&mut self.proof),
            Input::Stark(input) => input.prove(&mut self.proof),
            Input::Spartan(input) => input.prove(&mut self.proof),
        }
        assert!(self.proof.capacity() == PROOF_BYTES_MAX, "the proof moved its buffer");
    }

    /// Verifies the last proof: its hash, or `random` where two proofs are never the same.
    ///
    /// # Panics
    ///
    /// Where the proof is not valid.
    #[must_use]
    pub fn verified_hash(&self) -> String {
        let valid = match &self.input {
            Input::Groth16(input) => input.verify(&self.proof),
            Input::Stark(input) => input.verify(&self.proof),
            Input::Spartan(input) => input.verify(&self.proof),
        };
        assert!(valid, "the proof does not verify");
        if matches!(self.input, Input::Spartan(_)) {
            return "random".to_owned();
        }
        format!("{:016x}", xxh3_64(&self.proof))
    }
}
