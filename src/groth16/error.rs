//! Why there is no proof.
//!
//! Every step of a proof may run out of memory or disk, and each kernel has an error of its own
//! that can hold the runtime's. On its way into [`ProveError`] that is taken out:
//!
//! ```text
//!   Error ----------------------------\
//!   TilesError::Runtime(Error) --------+-> ProveError::Runtime(Error)
//!   OutOfCoreError::Runtime(Error) ---/
//!   MsmError::Memory ----------------/     the rest of each: a variant of its own
//! ```
//!
//! Where several ranks make a proof, the error of one is [`ProveError::Ranks`] on all of them.
//!
//! Invariant: what the limit or the disk did here is [`ProveError::Runtime`], and nothing else is.
//!
//! It must never know a file's format; what is wrong with a file is in `file_error`.

use super::file_error::FileError;
use crate::error::Error;
use crate::msm::MsmError;
use crate::ntt::{NttError, OutOfCoreError, PlanError};
use crate::ranks::{ExchangeError, RefusalKind};
use crate::tiles::TilesError;
use ark_relations::gr1cs::SynthesisError;
use ark_serialize::SerializationError;
use std::path::PathBuf;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The limit, or the runtime otherwise, wherever in a proof it came up.
    #[error(transparent)]
    Runtime(#[from] Error),
    /// A key or witness file is damaged, or they do not belong together.
    #[error(transparent)]
    File(#[from] FileError),
    /// The matrix file is damaged.
    #[error(transparent)]
    Matrices(#[from] MatrixError),
    /// A key of arkworks without its matrices.
    #[error("an arkworks key needs its matrix file: pass the one `plimsoll setup` wrote beside it")]
    NoMatrices,
    /// Key and matrices, or key and assignment, are of different circuits.
    #[error(
        "{what}: {one} in one, {other} in the other; use files of one setup, or make them again \
         with `plimsoll setup`"
    )]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// The key's number.
        one: usize,
        /// The other's number.
        other: usize,
    },
    /// A constraint does not hold.
    #[error("the witness does not satisfy the circuit: constraint {row} does not hold")]
    Unsatisfied {
        /// Index of a constraint that does not hold.
        row: usize,
    },
    /// The proof was made and does not verify.
    #[error(
        "the proof does not verify: the witness does not satisfy the circuit, or key and witness \
         are of different circuits; `plimsoll prove --r1cs FILE` says which"
    )]
    NotVerified,
    /// The circuit itself failed.
    #[error("the circuit could not be run: {0}")]
    Synthesis(#[from] SynthesisError),
    /// The domain is too large for the field, or not a power of two.
    #[error("no evaluation domain of {size} points: BN254 allows powers of two up to 2^27")]
    Domain {
        /// Points of the domain.
        size: usize,
    },
    /// A transform was given a wrong domain.
    #[error(transparent)]
    Ntt(#[from] NttError),
    /// A transform out of core was given vectors that do not fit its plan.
    #[error(transparent)]
    OutOfCore(OutOfCoreError),
    /// Scalars in tiles were not there.
    #[error(transparent)]
    Tiles(TilesError),
    /// A rank sent something that is no point.
    #[error("a rank sent what is no point of the curve: {0}; start the same version everywhere")]
    Points(#[from] SerializationError),
    /// A shard of a sum cannot be used, or is missing.
    #[error("a shard: {0}")]
    Shard(String),
    /// There are more ranks than the proof can be shared out to.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another rank of the proof could not go on, or this one could not and told the others.
    #[error(transparent)]
    Ranks(#[from] ExchangeError),
    /// A multi-scalar multiplication was given wrong lengths or a wrong plan.
    #[error(transparent)]
    Msm(MsmError),
}

impl From<TilesError> for ProveError {
    fn from(error: TilesError) -> Self {
        match error {
            TilesError::Runtime(error) => Self::Runtime(error),
            other => Self::Tiles(other),
        }
    }
}

impl From<OutOfCoreError> for ProveError {
    fn from(error: OutOfCoreError) -> Self {
        match error {
            OutOfCoreError::Runtime(error) => Self::Runtime(error),
            OutOfCoreError::Tiles(error) => error.into(),
            OutOfCoreError::Ntt(error) => error.into(),
            other => Self::OutOfCore(other),
        }
    }
}

impl From<MsmError> for ProveError {
    fn from(error: MsmError) -> Self {
        match error {
            MsmError::Memory(error) => Self::Runtime(error.into()),
            other => Self::Msm(other),
        }
    }
}

impl ProveError {
    /// Says whether memory, or the room where it would spill to, is what there was too little of.
    #[must_use]
    pub fn is_short_of_memory(&self) -> bool {
        match self {
            Self::Runtime(error) => error.is_short_of_memory(),
            Self::Ranks(ExchangeError::Refused(refusal)) => refusal.kind == RefusalKind::Memory,
            _ => false,
        }
    }
}

/// A matrix file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}; run `plimsoll setup` again", path = path.display())]
pub struct MatrixError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_short_in_any_step_is_the_runtimes_error() {
        let stopped = || Error::SpillStopped { asked_bytes: 1, why: "a full disk".to_owned() };
        let short: [ProveError; 4] = [
            TilesError::Runtime(stopped()).into(),
            OutOfCoreError::Runtime(stopped()).into(),
            OutOfCoreError::Tiles(TilesError::Runtime(stopped())).into(),
            MsmError::Memory(plimsoll_arena::Error::BumpLimit { asked_bytes: 2, limit_bytes: 1 })
                .into(),
        ];
        for error in short {
            assert!(error.is_short_of_memory(), "{error:?}");
        }
        let taken: ProveError = OutOfCoreError::Tiles(TilesError::Taken { block: 0 }).into();
        assert!(matches!(taken, ProveError::Tiles(_)) && !taken.is_short_of_memory());
        let lengths: ProveError = MsmError::Lengths { bases: 1, scalars: 2 }.into();
        assert!(matches!(lengths, ProveError::Msm(_)) && !lengths.is_short_of_memory());
    }
}
