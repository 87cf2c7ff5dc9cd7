//! Why ranks could not go on, and what one tells the others.
//!
//! A rank that fails has an error of its own, with paths and numbers of its machine. The others get
//! its words: a [`Refusal`] is a text, what kind of fault it is, and who says it.
//!
//! It must never carry a value of a witness: the words of an error never do.

/// Bytes of a refusal's text that are sent at most: whoever reads it is told the rest by the rank
/// itself.
pub(super) const WHY_BYTES_MAX: usize = 2 << 10;

/// What kind of fault it was, for whoever has to choose an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// Files, arguments or the ranks themselves do not fit together.
    Input = 1,
    /// Memory, or the room to spill to, was short.
    Memory = 2,
    /// The witness is not a solution.
    Witness = 3,
    /// Another rank could not go on, and this one broke off its work to say so.
    CalledOff = 4,
}

impl RefusalKind {
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            2 => Self::Memory,
            3 => Self::Witness,
            4 => Self::CalledOff,
            _ => Self::Input,
        }
    }
}

/// Why a rank cannot go on, in words that others can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank}: {why}")]
pub struct Refusal {
    /// Who says it.
    pub rank: usize,
    /// What kind of fault it is.
    pub kind: RefusalKind,
    /// Its error, in its own words.
    pub why: String,
}

impl Refusal {
    /// Of several refusals the first counts: one with a cause of its own, by the lowest rank.
    pub(super) fn place(&self) -> (bool, usize) {
        (self.kind == RefusalKind::CalledOff, self.rank)
    }
}

/// Why an exchange between ranks failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// A rank could not go on, so none does: of several the lowest.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A rank ended without a word.
    #[error("rank {rank} is gone: look at what it said last, and start the job again")]
    Gone {
        /// The rank.
        rank: usize,
    },
    /// A rank sent something else than was expected.
    #[error(
        "rank {rank} sent {found} bytes where {expected} were expected: start the same version of \
         the program on every rank"
    )]
    Length {
        /// The rank that sent it.
        rank: usize,
        /// Bytes that were expected, at most or exactly.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// There is no such rank.
    #[error("there is no rank {rank} of {ranks}")]
    NoSuchRank {
        /// The rank named.
        rank: usize,
        /// How many there are.
        ranks: usize,
    },
    /// The library that passes the messages did not start.
    #[error("the ranks cannot talk to each other: {why}")]
    Start {
        /// Why.
        why: String,
    },
}
