//! Why nothing is recorded, or nothing drawn.

use crate::meter::MeterError;

/// Why nothing is recorded, or a picture could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The kernel's figures could not be read.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The sampler could not be started.
    #[error("no thread for the recorder: {0}; raise `ulimit -u`, or record nothing")]
    Thread(std::io::Error),
    /// A file could not be written.
    #[error("{}: cannot be written: {source}; choose another file", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
