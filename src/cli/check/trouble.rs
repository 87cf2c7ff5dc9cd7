//! The one error of `check`: nothing could be compared.

/// Why nothing could be compared, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Trouble(pub(super) String);
