//! The `plimsoll` command: parse, call, print.
//!
//! Exit codes: 0 done; 1 no proof (over the limit, nowhere to spill, witness not a solution, not
//! verified); 2 bad input (arguments, files, a limit that is no limit). `doctor`: 0, 1 or 2 by its
//! worst finding; `check`: 1 when a peak rose, 2 when nothing could be compared.
//! Results go to standard output, progress and errors to standard error.

#![forbid(unsafe_code)]

mod args;
mod check;
mod compare;
mod doctor;
mod keys;
mod live;
mod pictures;
mod plan;
mod prove;
mod random;
mod report;
mod setup;
mod spill;

use args::{Arguments, Command};
use clap::Parser;
use plimsoll::error::Error;
use plimsoll::groth16::error::ProveError;
use plimsoll::groth16::file_error::FileError;
use plimsoll::groth16::setup::SetupError;
use std::process::ExitCode;

/// Exit code when there is no proof.
const EXIT_NO_PROOF: u8 = 1;

/// Exit code for input that cannot be used.
const EXIT_BAD_INPUT: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
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
    fn exit_code(&self) -> u8 {
        match self {
            Self::Input(_) | Self::Setup(_) => EXIT_BAD_INPUT,
            Self::NoProof(_) => EXIT_NO_PROOF,
            Self::Prove(ProveError::Unsatisfied { .. } | ProveError::NotVerified) => EXIT_NO_PROOF,
            Self::Prove(error) if error.is_short_of_memory() => EXIT_NO_PROOF,
            Self::Prove(_) => EXIT_BAD_INPUT,
        }
    }
}

/// Runs the command that the process's arguments name.
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.command {
        Command::Prove(args) => prove::run(args),
        Command::Setup(args) => setup::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Doctor(args) => return doctor::run(args),
        Command::Check(args) => return check::run(args),
        Command::Report(args) => compare::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs `work` on `threads` threads, or on as many as there are cores.
fn on_threads<R: Send>(
    threads: Option<usize>,
    work: impl FnOnce() -> R + Send,
) -> Result<R, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build();
    let pool = pool.map_err(|error| Failure::Input(format!("no threads: {error}")))?;
    Ok(pool.install(work))
}
