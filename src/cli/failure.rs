//! Why a command failed, and the exit code that says so.

use plimsoll::error::Error;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::file_error::FileError;
use plimsoll::groth16::setup::SetupError;

/// Exit code when there is no proof.
const EXIT_NO_PROOF: u8 = 1;

/// Exit code for input that cannot be used.
const EXIT_BAD_INPUT: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Prove(#[from] ProveError),
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("{0}")]
    Input(String),
    #[error("{0}")]
    NoProof(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Prove(ProveError::Runtime(error))
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Prove(ProveError::File(error))
    }
}

impl Failure {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Setup(_) => EXIT_BAD_INPUT,
            Self::NoProof(_) => EXIT_NO_PROOF,
            Self::Prove(ProveError::Unsatisfied { .. } | ProveError::NotVerified) => EXIT_NO_PROOF,
            Self::Prove(error) if error.is_short_of_memory() => EXIT_NO_PROOF,
            Self::Prove(_) => EXIT_BAD_INPUT,
        }
    }
}
