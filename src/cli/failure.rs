//! Why a command failed, and the exit code that says so.

use plimsoll::columns::{ColumnsError, ColumnsFault};
use plimsoll::error::Error;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::file_error::{Fault, FileError};
use plimsoll::groth16::setup::SetupError;
use plimsoll::ranks::{ExchangeError, RefusalKind};

/// Exit code when there is no proof.
pub(super) const EXIT_NO_PROOF: u8 = 1;

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
    #[error(
        "the witness does not satisfy the circuit: constraint {row} of {r1cs} does not hold; \
         calculate the witness again, from the right input"
    )]
    BrokenConstraint { row: usize, r1cs: String },
    #[error(
        "the proof does not verify, though the witness satisfies every constraint of {r1cs}: the \
         key is of another circuit, or damaged; make the key again from this circuit"
    )]
    WrongKey { r1cs: String },
    #[error("the proof is not valid for this verifying key and these public inputs")]
    NotValid,
    #[error("told already")]
    Told { exit: u8 },
    #[error("{text}")]
    Batch { text: String, row: Failed },
}

/// A failure, as JSON.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Failed {
    error: String,
    pub(super) kind: &'static str,
    exit: u8,
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

impl From<ColumnsError> for Failure {
    fn from(error: ColumnsError) -> Self {
        let path = error.path().to_owned();
        match error.into_fault() {
            ColumnsFault::Memory(error) => error.into(),
            fault => FileError::new(&path, "packed file", Fault::Packed(Box::new(fault))).into(),
        }
    }
}

impl Failure {
    /// Arguments that are not understood: what the parser says of them, without how it is used.
    pub(super) fn misused(text: &str) -> Self {
        let text = text.split("\n\nUsage:").next().unwrap_or(text).trim();
        Self::Input(text.strip_prefix("error: ").unwrap_or(text).to_owned())
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Batch { row, .. } => row.exit,
            Self::Input(_) | Self::Setup(_) => EXIT_BAD_INPUT,
            Self::NoProof(_) | Self::BrokenConstraint { .. } => EXIT_NO_PROOF,
            Self::WrongKey { .. } | Self::NotValid => EXIT_NO_PROOF,
            Self::Prove(ProveError::Unsatisfied { .. } | ProveError::NotVerified) => EXIT_NO_PROOF,
            Self::Prove(error) if error.is_short_of_memory() => EXIT_NO_PROOF,
            Self::Prove(ProveError::Ranks(ExchangeError::Refused(refusal)))
                if refusal.kind == RefusalKind::Witness =>
            {
                EXIT_NO_PROOF
            }
            Self::Prove(ProveError::Ranks(ExchangeError::Gone { .. })) => EXIT_NO_PROOF,
            Self::Prove(_) => EXIT_BAD_INPUT,
            Self::Told { exit } => *exit,
        }
    }

    /// Returns one word for programs: fields may be added to the JSON, and words, none is renamed.
    fn kind(&self) -> &'static str {
        match self {
            Self::Batch { row, .. } => row.kind,
            Self::Input(_) => "input",
            Self::Setup(_) => "setup",
            Self::NoProof(_) => "over_limit",
            Self::BrokenConstraint { .. } => "unsatisfied",
            Self::WrongKey { .. } => "wrong_key",
            Self::NotValid => "not_verified",
            Self::Told { .. } => "rank",
            Self::Prove(error) => match error {
                ProveError::File(_) | ProveError::Matrices(_) => "file",
                ProveError::Unsatisfied { .. } => "unsatisfied",
                ProveError::NotVerified => "not_verified",
                ProveError::Runtime(Error::SpillStopped { .. } | Error::Spill(_)) => "spill",
                error if error.is_short_of_memory() => "over_limit",
                ProveError::Ranks(_) => "rank",
                _ => "input",
            },
        }
    }

    /// Returns the failure for JSON: `error`, the text, `kind`, a word, and `exit`, the code.
    pub(super) fn row(&self) -> Failed {
        Failed { error: self.to_string(), kind: self.kind(), exit: self.exit_code() }
    }

    /// Returns the failure as one line of JSON. A batch has told its failures already.
    pub(super) fn json(&self) -> String {
        if matches!(self, Self::Batch { .. } | Self::Told { .. }) {
            return String::new();
        }
        let row = self.row();
        // Strings and a number: nothing in it can fail to be written.
        serde_json::to_string(&row).map_or_else(|_| String::new(), |text| text + "\n")
    }
}
