//! A Groth16 prover over BN254 that keeps to a limit.
//!
//! ```text
//!   circuit --(ark-r1cs-std)--> assignment --+
//!   .wtns ----------------------------------+-> quotient -> five MSMs -> proof -> verified
//!   key file, matrices or .zkey, streamed --+
//! ```
//!
//! [`setup`] makes a key for an arkworks circuit, [`key`] and [`circom`] read keys and witnesses,
//! [`plan`] says what a proof will need, [`prover`] makes it. The proof is byte for byte the one
//! that ark-groth16 makes from the same key, assignment, `r` and `s`.

pub mod assignment;
pub mod circom;
pub mod circuit;
pub mod error;
pub mod file_error;
mod file_kind;
pub mod key;
mod parts;
mod piped;
pub mod plan;
pub mod prover;
mod quotient;
pub mod r1cs;
mod random_file;
mod scalars;
pub mod setup;
#[doc(hidden)]
pub mod staged_file;
