//! Why processes cannot share a limit.

use std::io;
use std::path::PathBuf;

/// The longest name.
pub(super) const NAME_LEN_MAX: usize = 64;

/// Why processes cannot share a limit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharedError {
    /// The name makes no file name.
    #[error(
        "\"{name}\" cannot name a shared limit; use up to {NAME_LEN_MAX} letters, digits, '.', \
         '_' and '-'"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The table cannot be opened, locked, read or written.
    #[error("{}: cannot be {doing}: {why}; check the path and its permissions", path.display())]
    Io {
        /// The table.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        why: io::Error,
    },
    /// The table is not this user's alone.
    #[error("{}: belongs to another user, or others may open it; remove it", path.display())]
    NotOurs {
        /// The table.
        path: PathBuf,
    },
    /// The table holds something else.
    #[error("{}: is no table of a shared limit, or damaged; remove it", path.display())]
    Damaged {
        /// The table.
        path: PathBuf,
    },
    /// Live processes share another limit by this name.
    #[error(
        "{}: {limit_bytes} bytes are shared by that name, not {asked_bytes}; give all processes \
         the same limit",
        path.display()
    )]
    OtherLimit {
        /// The table.
        path: PathBuf,
        /// The limit in force, bytes.
        limit_bytes: u64,
        /// The limit asked for, bytes.
        asked_bytes: u64,
    },
    /// As many processes as there are records share the limit.
    #[error("{}: {processes} processes share it already; use another name", path.display())]
    Full {
        /// The table.
        path: PathBuf,
        /// How many there are.
        processes: usize,
    },
}
