//! A Groth16 prover over BN254 that keeps to a limit.
//!
//! ```text
//!   circuit --(ark-r1cs-std)--> assignment --+
//!   .wtns ----------------------------------+-> quotient -> five MSMs -> proof -> verified
//!   key file, matrices or .zkey, streamed --+
//! ```
//!
//! ```
//! use ark_bn254::Fr;
//! use ark_ff::UniformRand;
//! use plimsoll::Runtime;
//! use plimsoll::groth16::circuit::SquaringChain;
//! use plimsoll::groth16::{key::KeyFile, prover::Prover, r1cs::MatrixFile, setup::setup};
//! use rand::SeedableRng;
//!
//! let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(7); // a program takes the system's
//! let folder = tempfile::tempdir()?;
//! let (key, matrices) = (folder.path().join("chain.pk"), folder.path().join("chain.matrices"));
//! let circuit = SquaringChain::new(Fr::from(3u64), 100); // or your own circuit
//! setup(circuit.clone(), &mut rng, &key, &matrices)?;
//!
//! let runtime = Runtime::builder().own_limit().limit_bytes(1 << 30).build()?;
//! let (key, matrices) = (KeyFile::open_arkworks(&key)?, MatrixFile::open(&matrices)?);
//! let prover = Prover::new(&runtime, &key, Some(&matrices))?;
//! let assignment = prover.assign_circuit(circuit)?;
//! let _proof = prover.prove(assignment, Fr::rand(&mut rng), Fr::rand(&mut rng))?; // verified, too
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`setup`] makes a key for an arkworks circuit, [`key`] and [`circom`] read keys and witnesses,
//! [`plan`] says what a proof will need, [`prover`] makes it, [`batch`] makes many. The proof is
//! byte for byte the one that ark-groth16 makes from the same key, assignment, `r` and `s`.

pub mod assignment;
pub mod batch;
pub mod circom;
pub mod circuit;
pub mod error;
pub mod file_error;
mod file_kind;
pub mod key;
mod partial;
mod parts;
mod piped;
pub mod plan;
pub mod prover;
mod quotient;
pub mod r1cs;
mod scalars;
pub mod setup;
pub mod shard;
mod together;
