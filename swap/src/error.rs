//! What can go wrong with cold bytes, and what to do about it.
//!
//! One enum for the crate. Every variant is a value that can be compared and cloned, names the
//! place and the number that is wrong, and ends with what to do. No variant carries bytes of the
//! data: a witness must not be found in a log.
//!
//! ```text
//!   reading   -> Corrupt, Version        the bytes are not what was written: never use them
//!   framing   -> Frame                   the buffer and the header do not go together
//!   codec set-up -> Modulus              the caller's field is outside what can be packed
//! ```
//!
//! Invariant: after an error, an output buffer's contents are unspecified but initialised, and
//! nothing else has changed.

/// A failure to keep cold bytes, or to give them back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Stored bytes do not decode to what they claim to be.
    #[error(
        "stored bytes are damaged: {what}; they cannot be used, so recompute the vector or stop \
         the proof, and test the disk and the memory of this machine"
    )]
    Corrupt {
        /// The field or rule that does not hold.
        what: &'static str,
    },

    /// A frame of another version of the format.
    #[error(
        "the frame is of format version {found}, this build reads {expected}; spill files live as \
         long as one process, so do not pass them on"
    )]
    Version {
        /// The version in the header.
        found: u16,
        /// The version of this build.
        expected: u16,
    },

    /// A frame that cannot be made as asked.
    #[error("the frame cannot be written: {why}; size the buffer with `Header::frame_bytes`")]
    Frame {
        /// The rule that does not hold.
        why: &'static str,
    },

    /// A modulus that field packing does not take.
    #[error(
        "the modulus is refused: {why}; describe these lanes as `LaneSpec::Bytes` or \
         `LaneSpec::U64` instead"
    )]
    Modulus {
        /// The rule it breaks.
        why: &'static str,
    },
}

/// A shorter way to say `Err(Error::Corrupt { .. })`.
#[cold]
pub(crate) fn corrupt<T>(what: &'static str) -> Result<T, Error> {
    Err(Error::Corrupt { what })
}
