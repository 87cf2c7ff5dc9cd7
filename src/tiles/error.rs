//! What can go wrong with a tiled vector, and what to do about it.

/// Why a tiled vector could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TilesError {
    /// A scratch does not have the length of the stripe.
    #[error("the scratch holds {found} elements, the stripe has {expected}; give it that length")]
    ScratchLength {
        /// `row_stripe_len` or `column_stripe_len` of the layout.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A stripe or a range lies outside the vector.
    #[error("{what} {found} is outside the vector, which ends at {end}; stay below that")]
    Outside {
        /// What was asked for: a row stripe, a column stripe, an element.
        what: &'static str,
        /// The index asked for.
        found: usize,
        /// The first index that does not exist.
        end: usize,
    },
    /// The block was taken by an earlier call, or lost when a pass failed.
    #[error(
        "block {block} was taken and not stored again: an earlier step used it up or failed; make \
         the vector anew"
    )]
    Taken {
        /// The block's index.
        block: usize,
    },
    /// Memory could not be had, or a block could not be saved or brought back.
    #[error(transparent)]
    Runtime(#[from] crate::Error),
}
