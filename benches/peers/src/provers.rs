//! The three provers, and what each of them proves.
//!
//! | name | prover | statement | LOG_SIZE |
//! |---|---|---|---|
//! | groth16 | ark-groth16, BN254 | a chain of squarings | log2 of the constraints |
//! | keccak | p3-uni-stark, BabyBear | Keccak-f permutations | log2 of the rows, 24 a permutation |
//! | spartan | spartan (SNARK), ristretto | a synthetic R1CS | log2 of the constraints |
//!
//! A proof is kept as bytes in one buffer, made before the first phase and used again: proof =
//! bytes(prove(input)). The last proof is verified, and its hash printed.
//!
//! Never: keep anything else that was allocated inside a phase.

mod groth16;
mod keccak;
mod spartan;

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
    /// spartan's SNARK.
    Spartan,
}

impl Prover {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Groth16, Self::Keccak, Self::Spartan];

    /// Its name in the figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Groth16 => "groth16",
            Self::Keccak => "keccak",
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
    Keccak(keccak::Input),
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
            Prover::Keccak => Input::Keccak(keccak::Input::new(log_size)),
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
            Input::Keccak(input) => input.prove(&mut self.proof),
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
            Input::Keccak(input) => input.verify(&self.proof),
            Input::Spartan(input) => input.verify(&self.proof),
        };
        assert!(valid, "the proof does not verify");
        if matches!(self.input, Input::Spartan(_)) {
            return "random".to_owned();
        }
        format!("{:016x}", xxh3_64(&self.proof))
    }
}
