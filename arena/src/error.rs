//! What can go wrong in the arena, and what to do about it.

use crate::ledger::OverLimit;
use crate::os::OsError;

/// An allocation that could not be made. Nothing was changed by the attempt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The limit leaves no room, even after reclaiming.
    #[error("{0}; raise the limit, or drop vectors before this point")]
    OverLimit(#[from] OverLimit),

    /// The size overflows or is above the largest block.
    #[error(
        "a vector of {len} elements of {element_bytes} bytes is larger than any block \
         ({max_bytes} bytes); check the length"
    )]
    TooLarge {
        /// Elements asked for.
        len: usize,
        /// Bytes of one element.
        element_bytes: usize,
        /// Bytes of the largest block.
        max_bytes: usize,
    },

    /// The region's addresses are used up.
    #[error(
        "no addresses left for {bytes} bytes: the region of {reserved_bytes} is carved up; build \
         the pool with a larger `reserve_bytes`"
    )]
    AddressSpace {
        /// Bytes of the block that did not fit.
        bytes: usize,
        /// Bytes of addresses the region reserved.
        reserved_bytes: usize,
    },

    /// A bump arena reached its own limit.
    #[error(
        "the bump arena's limit of {limit_bytes} bytes leaves no room for {asked_bytes} more; \
         make it with a higher limit, or rewind before"
    )]
    BumpLimit {
        /// Bytes asked for.
        asked_bytes: usize,
        /// The arena's limit.
        limit_bytes: usize,
    },

    /// The operating system refused.
    #[error(transparent)]
    Os(#[from] OsError),
}
